import numpy as np
import pytest
import torch

from training.metrics import luma, psnr_rgb, psnr_y, to_8_bits


def two_pictures(crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    a = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    noise = np.random.default_rng(1).integers(-20, 21, a.shape)
    b = np.clip(a + noise, 0, 255).astype(np.uint8)
    inner = slice(crop, -crop or None)
    first, second = (torch.from_numpy(x).movedim(-1, 0)[None, :, inner, inner] for x in (a, b))
    return first.double(), second.double()


@pytest.mark.parametrize(
    ("crop", "y_db", "rgb_db"), [(0, 31.683574, 26.801011), (4, 31.668476, 26.759911)]
)
def test_psnr_is_that_of_the_papers(crop: int, y_db: float, rgb_db: float) -> None:
    pictures = two_pictures(crop)
    assert psnr_y(*pictures).item() == pytest.approx(y_db, abs=2e-6)
    assert psnr_rgb(*pictures).item() == pytest.approx(rgb_db, abs=2e-6)


def test_equal_pictures_have_a_finite_psnr() -> None:
    picture, _ = two_pictures(0)
    assert psnr_rgb(picture, picture).tolist() == [100]


def test_luma_spans_the_limited_range() -> None:
    black_and_white = torch.tensor([0.0, 255.0]).expand(1, 3, 1, 2)
    assert luma(black_and_white).flatten().tolist() == pytest.approx([16, 235], abs=1e-3)


def test_outputs_are_rounded_to_8_bits() -> None:
    x = torch.tensor([-0.1, 0.5 / 255 + 1e-4, 0.4 / 255, 1.2])
    assert to_8_bits(x).tolist() == [0, 1, 0, 255]
