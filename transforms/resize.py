"""Resampling: MATLAB's imresize, the BD kernel, BSRGAN's Gaussian, OpenCV's and torch's."""

import functools
from collections.abc import Callable

import cv2
import numpy as np
import scipy.sparse

from schemas.draw import ResizeKernel

_BD_TAPS, _BD_SIGMA, _BD_SCALE, _BD_FIRST = 12, 1.6, 4, -4
_GAUSSIAN_TAPS = 25
_OPENCV = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    kernel: ResizeKernel,
    *,
    sigma: float = 0.0,
    factor: float = 0.0,
) -> np.ndarray:
    """Resample one image; the centre stays where it is, unless `factor` moves it.

    Args:
        image: (H, W, 3) float32.
        height: rows wanted.
        width: columns wanted.
        kernel: matlab_bicubic and matlab_bilinear are MATLAB's imresize, antialiased; bd is a
            12x12 Gaussian of sigma 1.6, every fourth pixel (FTVSR's BD degradation, cavsr
            protocol); gaussian is BSRGAN's, 25x25, for whole factors down; area, bilinear and
            bicubic are OpenCV's, torch_* are those of torch.nn.functional.interpolate, both
            without antialiasing (but area is a mean when shrinking).
        sigma: of the gaussian kernel, pixels of `image`.
        factor: torch_bilinear and torch_bicubic take positions from it instead of from the sizes,
            as interpolate(scale_factor=...) does; 0: from the sizes.

    Returns:
        (height, width, 3) float32, not clipped.

    Raises:
        ValueError: if bd is asked for another factor than 4, gaussian for a factor that is not
            whole or without a sigma.
    """
    if kernel in _OPENCV:
        # Its code differs from CPU to CPU, and so do its pixels; the switch is the thread's.
        cv2.ipp.setUseIPP(False)
        return cv2.resize(image, (width, height), interpolation=_OPENCV[kernel])
    old_height, old_width, channels = image.shape
    # Sparse products are equal on every CPU; dense ones (BLAS) are not.
    down = _weights(kernel, old_height, height, sigma, factor)
    across = _weights(kernel, old_width, width, sigma, factor)
    columns = (down @ image.reshape(old_height, -1)).reshape(height, old_width, channels)
    rows = (across @ _turned(columns).reshape(old_width, -1)).reshape(width, height, channels)
    return _turned(rows)


