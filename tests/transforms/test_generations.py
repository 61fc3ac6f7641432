"""Chains of several codecs: what goes through, what is recorded, what stays in place."""

import hashlib
from typing import Any

import numpy as np
import pytest

from schemas.draw import CodecDraw, CropDraw, PadDraw, ResizeDraw, StageDraw, StreamDraw
from schemas.recipe import Recipe
from schemas.sample import Frame
from tests.pictures import moving_clip, texture
from tests.transforms.chains import make
from tests.transforms.coding import coloured_waves, draw_for, mean_shift
from tests.transforms.test_degrade import Made, psnr
from tests.transforms.test_degrade import make as make_sample
from transforms.decode import decode_lr, decode_quantisers
from transforms.motion import dense_flow, read_blocks

STEP = (1, 2)  # rows, columns a frame
DOWN = {"op": "downscale"}


def codec(name: str = "h264", **settings: Any) -> dict[str, Any]:
    """A codec stage of one encoder; what the encoder does not know belongs to the stage."""
    stage_keys = ("frame_rate_ratio", "width_ratio", "size_ratio", "grid_shift", "color", "fps")
    stage = {key: settings.pop(key) for key in stage_keys if key in settings}
    rate = {"crf": 20} if name in ("h264", "hevc", "vp9", "av1") else {"qscale": 4}
    if {"crf", "qscale", "bits_per_pixel"} & set(settings):
        rate = {}
    return {"op": "codec", "encoders": [{"codec": name, **rate, **settings}], **stage}


def sample_of(*stages: dict[str, Any], hr: np.ndarray | None = None, seed: int = 0) -> Made:
    """A sample with one stream: downscale x1, then these stages."""
    recipe = Recipe.model_validate(
        {
            "name": "chain",
            "scale": 1,
            "hr": {"patch_height": 96, "patch_width": 96},
            "streams": [{"name": "one", "stages": [DOWN, *stages]}],
        }
    )
    return make_sample(recipe, moving_clip(8, 96, 96, STEP) if hr is None else hr, seed=seed)


def types(frames: list[Frame]) -> str:
    return "".join(frame.frame_type for frame in frames)


def test_every_generation_is_recorded_and_the_last_one_is_stored() -> None:
    made = sample_of(
        codec("h264", crf=18, gop_frames=4),
        codec("vp9", crf=40),
        codec("mpeg2video", qscale=6, gop_frames=3),
    )
    stream = made.sample.streams[0]
    assert [g.codec for g in stream.earlier] == ["h264", "vp9"]
    first, second = stream.earlier
    assert (first.rate_mode, first.rate_value, first.gop_frames) == ("crf", 18, 4)
    assert len(first.frame_types) == len(second.frame_types) == 8
    assert first.frame_types[0] == "I" and first.frame_types.count("I") >= 2
    assert set(second.frame_types) <= {"I", "P"} and first.qp_mean > 0
    assert (stream.codec, stream.rate_mode, stream.rate_value) == ("mpeg2video", "qscale", 6)
    assert types(stream.frames) == "IPPIPPIP"
    assert first.stream_bytes > 0 and second.encoder == "libvpx-vp9"


def test_each_generation_costs_quality() -> None:
    chains = [[codec(crf=30)] * count for count in (1, 2, 3)]
    qualities = [psnr(made.lr(0), made.hr) for made in (sample_of(*chain) for chain in chains)]
    assert qualities[0] > qualities[1] > qualities[2]


