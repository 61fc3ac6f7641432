"""Packets and their header syntax, by another path than the one that recorded them.

The container is read by FFmpeg's demuxer. Headers are read by FFmpeg's coded bitstream library,
which shares no code with its decoders, and of the formats that it does not know by
`transforms.start_codes`. Nothing is decoded.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import av
import av.logging
from av.bitstream import BitStreamFilterContext

from schemas.draw import Codec
from schemas.encoders import ENCODERS
from transforms.codec import CodecError
from transforms.start_codes import Unit, readers

TRACED: frozenset[Codec] = frozenset({"h264", "hevc", "mpeg2video", "vp8", "vp9", "av1"})
"""The codecs whose headers FFmpeg traces."""

_FILTER = "trace_headers"
_ZEROS = 256  # more than any frame header of VP8
# Position, name, bits and value, as in `8  nal_unit_type  00111 = 7`. Where a field shares its
# first bits with the one before there are none.
_FIELD = re.compile(r"\d+\s+(\S+)\s+[01]*\s*= (-?\d+)\s*$")


class TracedPacket(NamedTuple):
    """One packet of a stored stream."""

    data: bytes
    position: int
    """where its data begin in the file, bytes"""
    pts: int
    """presentation time, frames"""
    key_frame: bool
    """as the container flags it"""
    units: list[Unit]
    """its headers, in the order of the bitstream"""


def trace(nut: bytes, codec: Codec, fps: float) -> list[TracedPacket]:
    """Take a stored stream apart.

    Sets the level of FFmpeg's log for a moment, which the whole process shares: call it where no
    other thread works with FFmpeg.

    Args:
        nut: the `lr<k>.nut` member.
        codec: the coded format.
        fps: ticks of the stream's time, per second.

    Raises:
        CodecError: if this is no such stream.
    """
    try:
        with av.open(io.BytesIO(nut), "r", format="nut") as container:
            stream = container.streams.video[0]
            _refuse_other_codec(stream.codec_context.codec.canonical_name, codec)
            if codec in TRACED:
                return list(_traced(container, stream, codec, fps))
            read = readers()[codec]
            return [
                _packet(packet, fps, read(bytes(packet)))
                for packet in container.demux(stream)
                if packet.size
            ]
    except (av.FFmpegError, IndexError) as error:
        raise CodecError("unreadable_header", f"{codec}: {error}") from error


def _refuse_other_codec(found: str, codec: Codec) -> None:
    if found not in (codec, ENCODERS[codec].decoder):
        raise CodecError("other_codec", f"the container says {found}, the record {codec}")


def _traced(
    container: av.container.InputContainer, stream: av.VideoStream, codec: Codec, fps: float
) -> Iterator[TracedPacket]:
    with _captured_log() as log:
        headers = BitStreamFilterContext(_FILTER, stream)
        for packet in container.demux(stream):
            if packet.size:
                taken = _packet(packet, fps, [])  # the filter leaves nothing of the packet
                log.clear()
                headers.filter(_with_zeros(packet) if codec == "vp8" else packet)
                lines = [message for _, name, message in log if name == _FILTER]
                yield taken._replace(units=list(_units(lines)))


def _with_zeros(packet: "av.Packet[Any]") -> "av.Packet[Any]":
    """VP8's arithmetic decoder takes zeros for what comes after the end; FFmpeg's tracer fails."""
    longer = av.Packet(bytes(packet) + bytes(_ZEROS))
    longer.pts, longer.dts, longer.time_base = packet.pts, packet.dts, packet.time_base
    return longer


@contextmanager
def _captured_log() -> Iterator[list[tuple[int, str, str]]]:
    level, skips_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.TRACE)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips_repeated)


def _units(lines: Sequence[str]) -> Iterator[Unit]:
    """Join the lines of each header: a title, then its fields."""
    name, fields = "", dict[str, int]()
    for line in lines:
        field = _FIELD.match(line)
        if field:
            fields[field[1]] = int(field[2])
            continue
        if fields:
            yield Unit(name, fields)
        name, fields = line.strip(), {}
    if fields:
        yield Unit(name, fields)


def _packet(packet: "av.Packet[Any]", fps: float, units: list[Unit]) -> TracedPacket:
    if packet.pts is None or packet.pos is None:
        raise CodecError("unreadable_header", "a packet without time or place")
    pts = round(packet.pts * packet.time_base * fps)
    return TracedPacket(bytes(packet), packet.pos, pts, packet.is_keyframe, units)
