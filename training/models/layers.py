"""Layers that several networks share.

Shapes: N pictures, C channels, H and W rows and columns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.resample import bicubic

SLOPE = 0.1
"""Of leaky rectifiers, where nothing else is said."""


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or halves it (rounding up) at stride 2."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def zero_(layer: nn.Conv2d, bias: float = 0) -> nn.Conv2d:
    """Make a layer start by putting out a constant, whatever its input."""
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def small_(layer: nn.Conv2d) -> nn.Conv2d:
    """He's initial weights times 0.1, as residual branches of BasicSR's networks start."""
    assert layer.bias is not None
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight *= 0.1
    return layer


def to_channels_last(network: nn.Module) -> None:
    """Lay weights out with their channels side by side: convolutions are faster so."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_forward(module: nn.Module) -> None:
    """Compile a module in place: for the first shape of its input, then for any."""
    # `module.compile()` leaves an nn.Sequential as it is: torch does not trace calls of its own
    # modules, only what they call.
    module.forward = torch.compile(module.forward)


def warp(x_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """Sample `x` at p + flow(p), bilinear; beyond the border its outermost pixels go on.

    Args:
        x_NCHW: what to sample, floating point.
        flow_N2HW: float32 (x, y), pixels.

    Returns:
        (N, C, H, W) of the type of `x`. Coordinates are float32 in any case: bfloat16 would be
        off by half a pixel from column 128 on.
    """
    height, width = x_NCHW.shape[-2:]
    rows = torch.arange(height, device=x_NCHW.device, dtype=torch.float32)
    columns = torch.arange(width, device=x_NCHW.device, dtype=torch.float32)
    x_NHW = columns + flow_N2HW[:, 0]
    y_NHW = rows[:, None] + flow_N2HW[:, 1]
    # align_corners=False: pixel i has its centre at (2 i + 1) / size - 1, for a size of 1 too.
    grid_NHW2 = torch.stack([(2 * x_NHW + 1) / width - 1, (2 * y_NHW + 1) / height - 1], -1)
    # On a CPU, torch's gradient at a NaN writes beyond the picture.
    sampled = F.grid_sample(
        x_NCHW.float(),
        grid_NHW2.nan_to_num(),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    # Sampling lays pictures out channel by channel; the convolutions behind would turn each
    # of their inputs back.
    return sampled.to(x_NCHW.dtype, memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """conv - ReLU - conv, added to the input (EDSR, section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = small_(conv3x3(channels, channels))
        self.second = small_(conv3x3(channels, channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW + self.second(F.relu(self.first(x_NCHW)))


class LiteHead(nn.Sequential):
    """Features to a picture of `scale` times their size, in one convolution; starts at 0."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(zero_(conv3x3(channels, 3 * scale**2)), nn.PixelShuffle(scale))


class FullHead(nn.Sequential):
    """Features to a picture by steps of 2 (or 3), with convolutions at the full size.

    Args:
        channels: C.
        scale: a power of 2, or 3.
        starts_at_zero: whether it puts out 0 at first, where it is added to something.
    """

    SCALES = (1, 2, 3, 4, 8)

    def __init__(self, channels: int, scale: int, starts_at_zero: bool) -> None:
        steps = [
            layer
            for factor in _factors(scale)
            for layer in (
                conv3x3(channels, channels * factor**2),
                nn.PixelShuffle(factor),
                nn.ReLU(),
            )
        ]
        last = conv3x3(channels, 3)
        super().__init__(
            *steps,
            conv3x3(channels, channels),
            nn.ReLU(),
            zero_(last) if starts_at_zero else last,
        )


def _factors(scale: int) -> list[int]:
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def enlarged(lr_NCHW: Tensor, scale: int) -> Tensor:
    """What a network's output is added to: LR by bicubic interpolation, float32."""
    return bicubic(lr_NCHW.float(), scale)
