from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats

from schemas.codec_stage import CodecStage
from schemas.draw import CodecDraw, ColorDraw, CropDraw, PadDraw, ResizeDraw, RetimeDraw, StageDraw
from schemas.encoders import ENCODERS
from transforms.codec import coded_size, refuse_untaken
from transforms.draw_codec import draw_codec
from transforms.seeding import generator

LEAST_P = 1e-3  # seeds are fixed: a test passes always or never
SIZE = (90, 120)


def drawn(encoder: dict[str, Any], seed: int = 0, frames: int = 8, **stage: Any) -> list[StageDraw]:
    intra, independent = stage.pop("intra", False), stage.pop("independent", False)
    size = stage.pop("size", SIZE)
    fields = {"op": "codec", "encoders": [encoder]} | stage
    settings = CodecStage.model_validate(fields)
    rng = generator("codec", seed)
    return draw_codec(settings, size, frames, rng, intra=intra, independent=independent)


def codec_of(stages: list[StageDraw]) -> CodecDraw:
    (codec,) = (stage for stage in stages if isinstance(stage, CodecDraw))
    return codec


def codecs(encoder: dict[str, Any], count: int = 60, **stage: Any) -> list[CodecDraw]:
    return [codec_of(drawn(encoder, seed, **stage)) for seed in range(count)]


H264 = {"codec": "h264", "crf": 20}


def test_encoders_are_drawn_by_weight() -> None:
    weights = {"mpeg2video": 1.0, "mpeg4": 0.0, "h263p": 3.0}
    encoders = [{"codec": c, "qscale": 3, "weight": w} for c, w in weights.items()]
    found = Counter(draw.codec for draw in codecs(H264, 800, encoders=encoders))
    assert set(found) == {"mpeg2video", "h263p"}
    counts = [found["mpeg2video"], found["h263p"]]
    assert scipy.stats.chisquare(counts, [200, 600]).pvalue > LEAST_P


@pytest.mark.parametrize("codec", [name for name, t in ENCODERS.items() if "crf" in t.rate_modes])
def test_rate_factors_are_drawn_in_what_the_encoder_tells_apart(codec: str) -> None:
    draws = codecs({"codec": codec, "crf": {"min": 15, "max": 35}}, 200)
    assert {draw.rate_mode for draw in draws} == {"crf"}
    values = {draw.rate_value for draw in draws}
    assert all(value == round(value, 1) and 15 <= value <= 35 for value in values)
    assert (len(values) > 21) == (codec in ("h264", "hevc"))


def test_quantisers_are_whole_numbers() -> None:
    values = {d.rate_value for d in codecs({"codec": "mpeg4", "qscale": {"min": 2, "max": 9}})}
    assert values == set(range(2, 10))


def test_a_bitrate_follows_the_size_of_the_picture_and_the_rate_of_coded_frames() -> None:
    ratios = {"up": 1, "keep": 0, "up_factor": {"min": 1, "max": 1.4}}
    for seed in range(20):
        stages = drawn(
            {"codec": "mpeg4", "bits_per_pixel": 0.5},
            seed,
            fps={"min": 10, "max": 60},
            width_ratio=ratios,
            frame_rate_ratio=[1, 0.5],
        )
        codec = codec_of(stages)
        assert codec.rate_value == round(0.5 * codec.height * codec.width * codec.fps, -3)
    low = codecs({"codec": "mpeg4", "bits_per_pixel": 1e-3}, 5, size=(16, 16))
    assert {draw.rate_value for draw in low} == {1000}
    blind = {"codec": "mpeg4", "bits_per_second": 4e6}
    for size in ((16, 16), (480, 640)):
        assert codecs(blind, 1, size=size)[0].rate_value == 4e6


def test_padding_costs_no_bits() -> None:
    (draw,) = codecs({"codec": "hevc", "bits_per_pixel": 1}, 1, size=(20, 20), fps=25)
    assert (draw.height, draw.width) == coded_size("hevc", "yuv420p", 20, 20) != (20, 20)
    assert draw.rate_value == 20 * 20 * 25


