"""Resampling: MATLAB's antialiased bicubic, the BD kernel, and OpenCV's aliased resizes."""

import functools
from collections.abc import Callable

import cv2
import numpy as np
import scipy.sparse

from schemas.draw import ResizeKernel

cv2.ipp.setUseIPP(False)  # its code paths differ from CPU to CPU, and so do their pixels

_BD_TAPS, _BD_SIGMA, _BD_SCALE, _BD_FIRST = 12, 1.6, 4, -4
_OPENCV = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}


def resize(image: np.ndarray, height: int, width: int, kernel: ResizeKernel) -> np.ndarray:
    """Resample one image; the centre stays where it is.

    Args:
        image: (H, W, 3) float32.
        height: rows wanted.
        width: columns wanted.
        kernel: matlab_bicubic is MATLAB's imresize; bd is a 12x12 Gaussian of sigma 1.6, every
            fourth pixel (FTVSR's BD degradation, cavsr protocol); the others are OpenCV's,
            which do not antialias.

    Returns:
        (height, width, 3) float32, not clipped.

    Raises:
        ValueError: if bd is asked for another factor than 4.
    """
    if kernel in _OPENCV:
        return cv2.resize(image, (width, height), interpolation=_OPENCV[kernel])
    weights = _bicubic_weights if kernel == "matlab_bicubic" else _bd_weights
    return _separable(image, weights, height, width)


def resize_uint8(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """MATLAB's bicubic on an (H, W, 3) uint8 image, rounded to uint8."""
    resized = resize(image.astype(np.float32), height, width, "matlab_bicubic")
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _separable(
    image: np.ndarray,
    weights: Callable[[int, int], scipy.sparse.csr_array],
    height: int,
    width: int,
) -> np.ndarray:
    old_height, old_width, channels = image.shape
    # Sparse products are equal on every CPU; dense ones (BLAS) are not.
    columns = weights(old_height, height) @ image.reshape(old_height, -1)
    turned = columns.reshape(height, old_width, channels).transpose(1, 0, 2)
    rows = weights(old_width, width) @ np.ascontiguousarray(turned).reshape(old_width, -1)
    resized = rows.reshape(width, height, channels).transpose(1, 0, 2)
    return np.ascontiguousarray(resized, dtype=np.float32)


@functools.lru_cache(maxsize=128)
def _bicubic_weights(old: int, new: int) -> scipy.sparse.csr_array:
    """(new, old) weights of MATLAB's imresize: a = -0.5, widened when shrinking, mirrored."""
    factor = new / old
    stretch = min(factor, 1.0)
    support = 4 / stretch
    centres = (np.arange(new) + 0.5) / factor - 0.5
    taps = int(np.ceil(support)) + 2
    positions = np.floor(centres - support / 2).astype(int)[:, None] + np.arange(taps)
    weights = _cubic((centres[:, None] - positions) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return _banded(weights, _mirrored(positions, old), old)


def _cubic(x: np.ndarray) -> np.ndarray:
    # Keys 1981 with a = -0.5.
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=128)
def _bd_weights(old: int, new: int) -> scipy.sparse.csr_array:
    """(new, old) weights of the BD kernel: taps 4i-4 .. 4i+7, border repeated."""
    if old != new * _BD_SCALE:
        raise ValueError(f"the bd kernel shrinks by 4, not from {old} to {new}")
    offsets = np.arange(_BD_TAPS) - (_BD_TAPS - 1) / 2
    gaussian = np.exp(-(offsets**2) / (2 * _BD_SIGMA**2))
    positions = _BD_SCALE * np.arange(new)[:, None] + _BD_FIRST + np.arange(_BD_TAPS)
    weights = np.broadcast_to(gaussian / gaussian.sum(), positions.shape)
    return _banded(weights, np.clip(positions, 0, old - 1), old)


def _mirrored(positions: np.ndarray, size: int) -> np.ndarray:
    """Fold positions outside the image back, the border pixel twice: -1 -> 0, -2 -> 1."""
    folded = np.mod(positions, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _banded(weights: np.ndarray, columns: np.ndarray, old: int) -> scipy.sparse.csr_array:
    rows = np.broadcast_to(np.arange(len(weights))[:, None], columns.shape)
    matrix = scipy.sparse.coo_array(
        (weights.ravel(), (rows.ravel(), columns.ravel())), shape=(len(weights), old)
    )
    return matrix.tocsr().astype(np.float32)
