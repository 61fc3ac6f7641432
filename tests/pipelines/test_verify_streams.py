"""Streams against their records: good ones of every kind pass, and each wrong label is found."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from pipelines.verify.draws import earlier_problems
from pipelines.verify.headers import stream_problems
from pipelines.verify.members import container_problems, motion_problems
from schemas.draw import CodecDraw, LostSlice, StreamDraw
from schemas.encoders import ENCODERS
from schemas.manifest import Environment
from schemas.sample import FrameType, Stream
from tests.pictures import moving_clip
from tests.transforms.chains import make
from tests.transforms.coding import CODECS, draw_for
from transforms.motion import write_blocks
from transforms.streams import MadeStream, split_at_last_codec, transcode


def made_by(name: str, num_frames: int = 14, **changes: object) -> MadeStream:
    changes = {"color": ENCODERS[name].default_color, **changes}  # type: ignore[index]
    return make(moving_clip(num_frames, 70, 98, (1, 2)), draw_for(name, **changes))


def stored_draw(stream: Stream) -> CodecDraw | None:
    return split_at_last_codec(StreamDraw.model_validate_json(stream.draw).stages)[1]


def checks(made: MadeStream, stream: Stream | None = None) -> set[str]:
    """What is found wrong with a stream, or with another record of it."""
    record = stream or made.stream
    problems = list(stream_problems(record, stored_draw(made.stream), made.nut))
    problems = problems or list(container_problems(record, made.nut))
    problems += motion_problems(record, write_blocks(made.blocks))
    assert all(problem.detail for problem in problems)
    return {problem.check for problem in problems}


KINDS: Mapping[str, Mapping[str, Any]] = {
    "one frame": {"num_frames": 1},
    "each frame alone": {"gop_frames": 1, "b_frames": 0},
    "bitrate": {"rate_mode": "bitrate", "rate_value": 60_000},
    "coarse": {"num_frames": 20},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CODECS)
def test_good_streams_pass(name: str, kind: str) -> None:
    changes = dict(KINDS[kind])
    if kind == "coarse":
        has_crf = "crf" in ENCODERS[name].rate_modes  # type: ignore[index]
        changes["rate_value"] = 40 if has_crf else 25
    if name == "mjpeg":
        changes["gop_frames"] = 1
    assert checks(made_by(name, **changes)) == set()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("h264", {"pixel_format": "yuv444p10le", "rate_mode": "qscale", "rate_value": 30}),
        ("h264", {"b_pyramid": False, "refs": 1, "weighted_prediction": False, "slices": 2}),
        ("h264", {"max_bitrate": 100_000, "buffer_bits": 100_000, "preset": "fast"}),
        ("h264", {"b_frames": 8, "preset": "superfast", "num_frames": 24}),
        ("hevc", {"pixel_format": "yuv422p10le", "rate_mode": "qscale", "rate_value": 30}),
        ("hevc", {"rate_mode": "bitrate", "rate_value": 900_000, "max_bitrate": 900_000}),
        ("mpeg2video", {"pixel_format": "yuv422p", "gop_frames": 5, "scene_cut": False}),
        ("vp9", {"pixel_format": "yuv444p", "rate_mode": "qscale", "rate_value": 62}),
        ("av1", {"pixel_format": "yuv420p10le", "preset": "13"}),
        ("mjpeg", {"pixel_format": "yuv444p", "gop_frames": 1, "b_frames": 0}),
    ],
)
def test_good_streams_of_rarer_settings_pass(name: str, changes: dict[str, Any]) -> None:
    if "max_bitrate" in changes:
        changes = {"buffer_bits": 2 * changes["max_bitrate"], **changes}
    assert checks(made_by(name, **changes)) == set()


def test_a_still_clip_and_a_losslessly_stored_one_pass() -> None:
    still = np.repeat(moving_clip(1, 64, 96), 12, axis=0)
    for name in ("h264", "vp9", "av1", "mpeg4"):
        assert checks(make(still, draw_for(name))) == set()
    assert checks(make(moving_clip(3, 34, 50), None)) == set()


@pytest.mark.parametrize(("name", "slices"), [("h264", 3), ("mpeg2video", 1)])
def test_a_stream_that_lost_slices_passes_and_must_have_lost_those(name: str, slices: int) -> None:
    lost = [
        LostSlice(packet=2, slice=1),
        LostSlice(packet=4, slice=0),
        LostSlice(packet=4, slice=2),
    ]
    made = made_by(name, slices=slices, lost=lost)
    assert sum(frame.damaged for frame in made.stream.frames) == 2
    assert checks(made) == set()
    other = stored_draw(made.stream)
    assert other is not None
    other = other.model_copy(update={"lost": lost[:2]})
    found = {problem.check for problem in stream_problems(made.stream, other, made.nut)}
    assert "slices" in found


def with_frame(stream: Stream, index: int, **changes: object) -> Stream:
    frames = list(stream.frames)
    frames[index] = frames[index].model_copy(update=changes)
    return stream.model_copy(update={"frames": frames})


WRONG: dict[str, tuple[Callable[[Stream], Stream], str]] = {
    "frame type": (lambda s: with_frame(s, 2, frame_type=other_type(s, 2)), "frame_type"),
    "key frame": (lambda s: with_frame(s, 3, key_frame=not s.frames[3].key_frame), "key_frame"),
    "packet place": (
        lambda s: with_frame(s, 1, packet_position=s.frames[1].packet_position + 1),
        "packet",
    ),
    "packet size": (
        lambda s: with_frame(s, 1, packet_bytes=s.frames[1].packet_bytes - 1),
        "packet",
    ),
    "time": (lambda s: with_frame(s, 1, dts=s.frames[1].dts + 1), "dts"),
    "bytes": (lambda s: s.model_copy(update={"stream_bytes": s.stream_bytes + 1}), "stream_bytes"),
    "size": (lambda s: s.model_copy(update={"coded_width": s.coded_width + 2}), "width"),
    "frames": (lambda s: s.model_copy(update={"frames": s.frames[:-1]}), "frame_count"),
    "damage": (lambda s: with_frame(s, 2, damaged=True), "damaged"),
}


def other_type(stream: Stream, index: int) -> FrameType:
    is_p = stream.frames[index].frame_type is FrameType.P
    return FrameType.B if is_p else FrameType.P


@pytest.mark.parametrize("name", CODECS)
def test_every_wrong_label_is_found(name: str) -> None:
    made = made_by(name, gop_frames=12 if name != "mjpeg" else 1)
    for what, (change, check) in WRONG.items():
        if what == "key frame" and name == "mjpeg":
            continue
        assert check in checks(made, change(made.stream)), what


@pytest.mark.parametrize("name", CODECS)
def test_a_wrong_quantiser_is_found(name: str) -> None:
    mode = "qscale" if "qscale" in ENCODERS[name].rate_modes else "crf"  # type: ignore[index]
    made = made_by(name, rate_mode=mode, rate_value=20, gop_frames=1 if name == "mjpeg" else 12)
    wrong = {
        field: getattr(made.stream.frames[2], field) + 1
        for field in ("qp_mean", "qp_min", "qp_max")
        if getattr(made.stream.frames[2], field) >= 0
    }
    assert "quantiser" in checks(made, with_frame(made.stream, 2, **wrong))


@pytest.mark.parametrize("field", ["qp_mean", "qp_min", "qp_max"])
def test_a_quantiser_of_adaptive_blocks_is_found_wrong_by_the_decoder(field: str) -> None:
    made = made_by("h264", rate_value=28)
    frame = made.stream.frames[1]
    assert frame.qp_min < frame.qp_max
    wrong = with_frame(made.stream, 1, **{field: getattr(frame, field) + 0.25})
    assert field in checks(made, wrong)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"rate_value": 30.0}, "rate"),
        ({"rate_mode": "qscale"}, "rate"),
        ({"gop_frames": 100}, "keyint"),
        ({"b_frames": 3}, "bframes"),
        ({"encoder_build": "x264 - core 1"}, "encoder_build"),
        ({"color_matrix": "bt601"}, "color_matrix"),
        ({"color_range": "pc"}, "color_range"),
        ({"pixel_format": "yuv422p"}, "pixel_format"),
        ({"codec": "hevc"}, "stream"),
        ({"codec": "theora"}, "codec"),
        ({"motion_blocks": 1}, "motion_blocks"),
    ],
)
def test_wrong_settings_of_h264_are_found(changes: dict[str, object], check: str) -> None:
    made = made_by("h264")
    assert check in checks(made, made.stream.model_copy(update=changes))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    ("field", "value"), [("color_matrix", "rgb"), ("color_range", "?"), ("qp_from", "?")]
)
def test_tags_and_quantisers_that_the_decoder_does_not_tell_are_found(
    name: str, field: str, value: str
) -> None:
    made = made_by(name, num_frames=2, gop_frames=1 if name == "mjpeg" else 12)
    assert field in checks(made, made.stream.model_copy(update={field: value}))


@pytest.mark.parametrize("name", CODECS)
def test_bytes_outside_the_packets_are_the_muxers(name: str) -> None:
    made = made_by(name, num_frames=2, gop_frames=1 if name == "mjpeg" else 12)
    packets = {
        position
        for frame in made.stream.frames
        for position in range(frame.packet_position, frame.packet_position + frame.packet_bytes)
    }
    outside = sorted(set(range(len(made.nut))) - packets)
    assert len(outside) > 20
    for position in outside:
        data = bytearray(made.nut)
        data[position] ^= 1
        (problem,) = container_problems(made.stream, bytes(data))
        assert problem.check == "container" and f"byte {position} " in problem.detail
    (problem,) = container_problems(made.stream.model_copy(update={"fps": 25.5}), made.nut)
    assert problem.check == "fps"


@pytest.mark.parametrize("name", ["hevc", "mpeg2video", "av1"])
def test_a_gop_or_a_run_of_b_frames_longer_than_recorded_is_found(name: str) -> None:
    made = made_by(name, num_frames=16, gop_frames=10, b_frames=2)
    assert "gop" in checks(made, made.stream.model_copy(update={"gop_frames": 4, "b_frames": 0}))
    if name != "av1":
        assert "b_frames" in checks(made, made.stream.model_copy(update={"b_frames": 0}))


def test_vectors_that_cannot_be_are_found() -> None:
    made = made_by("h264", b_frames=0)
    blocks = made.blocks
    assert len(blocks) > 1
    for field, value in (("frame", 99), ("ref_distance", 0), ("ref_distance", 1), ("frame", 0)):
        wrong = blocks.copy()
        wrong[field][0] = value
        found = list(motion_problems(made.stream, write_blocks(wrong)))
        assert [problem.check for problem in found] == ["motion"], (field, value)
    (problem,) = motion_problems(made.stream, b"no array")
    assert problem.check == "motion"


def test_an_earlier_generation_of_another_encoder_or_setting_is_found() -> None:
    draw = draw_for("hevc", color=ENCODERS["hevc"].default_color)
    _, generation = transcode(moving_clip(3, 96, 96), draw)
    stream = made_by("h264", num_frames=2).stream
    here = Environment(libraries={}, encoders={"hevc": generation.encoder_build})
    for changes, found in (
        ({}, []),
        ({"encoder_build": "x265 1.0"}, ["encoder_build"]),
        ({"rate_value": 1.5}, ["rate_value"]),
    ):
        earlier = [generation.model_copy(update=changes)]
        record = stream.model_copy(update={"earlier": earlier})
        assert [p.check for p in earlier_problems("", record, [draw], here)] == found
    (problem,) = earlier_problems("", stream, [draw], here)
    assert problem.check == "earlier"
