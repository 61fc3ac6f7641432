from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import MediaError
from pipelines.images import read_image, read_image_header
from tests.synthetic import gradient
from transforms import pictures
from transforms.pictures import decode_picture

RGB = gradient(1, 24, 40)[0]


def _refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(MediaError) as caught:
        action()
    return caught.value.reason


@pytest.mark.parametrize("name", ["夜 ü.png", "a.jpg", "a.webp", "a.tif"])
def test_an_image_file_is_read_as_its_bytes_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(RGB).save(path)
    assert np.array_equal(read_image(str(path)), decode_picture(path.read_bytes()))
    header = read_image_header(str(path))
    assert (header.height, header.width, header.mode) == (24, 40, "RGB")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_truncated_image_is_corrupt(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert _refusal(lambda: read_image(str(path))) == "corrupt"


def test_an_image_is_measured_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    monkeypatch.setattr("pipelines.images.decode_picture", None)
    assert _refusal(lambda: read_image(str(tmp_path / "a.png"))) == "too_large"


def test_a_missing_image_is_unreadable_and_its_place_is_not_told(tmp_path: Path) -> None:
    path = str(tmp_path / "none.png")
    assert _refusal(lambda: read_image(path)) == "unreadable"
    with pytest.raises(MediaError) as caught:
        read_image_header(path)
    assert str(tmp_path) not in str(caught.value)
