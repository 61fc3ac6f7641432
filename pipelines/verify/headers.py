"""A stored stream against its record: what the container and the headers say, read anew."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from pipelines.verify.draws import plain_format
from pipelines.verify.problem import Problem
from pipelines.verify.quantisers import quantiser_problem
from schemas.draw import Codec, CodecDraw
from schemas.encoders import ENCODERS
from schemas.sample import Frame, FrameType, Stream, lr_member
from transforms.bitstream import frame_records
from transforms.codec import (
    MPEG_CODECS,
    QP_PER_BIT,
    CodecError,
    Packet,
    decode_with_side_data,
)
from transforms.coded_pictures import (
    CodedPicture,
    PictureFormat,
    read_formats,
    read_message,
    read_pictures,
)
from transforms.header_trace import TracedPacket, trace
from transforms.headers import header_quantiser
from transforms.streams import color_tags, qp_from

_KBIT = 1000
_TOLD_BY_HEADERS = frozenset({"vp8", "mjpeg"})
_SLICED = frozenset({"h264", "mpeg2video"})  # the codecs that lose slices
_RATE_CONTROLS = {
    "crf": (("crf",), "crf", 1),
    "qscale": (("cqp",), "qp", 1),
    "lossless": (("cqp",), "qp", 1),
    "bitrate": (("abr", "cbr"), "bitrate", _KBIT),
}


def stream_problems(stream: Stream, draw: CodecDraw | None, nut: bytes) -> Iterator[Problem]:
    """Read a stream again, and compare.

    Args:
        stream: its record.
        draw: how its codec was drawn; None of a stream that is stored losslessly.
        nut: its `lr<k>.nut` member.
    """
    member = lr_member(stream.stream)
    codec = next((known for known in ENCODERS if known == stream.codec), None)
    if codec is None:
        yield Problem("codec", member, f"{stream.codec!r} is no codec of this release")
        return
    try:
        packets = trace(nut, codec, stream.fps)
        units = [packet.units for packet in packets]
        pictures, formats = read_pictures(units, codec), read_formats(units, codec)
    except CodecError as error:
        yield Problem("stream", member, str(error))
        return
    except LookupError as error:
        yield Problem("stream", member, f"a header is not that of {stream.codec}: {error!r}")
        return
    coded = sorted(stream.frames, key=lambda frame: frame.coding_index)
    if len(packets) != len(coded) or None in pictures or not coded:
        told = f"{len(packets)} packets with {len(pictures) - pictures.count(None)} shown frames"
        yield Problem("frame_count", member, f"{told}, the record has {len(coded)} frames")
        return
    shown = [picture for picture in pictures if picture is not None]
    found = [
        *_packet_problems(stream, coded, packets, nut),
        *_picture_problems(stream, draw, coded, shown),
        *_format_problems(stream, formats),
        *_pattern_problems(stream, draw, coded, shown),
    ]
    if stream.codec == "h264":
        found += _message_problems(stream, draw, read_message(units))
    found += _decoder_problems(stream, codec, draw, coded, packets)
    yield from (Problem(check, member, detail) for check, detail in found)


Told = Iterator[tuple[str, str]]
"""(check, detail) of each problem."""


def _packet_problems(
    stream: Stream, coded: Sequence[Frame], packets: Sequence[TracedPacket], nut: bytes
) -> Told:
    """Places, sizes and times of packets, against the container's."""
    if [frame.coding_index for frame in coded] != list(range(len(coded))):
        yield "coding_index", "the frames' places in the stream are not 0, 1, 2, ..."
    if [frame.display_index for frame in stream.frames] != list(range(len(coded))):
        yield "display_index", "the frames' places on the screen are not 0, 1, 2, ..."
    delay = max(index - packet.pts for index, packet in enumerate(packets))
    for index, (frame, packet) in enumerate(zip(coded, packets, strict=True)):
        name = f"frame {frame.display_index}"
        start, stop = frame.packet_position, frame.packet_position + frame.packet_bytes
        if packet.position != start or nut[start:stop] != packet.data:
            yield "packet", f"{name}: bytes {start} to {stop} are not its packet's"
        if packet.pts != frame.pts or frame.pts != frame.display_index:
            yield "pts", f"{name}: pts is {packet.pts}, the record says {frame.pts}"
        if frame.dts != index - delay:
            yield "dts", f"{name}: dts is {index - delay}, the record says {frame.dts}"
        if packet.key_frame != frame.key_frame:
            told = f"the container says {packet.key_frame}, the record {frame.key_frame}"
            yield "key_frame", f"{name}: {told}"
    if (total := sum(len(packet.data) for packet in packets)) != stream.stream_bytes:
        yield "stream_bytes", f"{total} bytes of packets, the record says {stream.stream_bytes}"


