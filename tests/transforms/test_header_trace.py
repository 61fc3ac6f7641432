"""The second parser: what containers and headers say, against what the first one recorded."""

import av.logging
import numpy as np
import pytest

from schemas.draw import CodecDraw
from schemas.encoders import ENCODERS
from schemas.sample import FrameType
from tests.pictures import moving_clip
from tests.transforms.chains import make
from tests.transforms.coding import CODECS, draw_for
from transforms.codec import CodecError
from transforms.coded_pictures import (
    CodedPicture,
    PictureFormat,
    read_formats,
    read_message,
    read_pictures,
)
from transforms.header_trace import trace
from transforms.start_codes import Unit, read_h263, readers
from transforms.streams import MadeStream


def coded(name: str, num_frames: int = 14, **changes: object) -> MadeStream:
    draw = draw_for(name, color=ENCODERS[name].default_color, **changes)  # type: ignore[index]
    return make(moving_clip(num_frames, 70, 98, (1, 2)), draw)


def pictures_of(made: MadeStream, name: str) -> list[CodedPicture | None]:
    packets = trace(made.nut, name, made.stream.fps)  # type: ignore[arg-type]
    return read_pictures([packet.units for packet in packets], name)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_frames", [1, 14])
@pytest.mark.parametrize("name", CODECS)
def test_headers_and_container_say_what_the_decoder_said(name: str, num_frames: int) -> None:
    made = coded(name, num_frames, gop_frames=6 if name != "mjpeg" else 1)
    records = sorted(made.stream.frames, key=lambda frame: frame.coding_index)
    packets = trace(made.nut, name, made.stream.fps)  # type: ignore[arg-type]
    assert [(p.position, len(p.data), p.pts, p.key_frame) for p in packets] == [
        (f.packet_position, f.packet_bytes, f.pts, f.key_frame) for f in records
    ]
    pictures = pictures_of(made, name)
    assert [(p.frame_types, p.is_key) for p in pictures if p] == [
        ({f.frame_type}, f.key_frame) for f in records
    ]
    (told,) = read_formats([p.units for p in packets], name)  # type: ignore[arg-type]
    stream = made.stream
    assert (told.height, told.width) == (stream.coded_height, stream.coded_width)
    for found, wanted in (
        (told.pixel_format, stream.pixel_format),
        (told.color_matrix, stream.color_matrix),
        (told.color_range, stream.color_range),
    ):
        assert found in (None, wanted)


@pytest.mark.parametrize("name", ["mpeg4", "mpeg2video", "mpeg1video", "h263p", "mjpeg"])
def test_the_quantiser_of_the_mpeg_codecs_is_that_of_every_block(name: str) -> None:
    made = coded(name, rate_mode="qscale", rate_value=7)
    assert {q for p in pictures_of(made, name) if p for q in p.quantisers} == {7}


def test_a_constant_quantiser_of_h264_is_where_each_slice_begins() -> None:
    made = coded("h264", rate_mode="qscale", rate_value=24, slices=3, pixel_format="yuv420p10le")
    records = sorted(made.stream.frames, key=lambda frame: frame.coding_index)
    pictures = pictures_of(made, "h264")
    assert [p.quantisers for p in pictures if p] == [(frame.qp_mean,) * 3 for frame in records]
    assert {frame.frame_type for frame in records} == set(FrameType)


@pytest.mark.parametrize("name", ["vp9", "av1"])
def test_a_packet_that_shows_an_earlier_frame_has_that_frame_s_type(name: str) -> None:
    made = coded(name, 20, rate_value=40)
    packets = trace(made.nut, name, made.stream.fps)  # type: ignore[arg-type]
    titles = {"vp9": "Frame", "av1": "Frame Header"}
    headers = [u.fields for p in packets for u in p.units if u.name == titles[name]]
    if name == "av1":
        assert any(fields["show_existing_frame"] for fields in headers)
        assert any(not fields.get("show_frame", 1) for fields in headers)
    assert len(packets) == 20 and None not in pictures_of(made, name)


def test_vp8_headers_that_reach_beyond_their_packet_are_read() -> None:
    draw = draw_for("vp8", rate_mode="bitrate", rate_value=20_000, gop_frames=48)
    made = make(moving_clip(20, 64, 64), draw)
    assert min(frame.packet_bytes for frame in made.stream.frames) < 40
    quantisers = [p.quantisers for p in pictures_of(made, "vp8") if p]
    assert quantisers == [(frame.qp_mean,) for frame in made.stream.frames]


def test_losslessly_stored_frames_are_rgb_of_quantiser_0_and_tell_their_settings() -> None:
    made = make(moving_clip(3, 34, 50), None)
    packets = trace(made.nut, "h264", made.stream.fps)
    units = [packet.units for packet in packets]
    assert read_formats(units, "h264") == [PictureFormat(34, 50, "gbrp", "rgb", "pc")]
    assert {q for p in read_pictures(units, "h264") if p for q in p.quantisers} == {0}
    assert "rc=cqp" in read_message(units) and " qp=0" in read_message(units)


def test_the_log_is_left_as_it_was() -> None:
    av.logging.set_level(av.logging.ERROR)
    try:
        trace(coded("vp9", 2).nut, "vp9", 25)
        assert av.logging.get_level() == av.logging.ERROR
        assert av.logging.get_skip_repeated()
    finally:
        av.logging.set_level(None)


def test_another_codec_s_stream_is_refused() -> None:
    made = coded("vp8", 1)
    with pytest.raises(CodecError, match="container says vp8, the record mpeg4"):
        trace(made.nut, "mpeg4", 25)
    with pytest.raises(CodecError, match="unreadable_header"):
        trace(b"no container", "h264", 25)


def test_a_damaged_bitstream_is_refused_or_reads_otherwise() -> None:
    made = coded("h264")
    first = made.stream.frames[0]
    damaged = bytearray(made.nut)
    damaged[first.packet_position : first.packet_position + 40] = bytes(40)
    try:
        packets = trace(bytes(damaged), "h264", 25)
        read_pictures([packet.units for packet in packets], "h264")
    except (CodecError, LookupError):
        return
    assert [p.data for p in packets] != [p.data for p in trace(made.nut, "h264", 25)]


@pytest.mark.parametrize("name", ["mpeg4", "mpeg1video", "h263p", "mjpeg"])
def test_a_packet_cut_short_is_refused_or_tells_less(name: str) -> None:
    whole = bytes(trace(coded(name, 1).nut, name, 25)[0].data)  # type: ignore[arg-type]
    full: list[Unit] = readers()[name](whole)  # type: ignore[index]
    for size in range(0, 40, 3):
        try:
            found = readers()[name](whole[:size])  # type: ignore[index]
        except CodecError:
            continue
        assert len(found) <= len(full)


def test_h263_headers_give_every_size() -> None:
    for height, width in ((16, 16), (36, 52), (96, 128), (288, 352), (240, 400)):
        draw: CodecDraw = draw_for("h263p", height=height, width=width)
        made = make(np.full((1, height, width, 3), 90, np.uint8), draw)
        (unit,) = read_h263(trace(made.nut, "h263p", 25)[0].data)
        assert (unit.fields["height"], unit.fields["width"]) == (height, width)
