"""Unsharp masking."""

import numpy as np

from schemas.draw import SharpenDraw, at
from transforms.blur import Kernel, convolve


def sharpen(image: np.ndarray, draw: SharpenDraw, frame: int) -> np.ndarray:
    """Add detail where there is enough of it, as Real-ESRGAN does.

    With B the Gaussian blur and R = I - B(I): the mask |R| * 255 > threshold is blurred too, and
    decides how much of clip(I + amount * R) replaces I.

    Args:
        image: (H, W, 3) float32 in [0, 1]. To sharpen a part of a picture as if it were the
            whole, hand in `margin(draw.sigma)` pixels more on each side and cut them off.
        draw: amount, sigma, threshold.
        frame: display index, which picks the amount.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    kernel = _gaussian(draw.sigma)
    detail = convolve(image, kernel)
    np.subtract(image, detail, out=detail)  # in place from here on: half of the time is memory
    mask = np.abs(detail) > np.float32(draw.threshold / 255)
    share = convolve(mask.astype(np.float32), kernel)
    change = np.multiply(detail, np.float32(at(draw.amount, frame)), out=detail)
    change += image
    np.clip(change, 0, 1, out=change)
    change -= image
    change *= share
    change += image
    return np.clip(change, 0, 1, out=change)


def margin(sigma: float) -> int:
    """How far the result at a pixel looks: the radius of two blurs, pixels."""
    return 2 * _radius(sigma)


def _radius(sigma: float) -> int:
    # Real-ESRGAN pairs sigma 8 with 51 taps, 25 to each side; the same reach for other sigmas.
    return max(1, int(3.2 * sigma))


def _gaussian(sigma: float) -> Kernel:
    return Kernel("isotropic", 2 * _radius(sigma) + 1, sigma, sigma)