def test_the_reference_decoder_returns_any_window_of_a_long_chain() -> None:
    made = sample_of(
        codec(crf=22, frame_rate_ratio=0.5),
        {"op": "sharpen"},
        {"op": "denoise"},
        codec("hevc", crf=24, size_ratio={"down": 1, "keep": 0, "down_factor": 0.7}),
        {"op": "noise", "kinds": {"gaussian": 1}, "sigma": 5},
        codec(crf=30, grid_shift=5, width_ratio={"down": 1, "keep": 0, "down_factor": 0.8}),
        {"op": "noise", "kinds": {"gaussian": 1}, "sigma": {"min": 1, "max": 9, "fresh": True}},
        {"op": "still", "codec": "webp", "quality": 70},
    )
    stream, member = made.sample.streams[0], made.members["lr0.nut"]
    whole = decode_lr(stream, member)
    assert whole.shape == (8, 96, 96, 3)
    assert hashlib.sha256(whole.tobytes()).hexdigest() == stream.decoded_sha256
    assert np.array_equal(decode_lr(stream, member, 3, 2), whole[3:5])
    assert [step.op for step in stream.post_steps] == ["crop", "resize", "noise", "still"]
    assert len(stream.earlier[0].frame_types) == 4  # half of the frames


def test_a_lower_frame_rate_freezes_frames_and_keeps_the_count() -> None:
    hr = moving_clip(9, 96, 96, (0, 3))
    made = sample_of(codec(crf=1, frame_rate_ratio=0.34), codec(crf=1), hr=hr)
    assert len(made.sample.streams[0].earlier[0].frame_types) == 4
    nearest = [
        int(np.argmin([np.abs(frame.astype(int) - other).mean() for other in hr]))
        for frame in made.lr(0)
    ]
    assert nearest == [0, 0, 0, 2, 2, 2, 4, 6, 6] or (
        sorted(nearest) == nearest and len(set(nearest)) == 4 and nearest[0] == 0
    )
    assert all(shown <= index for index, shown in enumerate(nearest))


def test_dropped_frames_show_the_one_before() -> None:
    hr = np.stack([texture(96, 96, seed) for seed in range(12)])
    made = sample_of({"op": "retime", "freeze_probability": 0.5}, hr=hr)
    (retime,) = (stage for stage in made.draws[0].stages if stage.op == "retime")
    lr = made.lr(0)
    assert 0 < sum(shown != index for index, shown in enumerate(retime.frames)) < 11
    assert all(np.array_equal(lr[t], hr[shown]) for t, shown in enumerate(retime.frames))


@pytest.mark.parametrize(
    ("name", "rate", "most_pixels"),
    [
        ("h264", {"crf": 4}, 0.05),
        ("hevc", {"crf": 4}, 0.05),
        ("vp9", {"crf": 4}, 0.05),
        ("av1", {"crf": 4}, 0.05),
        # Their finest quantisers are coarse enough to blur where a wave lies.
        ("mjpeg", {"qscale": 2}, 0.1),
        ("mpeg4", {"qscale": 2}, 0.25),
        ("h263p", {"qscale": 3}, 0.25),
    ],
)
def test_a_chain_moves_nothing_and_shifts_no_colour(
    name: str, rate: dict[str, Any], most_pixels: float
) -> None:
    hr = np.stack([coloured_waves(96, 96, phase) for phase in range(4)])
    half = {"down": 1, "keep": 0, "down_factor": 0.8}
    made = sample_of(
        codec(name, **rate, grid_shift=7),
        codec(name, **rate, size_ratio=half),
        codec(name, **rate, width_ratio=half, grid_shift=3),
        hr=hr,
    )
    decoded = made.lr(0).astype(float)
    assert np.abs(mean_shift(hr, decoded)).max() < most_pixels
    assert np.abs((decoded - hr).mean(axis=(0, 1, 2))).max() < 1  # quantised three times


def test_a_wrong_matrix_is_wrong_in_the_pixels_and_told_in_the_record() -> None:
    color = {"wrong_matrix_probability": 1}
    right, wrong = sample_of(codec(crf=10)), sample_of(codec(crf=10, color=color))
    draw = wrong.draws[0].stages[-1]
    assert isinstance(draw, CodecDraw) and draw.color.written_matrix != draw.color.read_matrix
    stream = wrong.sample.streams[0]
    assert (stream.read_matrix, stream.color_matrix) == (draw.color.read_matrix,) * 2
    assert psnr(wrong.lr(0), wrong.hr) < psnr(right.lr(0), right.hr) - 1