def _picture_problems(
    stream: Stream,
    draw: CodecDraw | None,
    coded: Sequence[Frame],
    pictures: Sequence[CodedPicture],
) -> Told:
    """Types, key frames, quantisers and slices, against the headers'."""
    lost = [0] * len(coded)
    for item in draw.lost if draw else []:
        if item.packet < len(coded):
            lost[item.packet] += 1
    is_capped = draw is not None and draw.max_bitrate > 0
    most = max(p.num_slices + gone for p, gone in zip(pictures, lost, strict=True))
    for frame, picture, gone in zip(coded, pictures, lost, strict=True):
        name = f"frame {frame.display_index}"
        if picture.frame_types != {frame.frame_type}:
            types = "".join(sorted(picture.frame_types))
            yield "frame_type", f"{name}: its headers say {types}, the record {frame.frame_type}"
        if picture.is_key != frame.key_frame:
            told = f"its headers say {picture.is_key}, the record {frame.key_frame}"
            yield "key_frame", f"{name}: {told}"
        if frame.damaged != bool(gone):
            yield "damaged", f"{name}: {gone} slices are drawn to be lost"
        if stream.codec in _SLICED and picture.num_slices != most - gone:
            yield "slices", f"{name}: {picture.num_slices} slices, and should be {most - gone}"
        told = quantiser_problem(stream, frame, picture.quantisers, is_capped=is_capped)
        if told and not frame.damaged:
            yield "quantiser", f"{name}: {told}"


def _format_problems(stream: Stream, formats: Sequence[PictureFormat]) -> Told:
    if len(formats) != 1:
        yield "format", f"the headers tell {len(formats)} picture formats, not one"
    recorded = PictureFormat(
        stream.coded_height,
        stream.coded_width,
        plain_format(stream.pixel_format),
        stream.color_matrix,
        stream.color_range,
    )
    for told in formats:
        for name, found, wanted in zip(PictureFormat._fields, told, recorded, strict=True):
            if found is not None and found != wanted:
                yield name, f"the headers say {found}, the record {wanted}"


def _pattern_problems(
    stream: Stream,
    draw: CodecDraw | None,
    coded: Sequence[Frame],
    pictures: Sequence[CodedPicture],
) -> Told:
    """Distances of key frames and runs of B frames, of the headers alone."""
    shown = dict(zip((frame.display_index for frame in coded), pictures, strict=True))
    in_order = [shown[index] for index in sorted(shown)]
    keys = [index for index, picture in enumerate(in_order) if picture.is_key]
    if not keys or keys[0] != 0:
        yield "gop", f"key frames at {keys}"
        return
    distances = [after - before for before, after in pairwise(keys)]
    # The MPEG encoders count in coding order, where B frames follow the key frame they precede.
    slack = stream.b_frames if stream.codec in MPEG_CODECS else 0
    if max([*distances, len(in_order) - keys[-1]]) > stream.gop_frames + slack:
        yield "gop", f"key frames at {keys}, the record allows {stream.gop_frames}"
    is_fixed = draw is not None and not draw.scene_cut and not slack
    if is_fixed and set(distances) - {stream.gop_frames}:
        yield "gop", f"key frames at {keys}, all should be {stream.gop_frames} apart"
    types = "".join(min(picture.frame_types) for picture in in_order)
    if max(map(len, re.findall(f"{FrameType.B}*", types))) > stream.b_frames:
        yield "b_frames", f"types are {types}, the record allows {stream.b_frames} B in a row"