def test_a_cap_holds_an_average_and_its_buffer_a_frame() -> None:
    encoder = {
        "codec": "h264",
        "bits_per_pixel": {"min": 0.05, "max": 0.5},
        "max_bits_per_pixel": {"min": 0.05, "max": 0.5},
        "buffer_seconds": {"min": 0.1, "max": 2},
    }
    draws = codecs(encoder, 200, fps=[1, 25])
    for draw in draws:
        assert draw.max_bitrate >= draw.rate_value
        assert draw.buffer_bits * draw.fps >= draw.max_bitrate
        assert draw.max_bitrate % 1000 == draw.buffer_bits % 1000 == 0
    assert any(draw.max_bitrate > draw.rate_value for draw in draws)
    assert {(d.max_bitrate, d.buffer_bits) for d in codecs(H264, 3)} == {(0, 0)}


def test_frame_rates_are_whole_and_those_that_the_codec_knows() -> None:
    rates = {"min": 10, "max": 60}
    assert len({draw.fps for draw in codecs(H264, 200, fps=rates)}) == 51
    for codec in ("mpeg1video", "mpeg2video"):
        draws = codecs({"codec": codec, "qscale": 3}, 200, fps=rates)
        assert {draw.fps for draw in draws} == {24, 25, 30, 50, 60}
        slow = codecs({"codec": codec, "qscale": 3}, 5, fps=25, frame_rate_ratio=0.5)
        assert {draw.fps for draw in slow} == {24}


@pytest.mark.parametrize("codec", ENCODERS)
def test_defaults_are_those_of_the_encoder(codec: str) -> None:
    rate = "crf" if codec in ("h264", "hevc", "vp9", "av1") else "qscale"
    (draw,) = codecs({"codec": codec, rate: 20}, 1)
    traits = ENCODERS[draw.codec]
    assert (draw.preset, draw.tune, draw.profile) == (traits.default_preset, "", "")
    assert draw.b_frames == {"h264": 3, "hevc": 4}.get(codec, 0)
    assert draw.gop_frames == min(250, traits.max_gop_frames)
    assert (draw.refs, draw.slices, draw.lost, draw.fps) == (0, 1, [], 25)
    assert draw.color == traits.default_color and draw.pixel_format == traits.pixel_formats[0]
    refuse_untaken(draw)


def test_b_frames_are_fewer_than_a_gop_has_frames() -> None:
    encoder = H264 | {"gop_frames": [1, 2, 5, 250], "b_frames": {"min": 0, "max": 16}}
    draws = codecs(encoder, 200)
    assert all(draw.b_frames < draw.gop_frames for draw in draws)
    assert max(draw.b_frames for draw in draws) == 16


def test_intra_coding_has_key_frames_only() -> None:
    (draw,) = codecs(H264, 1, intra=True)
    assert (draw.gop_frames, draw.b_frames) == (1, 0)


def test_presets_tunes_profiles_and_formats_are_drawn_by_weight() -> None:
    encoder = H264 | {
        "presets": {"fast": 1, "slow": 3},
        "tunes": {"": 1, "film": 3},
        "profiles": {"high422": 1, "high444": 3},
        "pixel_formats": {"yuv422p": 1, "yuv420p10le": 3},
    }
    draws = codecs(encoder, 600)
    for name in ("preset", "tune", "profile", "pixel_format"):
        found = sorted(Counter(getattr(draw, name) for draw in draws).values())
        assert scipy.stats.chisquare(found, [150, 450]).pvalue > LEAST_P
    for draw in draws:
        refuse_untaken(draw)


def test_the_picture_is_brought_to_the_coded_size_and_back() -> None:
    stages = drawn(
        {"codec": "h264", "crf": 20},
        size=(45, 61),
        grid_shift=3,
        width_ratio={"down": 1, "keep": 0, "down_factor": 0.75},
        size_ratio={"down": 1, "keep": 0, "down_factor": 0.5},
        resize_kernels=["area"],
    )
    assert [stage.op for stage in stages] == ["resize", "pad", "codec", "crop", "resize"]
    there, pad, codec, crop, back = stages
    assert there == ResizeDraw(height=[22], width=[22], kernel="area")
    assert pad == PadDraw(top=3, left=3, height=26, width=26)
    assert isinstance(codec, CodecDraw) and (codec.height, codec.width) == (26, 26)
    assert crop == CropDraw(top=3, left=3, height=22, width=22)
    assert back == ResizeDraw(height=[45], width=[61], kernel="area")


