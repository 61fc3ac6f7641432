"""MATLAB's bicubic interpolation: the baseline, and what the network adds to."""

import torch
from torch import Tensor
from torch.nn import functional as F

_PAD_PIXELS = 16


def bicubic(x_NCHW: Tensor, factor: float) -> Tensor:
    """Resize as MATLAB's imresize does: bicubic with a = -0.5, antialiased when shrinking.

    Args:
        x_NCHW: floating point.
        factor: size after, divided by size before; `16 * factor` must be whole.

    Returns:
        (N, C, H * factor, W * factor), not clamped.
    """
    # torch drops taps beyond the border, MATLAB mirrors the picture with its edge repeated.
    padded = x_NCHW
    for axis in (-2, -1):
        padded = padded.index_select(axis, _mirrored(x_NCHW.shape[axis], x_NCHW.device))
    resized = F.interpolate(padded, scale_factor=factor, mode="bicubic", antialias=True)
    edge = round(_PAD_PIXELS * factor)
    return resized[..., edge:-edge, edge:-edge]


def _mirrored(size: int, device: torch.device) -> Tensor:
    """Indices ... 1 0 | 0 1 ... size-1 | size-1 size-2 ..., with the pad on both sides."""
    # Made on the device: a copy from this machine's memory would wait for the GPU.
    index = torch.arange(-_PAD_PIXELS, size + _PAD_PIXELS, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
