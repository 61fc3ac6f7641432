"""Settings that reach the encoder, and those that do not."""

import numpy as np
import pytest

from schemas.draw import CodecDraw
from schemas.encoders import ENCODERS
from tests.pictures import moving_clip
from tests.transforms.coding import CODECS, code, draw_for
from transforms import codec
from transforms.bitstream import frame_records
from transforms.codec import CodecError, decode_with_side_data, refuse_untaken
from transforms.settings import StreamSettings, encoder_build, encoder_message, stream_settings


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """A dark scene, then a bright one that cannot be predicted from it."""
    dark, bright = moving_clip(9, 96, 96, seed=1) // 8, 255 - moving_clip(9, 96, 96, seed=2) // 4
    return np.concatenate([dark, bright])


def settings_of(clip: np.ndarray, draw: CodecDraw) -> StreamSettings:
    return stream_settings(draw, decode_with_side_data(code(clip, draw), draw.codec))


def key_frames(clip: np.ndarray, draw: CodecDraw) -> list[int]:
    frames = decode_with_side_data(code(clip, draw), draw.codec)
    return [index for index, frame in enumerate(frames) if frame.key_frame]


def size(clip: np.ndarray, draw: CodecDraw) -> int:
    return sum(len(packet.data) for packet in code(clip, draw))


@pytest.mark.parametrize("name", CODECS)
def test_every_rate_control_is_taken_from_end_to_end(name: str, clip: np.ndarray) -> None:
    traits = ENCODERS[name]  # type: ignore[index]
    noise = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3), np.uint8)
    for mode, values in (("crf", traits.crf), ("qscale", traits.qscale), ("bitrate", (2e5, 2e6))):
        if mode in traits.rate_modes:
            fine, coarse = (
                draw_for(name, rate_mode=mode, rate_value=value) for value in sorted(values)
            )
            for draw in (fine, coarse):
                found = settings_of(clip, draw)
                assert (found.rate_mode, found.rate_value) == (mode, draw.rate_value)
            small, large = sorted([size(noise, fine), size(noise, coarse)])
            assert large > 1.2 * small
            assert (size(noise, fine) == large) == (mode != "bitrate")


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_rate_factors_have_tenths(name: str, clip: np.ndarray) -> None:
    assert settings_of(clip[:3], draw_for(name, rate_value=25.3)).rate_value == 25.3


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("gop_frames", "b_frames"), [(1, 0), (4, 0), (5, 2), (8, 3)])
def test_key_frames_are_no_further_apart_than_was_asked(
    name: str, gop_frames: int, b_frames: int, clip: np.ndarray
) -> None:
    traits = ENCODERS[name]  # type: ignore[index]
    gop_frames = min(gop_frames, traits.max_gop_frames)
    draw = draw_for(name, gop_frames=gop_frames, b_frames=b_frames)
    found = settings_of(clip, draw)
    assert (found.gop_frames, found.b_frames) == (gop_frames, draw.b_frames)
    packets = code(clip, draw)
    keys = [index for index, packet in enumerate(packets) if packet.key_frame]  # as coded
    assert max(np.diff([*keys, len(packets)])) <= gop_frames + (1 if draw.b_frames else 0)