def _message_problems(stream: Stream, draw: CodecDraw | None, message: str) -> Told:
    """What x264 wrote into the stream of its settings."""
    if not message:
        yield "settings", "x264's message with its settings is not in the stream"
        return
    if (build := message.partition(" - H.26")[0]) != stream.encoder_build:
        yield "encoder_build", f"the stream says {build!r}, the record {stream.encoder_build!r}"
    controls, name, unit = _RATE_CONTROLS[stream.rate_mode]
    bits = 10 if stream.pixel_format.endswith("10le") else 8
    finer = QP_PER_BIT * (bits - 8) if name == "qp" else 0  # than what 8 bits have
    control, value = _word(message, "rc"), float(_number(message, name)) * unit - finer
    if control not in controls or value != stream.rate_value:
        told = f"{control} {value:g}"
        yield "rate", f"the stream says {told}, the record {stream.rate_mode} {stream.rate_value}"
    for field, wanted in _expected_words(stream, draw).items():
        if (found := _number(message, field)) != str(wanted):
            yield field, f"the stream says {found}, the record {wanted}"


def _word(message: str, name: str) -> str:
    """The value of one of x264's settings; empty where it is left out."""
    found = re.search(rf"\b{name}=(\S+)", message)
    return found[1] if found else ""


def _number(message: str, name: str) -> str:
    """A number among x264's settings; those that are left out are 0."""
    found = re.fullmatch(r"\d+(\.\d+)?", _word(message, name))
    return found[0] if found else "0"


def _expected_words(stream: Stream, draw: CodecDraw | None) -> Mapping[str, int]:
    words = {"keyint": stream.gop_frames, "bframes": stream.b_frames}
    if draw and draw.refs:
        words["ref"] = draw.refs
    if draw and draw.slices > 1:
        words["slices"] = draw.slices
    return words


def _decoder_problems(
    stream: Stream,
    codec: Codec,
    draw: CodecDraw | None,
    coded: Sequence[Frame],
    packets: Sequence[TracedPacket],
) -> Told:
    """What the decoder exports: colour tags, and the quantiser of every block, exactly."""
    if sorted(packet.pts for packet in packets) != list(range(len(packets))):
        return  # which the container's times have told already
    given = [
        Packet(
            data=packet.data,
            pts=packet.pts,
            key_frame=packet.key_frame,
            # Of HEVC and AV1 the encoder told it: there is nothing to decode it from.
            encoder_qp=header_quantiser(packet.data, codec)
            if codec in _TOLD_BY_HEADERS
            else frame.qp_mean,
        )
        for frame, packet in zip(coded, packets, strict=True)
    ]
    try:
        frames = decode_with_side_data(given, codec)
    except CodecError as error:
        yield "stream", str(error)
        return
    lost = {item.packet for item in draw.lost} if draw else set()
    positions = [frame.packet_position for frame in coded]
    tags = color_tags(frames[0])
    for name, found in (("color_matrix", tags[0]), ("color_range", tags[1])):
        if found != (wanted := getattr(stream, name)):
            yield name, f"decoded again it is {found}, the record says {wanted}"
    records = frame_records(given, positions, frames, lost)
    if (teller := qp_from(records[0])) != stream.qp_from:
        yield "qp_from", f"decoded again it is {teller}, the record says {stream.qp_from}"
    for again, recorded in zip(records, stream.frames, strict=True):
        for name in ("frame_type", "qp_mean", "qp_min", "qp_max"):
            found, wanted = getattr(again, name), getattr(recorded, name)
            if found != wanted:
                told = f"decoded again it is {found}, the record says {wanted}"
                yield name, f"frame {recorded.display_index}: {told}"
