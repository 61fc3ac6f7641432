"""How far pictures are from what they should be, as the tables of papers count it.

Shapes: N pictures, C channels, H and W rows and columns.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

_PEAK = 255
_MAX_PSNR_DB = 100


def to_8_bits(x: Tensor) -> Tensor:
    """[0, 1] to what a picture file would hold: clamped and rounded, float64 in [0, 255]."""
    return (x.double() * _PEAK).round().clamp(0, _PEAK)


def luma(rgb_NCHW: Tensor) -> Tensor:
    """Y of BT.601 in limited range: 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded.

    Args:
        rgb_NCHW: in [0, 255].

    Returns:
        (N, 1, H, W) in [16, 235].
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=rgb_NCHW.dtype, device=rgb_NCHW.device)
    return 16 + (rgb_NCHW * (weights / _PEAK)[:, None, None]).sum(1, keepdim=True)


def psnr_rgb(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture over all channels.

    Args:
        x_NCHW: in [0, 255].
        target_NCHW: in [0, 255].

    Returns:
        (N,) dB; 100 where the pictures are equal, so that means stay finite.
    """
    mean_square = (x_NCHW - target_NCHW).square().mean((1, 2, 3))
    return (10 * torch.log10(_PEAK**2 / mean_square)).clamp(max=_MAX_PSNR_DB)


def psnr_y(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """`psnr_rgb` of the luma of two RGB pictures."""
    return psnr_rgb(luma(x_NCHW), luma(target_NCHW))


def ssim_rgb(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """Structural similarity of each picture, the mean over its channels.

    Wang et al. 2004: a Gaussian window of 11x11, sigma 1.5, constants (0.01 * 255)^2 and
    (0.03 * 255)^2, means over the pixels whose window lies inside the picture.

    Args:
        x_NCHW: in [0, 255], sides of 11 or more.
        target_NCHW: in [0, 255].

    Returns:
        (N,) in [-1, 1], on the CPU; 1 where the pictures are equal.
    """
    return _similarity(
        x_NCHW,
        target_NCHW,
        lambda x_CHW: _PEAK,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def ssim_y(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """`ssim_rgb` of the luma of two RGB pictures."""
    return ssim_rgb(luma(x_NCHW), luma(target_NCHW))


def comisr_ssim_rgb(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """Structural similarity as COMISR's release counts it (`metrics.py`), like `ssim_rgb`.

    A uniform window of 7x7, sample covariances, and constants that follow from the range of the
    restored picture in place of 255. Not comparable with `ssim_rgb`.
    """
    # At least one level: a flat picture has no range to divide by.
    return _similarity(x_NCHW, target_NCHW, lambda x_CHW: max(1.0, float(np.ptp(x_CHW))))


def comisr_ssim_y(x_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """`comisr_ssim_rgb` of the luma of two RGB pictures."""
    return comisr_ssim_rgb(luma(x_NCHW), luma(target_NCHW))


def _similarity(
    x_NCHW: Tensor,
    target_NCHW: Tensor,
    range_of: Callable[[np.ndarray], float],
    **window: Any,
) -> Tensor:
    pairs = zip(x_NCHW.cpu().numpy(), target_NCHW.cpu().numpy(), strict=True)
    values = [
        structural_similarity(target, x, channel_axis=0, data_range=range_of(x), **window)
        for x, target in pairs
    ]
    return torch.tensor(values, dtype=torch.float64)
