"""JPEG files as libjpeg writes them: making them, and reading what their headers say."""

from typing import Literal, NamedTuple

import cv2
import numpy as np

# ITU-T T.81, tables K.1 and K.2: vertical frequencies go down, horizontal ones to the right.
LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA_STEPS = np.full((8, 8), 99, np.float32)
CHROMA_STEPS[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# Markers: start and end of the file, then of the segments, in the order in which libjpeg writes
# them: APP0, DQT of luma and chroma, SOF0 (baseline), DHT of DC and AC of each, SOS.
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SEGMENTS = (b"\xff\xe0", *[b"\xff\xdb"] * 2, b"\xff\xc0", *[b"\xff\xc4"] * 4, b"\xff\xda")
_JFIF, _BITS = b"JFIF\0", b"\x08"
# The number of channels, then of each: number, sampling factors, quantisation table.
_CHANNELS = b"\x03" + b"\x01\x11\x00" + b"\x02\x11\x01" + b"\x03\x11\x01"
# Likewise: number, Huffman tables. Then all 64 frequencies, whole.
_SCAN = b"\x03" + b"\x01\x00" + b"\x02\x11" + b"\x03\x11" + b"\x00\x3f\x00"

_SUBSAMPLING = {
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def encode_jpeg(pixels: np.ndarray, quality: int, subsampling: Literal["420", "444"]) -> bytes:
    """(h, w, 3) uint8 RGB as a baseline JPEG file; quality is libjpeg's, 1 to 100."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SUBSAMPLING[subsampling],
    ]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not encoded:
        raise RuntimeError("OpenCV did not encode a JPEG")
    return data.tobytes()


class JpegHeader(NamedTuple):
    """What a JPEG file says of itself."""

    height: int
    width: int
    quality: int
    """of libjpeg's, by its quantisation tables"""


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the header of a file as `encode_jpeg` makes it in 4:4:4; nothing is decoded.

    Any other JPEG is refused: progressive ones, whose few bytes may take hours, other pixels than
    three channels of 8 bits, and whatever carries more than that, such as an orientation or a
    colour profile.

    Raises:
        ValueError: if it is none.
    """
    position, bodies = len(_START), list[bytes]()
    for marker in _SEGMENTS:
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position : position + 2] != marker:
            break
        bodies.append(data[position + 4 : position + 2 + size])
        position += 2 + size
    is_framed = data.startswith(_START) and data.endswith(_END)
    if not is_framed or len(bodies) < len(_SEGMENTS):
        raise ValueError("not a JPEG file of the plain kind")
    about, luma, chroma, frame, *_, scan = bodies
    if not about.startswith(_JFIF) or (frame[:1], frame[5:], scan) != (_BITS, _CHANNELS, _SCAN):
        raise ValueError("not a JPEG file of three channels in 4:4:4")
    quality = _QUALITIES.get(luma + chroma)
    if quality is None:
        raise ValueError("a JPEG file with quantisation tables of its own")
    return JpegHeader(int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), quality)


def _tables(quality: int) -> bytes:
    """Both quantisation tables of one of libjpeg's qualities, as their segments hold them."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        np.clip((steps.astype(int) * percent + 50) // 100, 1, 255).astype(np.uint8).ravel()
        for steps in (LUMA_STEPS, CHROMA_STEPS)
    )
    return b"\x00" + luma[_ZIGZAG].tobytes() + b"\x01" + chroma[_ZIGZAG].tobytes()


def _along_diagonals(index: int) -> tuple[int, int]:
    row, column = divmod(index, 8)
    diagonal = row + column
    return diagonal, row if diagonal % 2 else column


_ZIGZAG = sorted(range(64), key=_along_diagonals)
_QUALITIES = {_tables(quality): quality for quality in range(1, 101)}