@pytest.mark.parametrize("name", [name for name in CODECS if "scene_cut" in ENCODERS[name].takes])
def test_key_frames_at_scene_cuts_can_be_forbidden(name: str, clip: np.ndarray) -> None:
    draw = draw_for(name, gop_frames=40, b_frames=2 if name == "hevc" else 0)
    assert key_frames(clip, draw.model_copy(update={"scene_cut": False})) == [0]
    finds_cuts = name not in ("vp9", "av1")  # these look for none in one pass
    assert (9 in key_frames(clip, draw)) == finds_cuts


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_optional_settings_are_told_by_the_encoder(name: str, clip: np.ndarray) -> None:
    changes = {
        "refs": 2,
        "b_pyramid": False,
        "weighted_prediction": False,
        "scene_cut": False,
        "max_bitrate": 80_000,
        "buffer_bits": 60_000,
        "b_frames": 4,
        "gop_frames": 9,
    }
    draw = draw_for(name, **changes, **({"slices": 3} if name == "h264" else {}))
    settings_of(clip, draw)  # raises if the message says otherwise
    for setting, other in (("refs", 1), ("b_pyramid", True), ("weighted_prediction", True)):
        changed = draw.model_copy(update={setting: other})
        assert code(clip, changed) != code(clip, draw) or setting == "weighted_prediction"


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_constant_bitrate_is_told_as_such(name: str, clip: np.ndarray) -> None:
    draw = draw_for(name, rate_mode="bitrate", rate_value=90_000)
    capped = draw.model_copy(update={"max_bitrate": 90_000, "buffer_bits": 45_000})
    assert settings_of(clip, capped).rate_value == 90_000


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_cap_keeps_a_rate_factor_down(name: str, clip: np.ndarray) -> None:
    draw = draw_for(name, rate_value=5)
    capped = draw.model_copy(update={"max_bitrate": 60_000, "buffer_bits": 30_000})
    assert size(clip, capped) < 0.7 * size(clip, draw)


@pytest.mark.parametrize("name", ["mpeg4", "mpeg2video", "mpeg1video"])
def test_a_cap_keeps_the_first_frame_inside_its_buffer(name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), np.uint8)
    draw = draw_for(name, rate_mode="bitrate", rate_value=400_000)
    capped = draw.model_copy(update={"max_bitrate": 400_000, "buffer_bits": 60_000})
    first, capped_first = (max(len(p.data) for p in code(noise, d)) for d in (draw, capped))
    assert capped_first * 8 <= 60_000 < first * 8


@pytest.mark.parametrize("name", [name for name in CODECS if ENCODERS[name].tunes])
def test_every_tune_makes_another_stream(name: str, clip: np.ndarray) -> None:
    # Some of x265's only change how fast others decode, or what is measured.
    draw = draw_for(name, rate_value=20, b_frames=0)
    plain = code(clip, draw)
    for tune in ENCODERS[name].tunes:  # type: ignore[index]
        tuned = draw.model_copy(update={"tune": tune})
        settings_of(clip, tuned)
        assert code(clip, tuned) != plain or (name, tune) == ("hevc", "ssim")


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_every_profile_takes_its_pixel_formats(name: str, clip: np.ndarray) -> None:
    for profile, formats in ENCODERS[name].profiles.items():  # type: ignore[index]
        for pixel_format in formats:
            draw = draw_for(name, profile=profile, pixel_format=pixel_format, b_frames=0)
            settings_of(clip[:2], draw)


def test_a_profile_without_b_frames_is_found_out(clip: np.ndarray) -> None:
    with pytest.raises(CodecError, match=r"setting_not_taken.*bframes 2, took 0"):
        settings_of(clip[:4], draw_for("h264", profile="baseline", b_frames=2))


