import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.draw import SharpenDraw
from tests.pictures import texture
from transforms.pixels import to_float
from transforms.sharpen import margin, sharpen


def sharpen_draw(amount: float = 0.5, sigma: float = 8, threshold: float = 10) -> SharpenDraw:
    return SharpenDraw(amount=[amount], sigma=sigma, threshold=threshold)


def real_esrgan_usm(image: np.ndarray, amount: float, threshold: float, taps: int) -> np.ndarray:
    """Unsharp masking as Real-ESRGAN words it, in float64; OpenCV picks sigma by the taps."""
    wide = image.astype(np.float64)
    blurred = cv2.GaussianBlur(wide, (taps, taps), 0)
    residual = wide - blurred
    soft = cv2.GaussianBlur((np.abs(residual) * 255 > threshold).astype(float), (taps, taps), 0)
    sharp = np.clip(wide + amount * residual, 0, 1)
    return soft * sharp + (1 - soft) * wide


@pytest.mark.parametrize(("amount", "threshold"), [(0.5, 10), (1.5, 10), (0.3, 3)])
def test_it_is_real_esrgans_usm(amount: float, threshold: float) -> None:
    image = to_float(texture(150, 131))
    expected = real_esrgan_usm(image, amount, threshold, taps=51)
    sharp = sharpen(image, sharpen_draw(amount=amount, threshold=threshold), 0)
    assert np.abs(expected - image).max() > 0.05
    # A pixel whose residual is at the threshold to within rounding may be in one mask only.
    assert np.abs(sharp - expected).max() * 255 < 0.1
    assert np.abs(sharp - expected).mean() * 255 < 1e-3


def test_details_below_the_threshold_stay() -> None:
    image = np.full((64, 64, 3), 0.5, np.float32)
    image[::2] += 15 / 255  # residuals of 7.5 levels
    assert np.abs(sharpen(image, sharpen_draw(), 0) - image).max() < 1e-6
    lower = sharpen(image, sharpen_draw(threshold=5), 0)
    assert np.ptp(lower) > np.ptp(image) * 1.4


def test_the_amount_is_that_of_the_frame_and_0_changes_nothing() -> None:
    image = to_float(texture(60, 60))
    draw = sharpen_draw().model_copy(update={"amount": [0.0, 0.5, 1.0]})
    changes = [np.abs(sharpen(image, draw, t) - image).mean() for t in range(3)]
    assert changes[0] < 1e-6
    assert changes[2] > 1.5 * changes[1] > 0


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0, 8.0])
def test_a_part_with_a_margin_is_sharpened_as_in_the_whole(sigma: float) -> None:
    image = to_float(texture(260, 280))
    draw = sharpen_draw(sigma=sigma)
    side = margin(sigma)
    whole = sharpen(image, draw, 0)[110:150, 120:170]
    part = image[110 - side : 150 + side, 120 - side : 170 + side]
    inner = sharpen(part, draw, 0)[side:-side, side:-side]
    assert np.abs(inner - whole).max() < 1e-5


def test_the_margin_of_sigma_8_is_two_radii_of_51_taps() -> None:
    assert margin(8.0) == 2 * 25


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    amount=st.floats(0, 3),
    sigma=st.floats(0.1, 9),
    threshold=st.floats(0, 60),
)
def test_any_picture_is_sharpened_into_its_range(
    height: int, width: int, amount: float, sigma: float, threshold: float
) -> None:
    image = np.random.default_rng(5).random((height, width, 3), dtype=np.float32)
    before = image.copy()
    sharp = sharpen(image, sharpen_draw(amount, sigma, threshold), 0)
    assert sharp.shape == image.shape and sharp.dtype == np.float32
    assert sharp.min() >= 0 and sharp.max() <= 1
    assert np.array_equal(sharp, sharpen(image, sharpen_draw(amount, sigma, threshold), 0))
    assert np.array_equal(image, before)