def test_a_wrong_range_is_wrong_in_the_pixels_and_told_in_the_record() -> None:
    made = sample_of(codec(crf=10, color={"wrong_range_probability": 1}))
    draw = made.draws[0].stages[-1]
    assert isinstance(draw, CodecDraw) and draw.color.written_range != draw.color.read_range
    assert made.sample.streams[0].read_range == draw.color.read_range
    assert 15 < psnr(made.lr(0), made.hr) < 33


def test_vectors_lie_where_the_picture_lies_whatever_the_grid() -> None:
    frames = moving_clip(10, 96, 96, STEP)
    flows = []
    for shift in ((0, 0), (5, 11)):
        made = make(frames, draw_for("h264", rate_value=10, b_frames=0), *shift)
        flow = dense_flow(made.blocks, made.stream, 96, 96, 4, 2)
        inner = np.s_[:, 24:-24, 24:-24]
        known = flow.valid[inner] & 1 == 1
        assert known.mean() > 0.9
        flows.append(np.median(flow.previous[inner][known], axis=0))
    assert flows[0].tolist() == flows[1].tolist() == [-STEP[1], -STEP[0]]


def test_positions_follow_crops_resizes_and_pads_back_to_the_coded_picture() -> None:
    made = make(moving_clip(2, 32, 32), draw_for("h264", height=64, width=48), 8, 4)
    steps = made.stream.post_steps
    assert [step.op for step in steps] == ["crop", "resize"]
    maps = decode_quantisers(made.stream, made.nut)
    assert maps.shape == (2, 32, 32) and maps.min() > 0
    padded: list[StageDraw] = [*steps, PadDraw(top=2, left=1, height=40, width=40)]
    assert isinstance(steps[0], CropDraw) and isinstance(steps[1], ResizeDraw)
    shifted = made.stream.model_copy(update={"post_steps": padded})
    wider = decode_quantisers(shifted, made.nut)
    assert np.array_equal(wider[:, 2:34, 1:33], maps)


def test_streams_share_a_generation_and_part_at_the_last() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "shared",
            "scale": 2,
            "hr": {"patch_height": 96, "patch_width": 96},
            "shared": [codec(crf=28), DOWN],
            "streams": [
                {"name": "once"},
                {"name": "twice", "stages": [codec(crf=35)]},
            ],
        }
    )
    made = make_sample(recipe, moving_clip(5, 96, 96))
    once, twice = made.sample.streams
    assert once.earlier == twice.earlier and [g.codec for g in once.earlier] == ["h264"]
    assert (once.lr_kind, twice.lr_kind) == ("lossless", "codec")
    assert psnr(made.lr(1), made.lr(0)) < 45


def test_a_codec_before_the_downscale_is_stored_at_its_own_size() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "early",
            "scale": 2,
            "hr": {"patch_height": 96, "patch_width": 96},
            "streams": [{"name": "one", "stages": [codec(crf=28), DOWN]}],
        }
    )
    made = make_sample(recipe, moving_clip(5, 96, 96))
    stream = made.sample.streams[0]
    assert (stream.coded_height, stream.coded_width) == (96, 96)
    assert [step.op for step in stream.post_steps] == ["resize"]
    assert made.lr(0).shape == (5, 48, 48, 3)


