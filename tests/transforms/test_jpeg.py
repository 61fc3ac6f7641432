import hashlib
import io
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import texture
from transforms.jpeg import JpegHeader, encode_jpeg, read_jpeg_header
from transforms.tiles import decode_tile

PICTURE = texture(40, 56)


def pillow(pixels: np.ndarray = PICTURE, mode: str = "RGB", **settings: Any) -> bytes:
    """A JPEG file by another build of libjpeg."""
    buffer = io.BytesIO()
    plain = {"quality": 95, "subsampling": 0}
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **{**plain, **settings})
    return buffer.getvalue()


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """The file with one more segment after that of JFIF."""
    segment = bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
    return data[:20] + segment + data[20:]


def frame_header(data: bytes) -> bytes:
    """What follows the marker of SOF0."""
    start = data.index(b"\xff\xc0") + 4
    return data[start : start + 15]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (257, 16), (2000, 9)])
def test_the_size_is_read_from_the_header(height: int, width: int) -> None:
    data = encode_jpeg(np.zeros((height, width, 3), np.uint8), 90, "444")
    assert read_jpeg_header(data) == JpegHeader(height, width, 90)


def test_the_quality_is_read_from_the_quantisation_tables() -> None:
    for quality in range(1, 101):
        assert read_jpeg_header(encode_jpeg(PICTURE, quality, "444")).quality == quality


def test_chroma_is_not_subsampled() -> None:
    # 8 bits; then of each channel its sampling factors, 1 by 1.
    header = frame_header(encode_jpeg(PICTURE, 95, "444"))
    assert header[0] == 8 and header[5] == 3
    assert header[7::3] == b"\x11\x11\x11"
    assert frame_header(encode_jpeg(PICTURE, 95, "420"))[7::3] == b"\x22\x11\x11"


def test_another_build_of_libjpeg_with_and_without_simd_gives_the_same() -> None:
    data = encode_jpeg(PICTURE, 95, "444")
    program = (
        "import hashlib; from tests.transforms.test_jpeg import *; "
        "data = pillow(); pixels = np.asarray(Image.open(io.BytesIO(data))); "
        "print([hashlib.sha256(x).hexdigest() for x in (data, pixels.tobytes())])"
    )
    expected = [hashlib.sha256(x).hexdigest() for x in (data, decode_tile(data).tobytes())]
    for simd in ({}, {"JSIMD_FORCENONE": "1"}):
        told = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **simd},
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.strip() == str(expected)


def test_nothing_but_pixels_decides_the_bytes() -> None:
    data = encode_jpeg(PICTURE, 95, "444")
    assert encode_jpeg(np.asfortranarray(PICTURE), 95, "444") == data
    wide = np.concatenate([PICTURE, PICTURE], axis=1)
    assert encode_jpeg(wide[:, :56], 95, "444") == data


ORIENTATION = Image.Exif()
ORIENTATION[0x0112] = 6
OTHERS = {
    "progressive": pillow(progressive=True),
    "subsampled": pillow(subsampling=2),
    "grey": pillow(mode="L"),
    "cmyk": pillow(mode="CMYK"),
    "orientation": pillow(exif=ORIENTATION),
    "colour profile": pillow(icc_profile=b"profile"),
    "comment": pillow(comment=b"more"),
    "other tables": pillow(qtables=[[40] * 64, [60] * 64]),
    "adobe": with_segment(pillow(), 0xEE, b"Adobe\0\x64" + bytes(5)),
    "restarts": pillow(restart_marker_rows=1),
    "no pixels": pillow()[:623],
    "cut": pillow()[:-1],
    "more": pillow() + b"\0",
    "webp": b"RIFF",
    "empty": b"",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_jpeg_files_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a JPEG file"):
        read_jpeg_header(OTHERS[name])


@pytest.mark.parametrize("name", ["16 bits", "arithmetic", "12 bits", "twice the same channel"])
def test_frames_of_other_kinds_are_refused(name: str) -> None:
    data = encode_jpeg(PICTURE, 95, "444")
    start = data.index(b"\xff\xc0")
    changes = {
        "16 bits": (start + 4, 16),
        "arithmetic": (start + 1, 0xC9),
        "12 bits": (start + 4, 12),
        "twice the same channel": (start + 13, 1),
    }
    position, value = changes[name]
    changed = data[:position] + bytes([value]) + data[position + 1 :]
    assert changed != data
    with pytest.raises(ValueError, match="a JPEG file"):
        read_jpeg_header(changed)


def test_every_header_that_is_cut_or_damaged_is_refused_or_read() -> None:
    data = encode_jpeg(PICTURE, 95, "444")
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(data[:623] + data[-2:])
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            read_jpeg_header(bytes(damaged))
        except ValueError as error:
            assert "a JPEG file" in str(error)
