import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines import images
from pipelines.errors import MediaError
from pipelines.images import read_image, read_image_header
from tests.synthetic import gradient

RGB = gradient(1, 24, 40)[0]


def _refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(MediaError) as caught:
        action()
    return caught.value.reason


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 11, 3), np.uint16)
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), deep[:, :, ::-1])
        assert np.array_equal(read_image(str(tmp_path / name)), np.rint(deep / 257))
        assert read_image_header(str(tmp_path / name)).mode == "RGB;16"
    cv2.imwrite(str(tmp_path / "grey.png"), deep[:, :, 0])
    grey = read_image(str(tmp_path / "grey.png"))
    assert np.array_equal(grey[:, :, 2], np.rint(deep[:, :, 0] / 257))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_kinds_of_pixels_become_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    path = str(tmp_path / "a.tif")
    picture.save(path)
    assert np.array_equal(read_image(path), np.asarray(picture.convert("RGB")))


def test_transparency_is_composited_over_black(tmp_path: Path) -> None:
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    path = str(tmp_path / "a.png")
    Image.fromarray(np.dstack([RGB, alpha])).save(path)
    expected = np.rint(RGB * (alpha[:, :, None] / 255))
    assert np.array_equal(read_image(path), expected)
    deep = np.dstack([RGB[:, :, ::-1], alpha]).astype(np.uint16) * 257
    cv2.imwrite(path, deep)
    assert np.array_equal(read_image(path), expected)


def test_a_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 255, 255, 9, 99, 200])
    picture.putpixel((2, 3), 0)
    picture.save(tmp_path / "a.png", transparency=0)
    rgb = read_image(str(tmp_path / "a.png"))
    assert rgb[3, 2].tolist() == [0, 0, 0]
    assert rgb[0, 0].tolist() == [9, 99, 200]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_orientation_is_applied_once(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    Image.fromarray(RGB).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(read_image(str(path)), expected)


def test_the_rotation_of_an_image_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert read_image_header(str(tmp_path / "a.png")).rotation == 270


def test_orientation_of_sixteen_bits_is_applied(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, RGB[:, :, ::-1].astype(np.uint16) * 257)
    png = Path(path).read_bytes()
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    Path(path).write_bytes(png[:33] + chunk + png[33:])
    assert np.array_equal(read_image(path), np.rot90(RGB, -1))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_truncated_image_is_corrupt(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert _refusal(lambda: read_image(str(path))) in ("corrupt", "unreadable")


def test_a_truncated_deep_image_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert _refusal(lambda: read_image(str(path))) == "corrupt"


def test_an_image_is_measured_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    assert _refusal(lambda: read_image(str(tmp_path / "a.png"))) == "too_large"


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_images_of_several_frames_are_refused(tmp_path: Path, name: str) -> None:
    first, second = (Image.fromarray(frame) for frame in gradient(2, 16, 16))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    assert _refusal(lambda: read_image(str(tmp_path / name))) == "multi_frame_image"


def test_a_missing_image_is_unreadable(tmp_path: Path) -> None:
    assert _refusal(lambda: read_image(str(tmp_path / "none.png"))) == "unreadable"