def test_lost_slices_are_concealed_the_same_way_every_time() -> None:
    settings: dict[str, Any] = {"slices": 4, "loss": 0.2, "gop_frames": 30}
    first, second = (sample_of(codec(crf=20, **settings)) for _ in range(2))
    whole = sample_of(codec(crf=20, slices=4, gop_frames=30))
    assert first.members == second.members and np.array_equal(first.lr(0), second.lr(0))
    window = decode_lr(first.sample.streams[0], first.members["lr0.nut"], 5, 2)
    assert np.array_equal(window, first.lr(0)[5:7])
    assert first.sample.streams[0].lost_slices > 0
    assert psnr(first.lr(0), first.hr) < psnr(whole.lr(0), whole.hr) - 1
    assert len(first.sample.streams[0].frames) == 8


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("h264", {"crf": 20, "slices": 4, "b_frames": 3}),
        ("h264", {"crf": 20, "slices": 4, "b_frames": 3, "pixel_formats": {"yuv444p": 1}}),
        ("h264", {"crf": 20, "slices": 4, "b_frames": 3, "pixel_formats": {"yuv422p": 1}}),
        ("mpeg2video", {"qscale": 4, "b_frames": 2}),
    ],
)
def test_any_window_of_a_damaged_stream_is_what_was_hashed(
    name: str, settings: dict[str, Any]
) -> None:
    made = sample_of(codec(name, **settings, loss=0.3, gop_frames=5))
    stream, member = made.sample.streams[0], made.members["lr0.nut"]
    whole = made.lr(0)
    assert hashlib.sha256(whole.tobytes()).hexdigest() == stream.decoded_sha256
    for start in range(8):
        assert np.array_equal(decode_lr(stream, member, start, 1)[0], whole[start])


def test_what_was_lost_is_not_known() -> None:
    made = sample_of(codec(crf=20, slices=4, loss=0.3, gop_frames=30, b_frames=0))
    stream = made.sample.streams[0]
    damaged = [frame.display_index for frame in stream.frames if frame.damaged]
    assert damaged and len(damaged) < 8
    maps = decode_quantisers(stream, made.members["lr0.nut"])
    blocks = read_blocks(made.members["mv0.npy"])
    for frame in stream.frames:
        told = (frame.qp_mean, frame.qp_min, frame.qp_max)
        assert (told == (-1, -1, -1)) == frame.damaged
        assert (maps[frame.display_index] == -1).all() == frame.damaged
        if frame.damaged:
            assert frame.display_index not in blocks["frame"]


def test_the_clean_profile_refers_to_the_nearest_anchor_only() -> None:
    # A clip that stands still under noise, where matching blocks would find any frame as good.
    rng = np.random.default_rng(0)
    hr = np.clip(texture(96, 96) + rng.normal(0, 12, (12, 96, 96, 3)), 0, 255).astype(np.uint8)
    clean: dict[str, Any] = {
        "refs": 1,
        "b_pyramid": False,
        "weighted_prediction": False,
        "b_frames": 2,
    }
    made = sample_of(codec(crf=25, **clean), hr=hr)
    letters = types(made.sample.streams[0].frames)
    anchors = [t for t, letter in enumerate(letters) if letter != "B"]
    blocks = read_blocks(made.members["mv0.npy"])
    assert len(blocks) > 100 and "B" in letters
    for block in blocks:
        frame, distance = int(block["frame"]), int(block["ref_distance"])
        past = [t for t in anchors if t < frame]
        future = [t for t in anchors if t > frame]
        assert frame + distance == (past[-1] if distance < 0 else future[0])


def test_ten_bit_streams_have_the_vectors_of_eight_bits() -> None:
    flows = []
    for pixel_format in ("yuv420p", "yuv420p10le"):
        draw = draw_for("h264", rate_value=18, b_frames=3, pixel_format=pixel_format)
        made = make(moving_clip(10, 96, 96, STEP), draw)
        flow = dense_flow(made.blocks, made.stream, 96, 96, 2, 6)
        known = flow.valid & 1 == 1
        expected = np.array([-STEP[1], -STEP[0]])
        flows.append(np.abs(flow.previous[known] - expected).mean())
    assert flows[1] < flows[0] + 0.1


def test_a_step_that_mixes_frames_cannot_follow_the_stored_codec() -> None:
    from transforms.streams import make_stream

    after = sample_of({"op": "denoise"}).draws[0].stages[-1]
    stages = [draw_for("h264"), after]
    with pytest.raises(ValueError, match="denoise comes after the last codec"):
        make_stream(moving_clip(2, 96, 96), StreamDraw(stages=stages), 0, "x")