def resize_uint8(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """MATLAB's bicubic on an (H, W, 3) uint8 image, rounded to uint8."""
    resized = resize(image.astype(np.float32), height, width, "matlab_bicubic")
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _turned(image: np.ndarray) -> np.ndarray:
    """Rows and columns swapped; several times faster than a copy by NumPy."""
    return cv2.transpose(image)


@functools.lru_cache(maxsize=128)
def _weights(
    kernel: ResizeKernel, old: int, new: int, sigma: float, factor: float
) -> scipy.sparse.csr_array:
    """(new, old) float32: what each pixel after takes of each pixel before, along one axis."""
    match kernel:
        case "matlab_bicubic":
            return _matlab_weights(old, new, _cubic, 4)
        case "matlab_bilinear":
            return _matlab_weights(old, new, _triangle, 2)
        case "bd":
            return _bd_weights(old, new)
        case "gaussian":
            return _gaussian_weights(old, new, sigma)
        case "torch_area":
            return _torch_area_weights(old, new)
        case "torch_bilinear":
            # Where the size stays, torch copies, whatever the factor; bicubic does not.
            positions = _torch_positions(old, new, factor if new != old else 0)
            return _torch_bilinear_weights(positions, old)
        case "torch_bicubic":
            return _torch_bicubic_weights(_torch_positions(old, new, factor), old)
        case _:
            raise ValueError(f"{kernel = }: expected one that is not OpenCV's")


def _matlab_weights(
    old: int, new: int, shape: Callable[[np.ndarray], np.ndarray], support: int
) -> scipy.sparse.csr_array:
    """MATLAB's imresize: the kernel is widened when shrinking, borders are mirrored."""
    factor = new / old
    stretch = min(factor, 1.0)
    width = support / stretch
    centres = (np.arange(new) + 0.5) / factor - 0.5
    taps = int(np.ceil(width)) + 2
    positions = np.floor(centres - width / 2).astype(int)[:, None] + np.arange(taps)
    weights = shape((centres[:, None] - positions) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return _banded(weights, _mirrored(positions, old), old)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    # Keys 1981: a = -0.5 is MATLAB's and his own, torch takes -0.75.
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1 - np.abs(x))


def _bd_weights(old: int, new: int) -> scipy.sparse.csr_array:
    """The BD kernel: taps 4i-4 .. 4i+7, border repeated."""
    if old != new * _BD_SCALE:
        raise ValueError(f"the bd kernel shrinks by 4, not from {old} to {new}")
    offsets = np.arange(_BD_TAPS) - (_BD_TAPS - 1) / 2
    gaussian = np.exp(-(offsets**2) / (2 * _BD_SIGMA**2))
    positions = _BD_SCALE * np.arange(new)[:, None] + _BD_FIRST + np.arange(_BD_TAPS)
    weights = np.broadcast_to(gaussian / gaussian.sum(), positions.shape)
    return _banded(weights, np.clip(positions, 0, old - 1), old)


def _gaussian_weights(old: int, new: int, sigma: float) -> scipy.sparse.csr_array:
    """BSRGAN's Gaussian: moved to the centre of each block, borders mirrored without the edge.

    Its taps are moved by linear interpolation between those of a centred Gaussian, so blocks of
    even size see one that is a little wider.
    """
    block = old // new
    if old != new * block:
        raise ValueError(f"the gaussian kernel shrinks by whole factors, not from {old} to {new}")
    if sigma <= 0:
        raise ValueError(f"{sigma = }: the gaussian kernel needs one above 0")
    index = np.arange(_GAUSSIAN_TAPS)
    centred = np.exp(-((index - _GAUSSIAN_TAPS // 2) ** 2) / (2 * sigma**2))
    moved = np.interp(index + (block - 1) / 2, index, centred)
    # A convolution: the taps count backwards.
    positions = block * np.arange(new)[:, None] + _GAUSSIAN_TAPS // 2 - index
    weights = np.broadcast_to(moved / moved.sum(), positions.shape)
    return _banded(weights, _mirrored_101(positions, old), old)


def _torch_area_weights(old: int, new: int) -> scipy.sparse.csr_array:
    """Adaptive average pooling: the mean of all pixels that a new one touches."""
    index = np.arange(new)
    first, end = index * old // new, -(-(index + 1) * old // new)
    positions = first[:, None] + np.arange((end - first).max())
    weights = (positions < end[:, None]) / (end - first)[:, None]
    return _banded(weights, np.minimum(positions, old - 1), old)


def _torch_positions(old: int, new: int, factor: float) -> np.ndarray:
    """Where torch samples (align_corners=False), pixels before."""
    step = 1 / factor if factor > 0 else old / new
    return (np.arange(new) + 0.5) * step - 0.5


def _torch_bilinear_weights(positions: np.ndarray, old: int) -> scipy.sparse.csr_array:
    positions = np.maximum(positions, 0)
    first = np.floor(positions).astype(int)
    share = positions - first
    taps = np.minimum(first[:, None] + np.arange(2), old - 1)
    return _banded(np.stack([1 - share, share], axis=1), taps, old)


def _torch_bicubic_weights(positions: np.ndarray, old: int) -> scipy.sparse.csr_array:
    taps = np.floor(positions).astype(int)[:, None] + np.arange(-1, 3)
    weights = _cubic(positions[:, None] - taps, a=-0.75)
    return _banded(weights, np.clip(taps, 0, old - 1), old)


def _mirrored(positions: np.ndarray, size: int) -> np.ndarray:
    """Fold positions outside the image back, the border pixel twice: -1 -> 0, -2 -> 1."""
    folded = np.mod(positions, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _mirrored_101(positions: np.ndarray, size: int) -> np.ndarray:
    """Fold positions outside the image back, the border pixel once: -1 -> 1, -2 -> 2."""
    folded = np.mod(positions, max(1, 2 * size - 2))
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def _banded(weights: np.ndarray, columns: np.ndarray, old: int) -> scipy.sparse.csr_array:
    rows = np.broadcast_to(np.arange(len(weights))[:, None], columns.shape)
    matrix = scipy.sparse.coo_array(
        (weights.ravel(), (rows.ravel(), columns.ravel())), shape=(len(weights), old)
    ).tocsr()
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)
