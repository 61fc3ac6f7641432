"""How far pictures are from what they should be, as the tables of papers count it.

Shapes: N pictures, C channels, H and W rows and columns.
"""

import torch
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
