"""Slices that do not arrive: taken out of the packets, so that a decoder must conceal them.

Headers stay, and so does one slice of every packet: of a frame of which nothing came a decoder
would not even know.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

from schemas.draw import Codec, LostSlice
from transforms.codec import CodecError, Packet

_START_CODE = re.compile(rb"\x00?\x00\x00\x01(.)", re.DOTALL)
_H264_SLICES = frozenset({1, 5})  # NAL unit types: of other pictures, of IDR pictures
_MPEG_SLICES = range(0x01, 0xB0)  # start codes: the row of blocks, from 1


class _Unit(NamedTuple):
    """What lies between two start codes, the first one included."""

    start: int
    end: int
    is_slice: bool


def lose_slices(packets: Sequence[Packet], codec: Codec, lost: Sequence[LostSlice]) -> list[Packet]:
    """Take slices out of a stream.

    Args:
        packets: H.264 or MPEG-2 as encoded here, in coding order.
        codec: the coded format.
        lost: which slices; none leaves any codec as it is.

    Returns:
        As many packets, with the same times.

    Raises:
        CodecError: if there is no such slice, or none would be left of a packet.
    """
    gone: dict[int, set[int]] = {}
    for item in lost:
        gone.setdefault(item.packet, set()).add(item.slice)
    if not set(gone) <= set(range(len(packets))):
        raise CodecError("slice_not_there", f"{len(packets)} packets, {sorted(gone)} are to lose")
    return [
        dataclasses.replace(packet, data=_without(packet.data, codec, gone[index]))
        if index in gone
        else packet
        for index, packet in enumerate(packets)
    ]


def count_slices(data: bytes, codec: Codec) -> int:
    """Number of slices in a packet of H.264, MPEG-1 or MPEG-2; 0 of other codecs."""
    return sum(unit.is_slice for unit in _units(data, codec))


def _without(data: bytes, codec: Codec, gone: set[int]) -> bytes:
    units = _units(data, codec)
    slices = [unit for unit in units if unit.is_slice]
    if max(gone) >= len(slices) or len(gone) == len(slices):
        raise CodecError("slice_not_there", f"{sorted(gone)} of {len(slices)} slices are to go")
    dropped = {slices[index] for index in gone}
    return b"".join(data[unit.start : unit.end] for unit in units if unit not in dropped)


def _units(data: bytes, codec: Codec) -> list[_Unit]:
    found = list(_START_CODE.finditer(data))
    starts = [match.start() for match in found]
    return [
        _Unit(start, end, _is_slice(match[1][0], codec))
        for match, start, end in zip(found, starts, [*starts[1:], len(data)], strict=False)
    ]


def _is_slice(code: int, codec: Codec) -> bool:
    if codec == "h264":
        return code & 0x1F in _H264_SLICES
    return codec in ("mpeg1video", "mpeg2video") and code in _MPEG_SLICES
