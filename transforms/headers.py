"""Quantisers that stand in a frame's header, of the codecs whose decoders keep them to themselves.

Motion JPEG scales one table by the quantiser; VP8 codes an index near the start of the frame.
"""

from schemas.draw import Codec
from schemas.record import UNKNOWN

_JPEG_TABLES = b"\xff\xdb"
# Marker, length and number of the table; then MPEG-1's default intra matrix, scaled by the
# quantiser over 8. Its first AC step is 16, and no quantiser takes that out of a byte's range.
_JPEG_FIRST_AC = 2 + 2 + 1 + 1
_JPEG_FIRST_AC_PER_QUANTISER = 16 / 8
_VP8_KEY_HEADER_BYTES, _VP8_HEADER_BYTES = 10, 3
_EVEN_ODDS = 128

VP8_INDICES = (
    *(
        0,
        1,
        2,
        3,
        4,
        5,
        7,
        8,
        9,
        10,
        12,
        13,
        15,
        17,
        18,
        19,
        20,
        21,
        23,
        24,
        25,
        26,
        27,
        28,
        29,
        30,
    ),
    *(31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 64, 67, 70, 73, 76, 79, 82),
    *(85, 88, 91, 94, 97, 100, 103, 106, 109, 112, 115, 118, 121, 124, 127),
)
"""The index that each of libvpx's 64 quantisers stands for in VP8."""


def header_quantiser(data: bytes, codec: Codec) -> float:
    """The quantiser of a frame.

    Args:
        data: a packet as encoded here.
        codec: the coded format.

    Returns:
        The quantiser scale (1-31) of Motion JPEG, the quantiser index (0-127) of VP8, -1 for
        other codecs.
    """
    if codec == "mjpeg":
        return _jpeg_quantiser(data)
    if codec == "vp8":
        return _vp8_quantiser(data)
    return float(UNKNOWN)


def _jpeg_quantiser(data: bytes) -> float:
    first_ac = data[data.find(_JPEG_TABLES) + _JPEG_FIRST_AC]
    return first_ac / _JPEG_FIRST_AC_PER_QUANTISER


class _BoolDecoder:
    """The arithmetic decoder of RFC 6386, section 7.3, bit by bit."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value = int.from_bytes(data[:2], "big")
        self._position = 2
        self._range = 255
        self._shifts = 0

    def bit(self, probability: int = _EVEN_ODDS) -> int:
        split = 1 + (((self._range - 1) * probability) >> 8)
        is_set = self._value >= split << 8
        if is_set:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < _EVEN_ODDS:
            self._value <<= 1
            self._range <<= 1
            self._shifts += 1
            if self._shifts == 8:
                self._shifts = 0
                if self._position < len(self._data):
                    self._value |= self._data[self._position]
                self._position += 1
        return int(is_set)

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.bit()
        return value

    def skip_signed(self, bits: int) -> None:
        """A number that may be absent: a flag, the number, its sign."""
        if self.bit():
            self.number(bits + 1)


def _vp8_quantiser(data: bytes) -> float:
    """Read the frame header up to y_ac_qi (RFC 6386, section 9)."""
    is_key = not data[0] & 1
    header = _BoolDecoder(data[_VP8_KEY_HEADER_BYTES if is_key else _VP8_HEADER_BYTES :])
    if is_key:
        header.number(2)  # colour space, clamping
    if header.bit():  # segmentation
        updates_map, updates_data = header.bit(), header.bit()
        if updates_data:
            header.bit()
            for bits in (7, 7, 7, 7, 6, 6, 6, 6):
                header.skip_signed(bits)
        if updates_map:
            for _ in range(3):
                if header.bit():
                    header.number(8)
    header.number(1 + 6 + 3)  # loop filter: type, level, sharpness
    if header.bit() and header.bit():  # its adjustments are used, and change
        for _ in range(8):
            header.skip_signed(6)
    header.number(2)  # partitions
    return float(header.number(7))
