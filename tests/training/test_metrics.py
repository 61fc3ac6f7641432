import numpy as np
import pytest
import scipy.signal
import torch

from training.metrics import (
    comisr_ssim_rgb,
    comisr_ssim_y,
    luma,
    psnr_rgb,
    psnr_y,
    ssim_rgb,
    ssim_y,
    to_8_bits,
)


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


def windows_ssim(a: np.ndarray, b: np.ndarray, window: np.ndarray, constants: float) -> float:
    """By its definition, over all windows inside two (H, W) pictures."""

    def mean(x: np.ndarray) -> np.ndarray:
        return scipy.signal.convolve2d(x, window, mode="valid")

    unbiased = 1 if constants == 255 else window.size / (window.size - 1)
    c1, c2 = (0.01 * constants) ** 2, (0.03 * constants) ** 2
    mean_a, mean_b = mean(a), mean(b)
    variance_a = unbiased * (mean(a * a) - mean_a**2)
    variance_b = unbiased * (mean(b * b) - mean_b**2)
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((above / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean())


def test_similarity_is_that_of_the_papers() -> None:
    a, b = two_pictures(0)
    bell = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    channels = [windows_ssim(a[0, c].numpy(), b[0, c].numpy(), window, 255) for c in range(3)]
    assert ssim_rgb(a, b).item() == pytest.approx(np.mean(channels), abs=1e-9)
    y_a, y_b = (luma(x)[0, 0].numpy() for x in (a, b))
    assert ssim_y(a, b).item() == pytest.approx(windows_ssim(y_a, y_b, window, 255), abs=1e-9)
    assert ssim_y(a, b).item() < 0.99
    assert ssim_rgb(a, a).item() == 1


def test_comisr_counts_similarity_in_the_range_of_what_is_restored() -> None:
    restored, target = two_pictures(0)
    restored = restored / 2
    y, target_y = (luma(x)[0, 0].numpy() for x in (restored, target))
    expected = windows_ssim(y, target_y, np.full((7, 7), 1 / 49), float(np.ptp(y)))
    assert comisr_ssim_y(restored, target).item() == pytest.approx(expected, abs=1e-9)
    flat = torch.full((1, 3, 9, 9), 7.0, dtype=torch.float64)
    assert comisr_ssim_rgb(flat, flat).item() == 1