def test_nothing_stands_around_a_codec_that_needs_nothing() -> None:
    assert [stage.op for stage in drawn(H264)] == ["codec"]
    assert [stage.op for stage in drawn(H264, size=(45, 61))] == ["pad", "codec", "crop"]
    full = H264 | {"pixel_formats": {"yuv444p": 1}}
    assert [stage.op for stage in drawn(full, size=(45, 61))] == ["codec"]


def test_rows_and_columns_are_shifted_each_by_its_own() -> None:
    shifts = {"min": 0, "max": 15, "step": 1}
    pads = [
        stage
        for seed in range(600)
        for stage in drawn(H264, seed, grid_shift=shifts)
        if isinstance(stage, PadDraw)
    ]
    assert any(pad.top != pad.left for pad in pads)
    for name in ("top", "left"):
        counts = Counter(getattr(pad, name) for pad in pads if getattr(pad, name))
        assert len(counts) == 15
        assert scipy.stats.chisquare(list(counts.values())).pvalue > LEAST_P


@pytest.mark.parametrize(("ratio", "coded"), [(1, 8), (0.9, 8), (0.5, 4), (0.3, 3), (0.1, 1)])
def test_frames_that_are_left_out_are_shown_again(ratio: float, coded: int) -> None:
    stages = drawn(H264, fps=24, frame_rate_ratio=ratio)
    retimes = [stage for stage in stages if isinstance(stage, RetimeDraw)]
    if coded == 8:
        assert not retimes
        return
    there, back = retimes
    assert len(there.frames) == coded and len(back.frames) == 8
    shown = [there.frames[index] for index in back.frames]
    # Each frame shows the last coded one that is not later.
    assert shown == [max(f for f in there.frames if f <= frame) for frame in range(8)]
    assert codec_of(stages).fps == 24 * coded // 8


def test_lost_slices_are_in_the_stream_and_leave_something_of_every_frame() -> None:
    for encoder, rows in (
        (H264 | {"slices": 4, "loss": 0.3}, 4),
        (H264 | {"slices": 16, "loss": 0.3}, -(-90 // 16)),
        ({"codec": "mpeg2video", "qscale": 3, "loss": 0.3}, -(-90 // 16)),
    ):
        draws = codecs(encoder, 200)
        lost = [[(slice_.packet, slice_.slice) for slice_ in draw.lost] for draw in draws]
        assert all(0 < p < 8 and 0 <= s < rows for places in lost for p, s in places)
        assert all(len(set(places)) == len(places) for places in lost)
        for places in lost:
            assert max(Counter(p for p, _ in places).values(), default=0) < rows
        share = np.mean([len(places) for places in lost]) / (7 * rows)
        assert share == pytest.approx(0.3, abs=0.03)


def test_colours_are_right_unless_they_are_asked_to_be_wrong() -> None:
    right = ENCODERS["h264"].default_color
    fast = {"color": {"scaler": "fast"}}
    assert codecs(H264, 1, **fast)[0].color == right.model_copy(update={"scaler": "fast"})
    wrong = {
        "wrong_matrix_probability": 0.3,
        "wrong_range_probability": 0.2,
        "wrong_location_probability": 0.1,
    }
    draws = [draw.color for draw in codecs(H264, 1500, color=wrong)]
    for name, share in (("matrix", 0.3), ("range", 0.2), ("location", 0.1)):
        assert mismatch(draws, name) == pytest.approx(share, abs=0.04)
        # Half of the time the writer is the one who is wrong.
        writers = [
            getattr(d, f"written_{name}") != getattr(right, f"written_{name}") for d in draws
        ]
        assert np.mean(writers) == pytest.approx(share / 2, abs=0.03)
    locations = Counter(d.read_location for d in draws) + Counter(d.written_location for d in draws)
    assert set(locations) == {"left", "center", "topleft"}


def mismatch(colors: list[ColorDraw], name: str) -> float:
    pairs = [(getattr(c, f"written_{name}"), getattr(c, f"read_{name}")) for c in colors]
    return float(np.mean([written != read for written, read in pairs]))
