import io
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from tests.synthetic import gradient
from transforms import pictures
from transforms.pictures import (
    PictureError,
    decode_picture,
    decode_whole_picture,
    is_picture,
    read_header,
)

RGB = gradient(1, 24, 40)[0]
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")


def encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def encoded_deep(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """Of (H, W) or (H, W, 3 or 4) uint16, in OpenCV's order."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def noise(dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, high, (64, 64, 3), dtype)


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(PictureError) as caught:
        action()
    return caught.value.reason


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_rounded_to_eight(suffix: str) -> None:
    deep = noise(np.uint16)
    data = encoded_deep(deep[:, :, ::-1], suffix)
    assert np.array_equal(decode_picture(data), np.rint(deep / 257))
    assert read_header(io.BytesIO(data)).mode == "RGB;16"
    grey = decode_picture(encoded_deep(deep[:, :, 0], suffix))
    assert np.array_equal(grey[:, :, 2], np.rint(deep[:, :, 0] / 257))


def test_large_pictures_are_flattened_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = np.dstack([noise(np.uint16), noise(np.uint16)[::-1, :, :1]])
    whole = decode_picture(encoded_deep(deep)), decode_picture(encoded_deep(deep[:, :, 0]))
    monkeypatch.setattr(pictures, "_STRIP_PIXELS", 64 * 7 + 1)
    strips = decode_picture(encoded_deep(deep)), decode_picture(encoded_deep(deep[:, :, 0]))
    assert all(map(np.array_equal, whole, strips))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_kinds_of_pixels_become_rgb(mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(decode_picture(encoded(picture, "TIFF")), expected)


def test_transparency_is_composited_over_black() -> None:
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    expected = np.rint(RGB * (alpha[:, :, None] / 255))
    rgba = Image.fromarray(np.dstack([RGB, alpha]))
    assert np.array_equal(decode_picture(encoded(rgba, "PNG")), expected)
    deep = np.dstack([RGB[:, :, ::-1], alpha]).astype(np.uint16) * 257
    assert np.array_equal(decode_picture(encoded_deep(deep)), expected)


def test_a_transparent_palette_entry_is_black() -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 255, 255, 9, 99, 200])
    picture.putpixel((2, 3), 0)
    rgb = decode_picture(encoded(picture, "PNG", transparency=0))
    assert rgb[3, 2].tolist() == [0, 0, 0]
    assert rgb[0, 0].tolist() == [9, 99, 200]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", FORMATS)
def test_orientation_is_applied_once_and_told_beforehand(name: str, orientation: int) -> None:
    data = encoded(Image.fromarray(RGB), name, exif=oriented(orientation))
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    pixels = decode_picture(data)
    assert np.array_equal(pixels, expected)
    header = read_header(io.BytesIO(data))
    assert (header.height, header.width) == pixels.shape[:2]


def test_the_rotation_of_a_picture_is_told() -> None:
    data = encoded(Image.fromarray(RGB), "PNG", exif=oriented(6))  # to be turned clockwise
    assert read_header(io.BytesIO(data)).rotation == 270


@pytest.mark.parametrize("where", ["before the pixels", "after the pixels"])
def test_orientation_of_sixteen_bits_is_applied(where: str) -> None:
    png = encoded_deep(RGB[:, :, ::-1].astype(np.uint16) * 257)
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    position = 33 if where == "before the pixels" else len(png) - 12
    data = png[:position] + chunk + png[position:]
    assert np.array_equal(decode_picture(data), np.rot90(RGB, -1))
    assert read_header(io.BytesIO(data)).height == RGB.shape[1]


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_picture_is_refused(name: str) -> None:
    data = encoded(Image.fromarray(noise()), name)
    reason = refusal(lambda: decode_picture(data[: len(data) * 2 // 3]))
    assert reason == "corrupt"


def test_a_truncated_deep_picture_is_corrupt() -> None:
    data = encoded_deep(noise(np.uint16))
    assert refusal(lambda: decode_picture(data[: len(data) * 2 // 3])) == "corrupt"


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a" + bytes(30)])
def test_what_is_no_picture_is_corrupt(data: bytes) -> None:
    assert refusal(lambda: decode_picture(data)) == "corrupt"
    assert refusal(lambda: read_header(io.BytesIO(data))) == "corrupt"
    assert not is_picture(data)


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_are_told_by_their_first_bytes(name: str) -> None:
    assert is_picture(encoded(Image.fromarray(RGB), name)[:12])


def test_a_picture_is_measured_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(pictures, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert refusal(lambda: decode_picture(data)) == "too_large"


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_not_decoded_for_the_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(noise()), name)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    header = read_header(io.BytesIO(data))
    assert (header.format, header.height, header.width) == (name, 64, 64)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_pictures_of_several_frames_are_refused(name: str) -> None:
    first, second = (Image.fromarray(frame) for frame in gradient(2, 16, 16))
    data = encoded(first, name, save_all=True, append_images=[second])
    assert refusal(lambda: decode_picture(data)) == "multi_frame_image"


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(PictureError("corrupt", "why")))
    assert (error.reason, error.detail, str(error)) == ("corrupt", "why", "corrupt: why")


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_picture_keeps_what_is_under_transparency(deep: bool) -> None:
    pixels = np.dstack([noise(), noise()[::-1, :, :1]])
    data = encoded_deep(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257)
    picture = decode_whole_picture(data if deep else encoded(Image.fromarray(pixels), "PNG"))
    assert np.array_equal(picture.rgb, pixels[:, :, :3])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, pixels[:, :, 3])
    assert not picture.is_gray


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "RGB", "RGBA", "CMYK", "P"])
def test_a_whole_picture_tells_its_kind(mode: str) -> None:
    image = Image.fromarray(RGB[:, :, 0]).convert("I;16") if mode == "I;16" else None
    image = image or Image.fromarray(RGB).convert(mode)
    name = "JPEG" if mode == "CMYK" else "PNG"
    picture = decode_whole_picture(
        encoded(image, name, icc_profile=b"profile", exif=oriented(6).tobytes())
    )
    assert picture.is_gray == (mode in ("1", "L", "LA", "I;16"))
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA"))
    assert picture.rgb.shape == (40, 24, 3)  # upright
    # The numbers of CMYK and of two levels become others.
    assert picture.icc_profile == (None if mode in ("CMYK", "1") else b"profile")
