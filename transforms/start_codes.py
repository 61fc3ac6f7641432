"""Picture headers of the formats that FFmpeg does not trace: MPEG-1, MPEG-4, H.263+, JPEG.

As much of the syntax as tells a picture's size, type and quantiser, of streams as they are
encoded here. Units and fields are named as in the standards.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from schemas.draw import Codec
from transforms.codec import CodecError


class Unit(NamedTuple):
    """One header."""

    name: str
    """as the standard calls it, such as Slice Header"""
    fields: dict[str, int]
    """its fields that were read"""


_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
# ISO/IEC 11172-2
_PICTURE, _SEQUENCE = 0x00, 0xB3
_SLICES = range(0x01, 0xB0)
# ISO/IEC 14496-2
_VIDEO_OBJECT_LAYERS, _VOP = range(0x20, 0x30), 0xB6
_EXTENDED_ASPECT = 15
_VBV_BITS = 79
_P_VOP = 1
# ITU-T H.263: the start code is 22 bits, 16 zeros and a one among them.
_H263_PICTURE, _EXTENDED_TYPE, _CUSTOM_SIZE = 0b100000, 7, 6
_H263_SIZES = {1: (96, 128), 2: (144, 176), 3: (288, 352), 4: (576, 704), 5: (1152, 1408)}
# ITU-T T.81
_START_OF_FRAME, _TABLES, _START_OF_SCAN = 0xC0, 0xDB, 0xDA


class _Bits:
    """Bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        if count > self._left:
            raise CodecError("unreadable_header", "a header is cut short")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)


_HEADER_BYTES = 64  # no header here is longer


def _sections(data: bytes) -> Iterator[tuple[int, _Bits]]:
    """Start codes and what follows each."""
    for match in _START_CODE.finditer(data):
        yield match[1][0], _Bits(data[match.end() : match.end() + _HEADER_BYTES])


def read_mpeg1(data: bytes) -> list[Unit]:
    """The headers of an MPEG-1 packet."""
    units = []
    for code, bits in _sections(data):
        if code == _SEQUENCE:
            size = {"horizontal_size_value": bits.take(12), "vertical_size_value": bits.take(12)}
            units.append(Unit("Sequence Header", size))
        elif code == _PICTURE:
            bits.take(10)  # temporal reference
            units.append(Unit("Picture Header", {"picture_coding_type": bits.take(3)}))
        elif code in _SLICES:
            units.append(Unit("Slice Header", {"quantiser_scale_code": bits.take(5)}))
    return units


class Mpeg4Reader:
    """Reads MPEG-4 packets in coding order: only key frames say how long a time stamp is."""

    def __init__(self) -> None:
        self._time_bits = 0

    def read(self, data: bytes) -> list[Unit]:
        """The headers of one packet."""
        units = []
        for code, bits in _sections(data):
            if code in _VIDEO_OBJECT_LAYERS:
                units.append(Unit("Video Object Layer", self._layer(bits)))
            elif code == _VOP:
                units.append(Unit("Video Object Plane", self._plane(bits)))
        return units

    def _layer(self, bits: _Bits) -> dict[str, int]:
        bits.take(1 + 8)  # random access, type
        if bits.take(1):  # a version is given
            bits.take(4 + 3)
        if bits.take(4) == _EXTENDED_ASPECT:
            bits.take(16)
        if bits.take(1):  # control parameters: chroma, delay, buffer
            bits.take(2 + 1)
            if bits.take(1):
                bits.take(_VBV_BITS)
        bits.take(2 + 1)  # shape, marker
        resolution = bits.take(16)
        self._time_bits = max(1, (resolution - 1).bit_length())
        bits.take(1)
        if bits.take(1):  # a fixed frame rate
            bits.take(self._time_bits)
        bits.take(1)
        width = bits.take(13)
        bits.take(1)
        return {"video_object_layer_width": width, "video_object_layer_height": bits.take(13)}

    def _plane(self, bits: _Bits) -> dict[str, int]:
        coding_type = bits.take(2)
        while bits.take(1):  # whole seconds
            pass
        bits.take(1 + self._time_bits + 1)
        if not bits.take(1):  # not coded: the frame before is shown again
            return {"vop_coding_type": coding_type}
        if coding_type == _P_VOP:
            bits.take(1)  # rounding
        bits.take(3)
        return {"vop_coding_type": coding_type, "vop_quant": bits.take(5)}


def read_h263(data: bytes) -> list[Unit]:
    """The picture header of an H.263+ packet (ITU-T H.263, section 5.1)."""
    bits = _Bits(data[:_HEADER_BYTES])
    if bits.take(22) != _H263_PICTURE:
        raise CodecError("unreadable_header", "no H.263 picture")
    bits.take(8 + 5)  # temporal reference; marker, zero, split screen, camera, freeze
    if bits.take(3) != _EXTENDED_TYPE or bits.take(3) != 1:
        raise CodecError("unreadable_header", "no extended H.263 picture type")
    source_format = bits.take(3)
    custom_clock, unrestricted = bits.take(1), bits.take(1)
    bits.take(5)  # arithmetic coding, prediction, intra coding, deblocking, slices
    bits.take(8)  # reference selection, independent segments, vlc, quantiser; 1000
    fields = {"picture_coding_type": bits.take(3)}
    if source_format in _H263_SIZES:
        fields["height"], fields["width"] = _H263_SIZES[source_format]
    bits.take(6)  # resampling, reduced resolution, rounding, 001
    if bits.take(1):  # several pictures in one
        bits.take(2)
    if source_format == _CUSTOM_SIZE:
        aspect = bits.take(4)
        fields["width"] = 4 * (bits.take(9) + 1)
        bits.take(1)
        fields["height"] = 4 * bits.take(9)
        if aspect == _EXTENDED_ASPECT:
            bits.take(16)
    if custom_clock:
        bits.take(8 + 2)
    if unrestricted and not bits.take(1):
        bits.take(1)
    return [Unit("Picture Header", {**fields, "quantiser": bits.take(5)})]


def read_jpeg(data: bytes) -> list[Unit]:
    """The headers of a JPEG file up to its first scan."""
    units, position = [], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        code, size = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + size]
        if code == _TABLES:
            units.append(Unit("Quantization Table", {f"Q[{i}]": q for i, q in enumerate(body[1:])}))
        elif code == _START_OF_FRAME:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            units.append(Unit("Frame Header", {"Y": height, "X": width}))
        elif code == _START_OF_SCAN:
            break
        position += 2 + size
    return units


def readers() -> Mapping[Codec, Callable[[bytes], list[Unit]]]:
    """What reads the packets of one stream, in coding order, by codec."""
    return {
        "mpeg1video": read_mpeg1,
        "mpeg4": Mpeg4Reader().read,
        "h263p": read_h263,
        "mjpeg": read_jpeg,
    }