def test_more_slices_than_rows_of_blocks_are_found_out(clip: np.ndarray) -> None:
    with pytest.raises(CodecError, match=r"setting_not_taken.*slices 7, took 6"):
        settings_of(clip[:2], draw_for("h264", slices=7))


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("mpeg4", {"rate_mode": "crf", "rate_value": 20}, "crf 20"),
        ("mpeg4", {"rate_value": 32}, "qscale 32"),
        ("h263p", {"rate_value": 2}, "qscale 2"),
        ("mpeg2video", {"rate_value": 2.5}, "qscale 2.5"),
        ("vp8", {"rate_mode": "crf", "rate_value": 20}, "crf 20"),
        ("vp9", {"rate_value": 20.5}, "crf 20.5"),
        ("av1", {"rate_value": 20.5}, "crf 20.5"),
        ("h264", {"rate_mode": "bitrate", "rate_value": 100_500}, "bitrate 100500"),
        ("mpeg4", {"preset": "fast"}, "preset 'fast'"),
        ("vp9", {"preset": "9"}, "preset '9'"),
        ("av1", {"tune": "film"}, "tune 'film'"),
        ("hevc", {"tune": "zerolatency"}, "B frames tuned for zerolatency"),
        ("h264", {"profile": "main", "pixel_format": "yuv422p"}, "profile 'main' of yuv422p"),
        ("h263p", {"b_frames": 1}, "1 B frames"),
        ("mjpeg", {"gop_frames": 2}, "2 frames a GOP"),
        ("vp9", {"pixel_format": "yuv420p10le"}, "yuv420p10le"),
        ("mpeg2video", {"fps": 23}, "23 frames a second"),
        ("h264", {"max_bitrate": 100_000}, "vbv"),
        ("mpeg4", {"max_bitrate": 100_000, "buffer_bits": 100_000}, "vbv"),
        ("vp9", {"refs": 2}, "refs"),
        ("mpeg4", {"b_pyramid": False}, "b_pyramid"),
        ("av1", {"weighted_prediction": False}, "weighted_prediction"),
        ("hevc", {"slices": 2}, "slices"),
        ("mjpeg", {"scene_cut": False}, "scene_cut"),
        ("vp9", {"lost": [{"packet": 1, "slice": 0}]}, "lost"),
    ],
)
def test_what_an_encoder_does_not_take_is_refused(
    name: str, changes: dict[str, object], named: str
) -> None:
    draw = CodecDraw.model_validate(draw_for(name).model_dump() | changes)
    with pytest.raises(CodecError, match="setting_not_taken") as caught:
        refuse_untaken(draw)
    assert named in caught.value.detail


@pytest.mark.parametrize("name", CODECS)
def test_the_usual_draw_is_not_refused(name: str) -> None:
    refuse_untaken(draw_for(name))


@pytest.mark.parametrize("name", ["mpeg4", "mpeg1video", "h263p", "vp8", "vp9", "mjpeg"])
def test_a_quantiser_that_wanders_is_found_out(
    name: str, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = draw_for(name, rate_mode="qscale", rate_value=9)
    options = codec.encoder_options

    def loose(*arguments: object, **named: object) -> dict[str, str]:
        return {**options(*arguments, **named), "qmin": "3", "qmax": "30"}  # type: ignore[arg-type]

    monkeypatch.setattr(codec, "encoder_options", loose)
    with pytest.raises(CodecError, match="setting_not_taken"):
        settings_of(clip, draw)


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_has_a_quantiser(name: str, clip: np.ndarray) -> None:
    draw = draw_for(name, rate_mode="crf" if name == "av1" else "qscale", rate_value=11)
    packets = code(clip, draw)
    frames = decode_with_side_data(packets, draw.codec)
    records = frame_records(packets, [0] * len(packets), frames)
    found = [record.qp_mean for record in records]
    assert min(found) >= 0
    index = {"vp8": 13, "vp9": 44}.get(name, 11)  # steps of the bitstream, not of libvpx
    assert max(found) <= index + 2  # x264's and x265's B frames are coarser
    if name not in ("h264", "hevc", "av1"):  # where it differs between types of frames
        assert set(found) == {index}


def test_quantisers_of_ten_bits_are_on_the_scale_of_eight(clip: np.ndarray) -> None:
    draw = draw_for("h264", rate_mode="qscale", rate_value=24, b_frames=0)
    for pixel_format in ("yuv420p", "yuv420p10le"):
        packets = code(clip[:3], draw.model_copy(update={"pixel_format": pixel_format}))
        frames = decode_with_side_data(packets, "h264")
        records = frame_records(packets, [0] * 3, frames)
        assert [record.qp_mean for record in records] == [21, 24, 24]


@pytest.mark.parametrize("name", CODECS)
def test_every_encoder_has_a_build(name: str) -> None:
    build = encoder_build(name)  # type: ignore[arg-type]
    assert any(digit in build for digit in "0123456789")


def test_switches_and_values_of_a_message_are_told_apart(clip: np.ndarray) -> None:
    (frame,) = decode_with_side_data(code(clip[:1], draw_for("h264")), "h264")
    told = encoder_message(frame)
    assert told is not None
    assert told[0].startswith("x264 - core")
    assert (told[1]["crf"], told[1]["bframes"], told[1]["slices"]) == ("12.0", "2", "1")
