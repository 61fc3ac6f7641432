"""Compression-aware modulation of features (CAVSR's CAM).

Shapes: N pictures, C channels, H and W LR rows and columns, D channels of the compression
representation, h and w its rows and columns.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from training.models.encoder import ENCODER_STRIDE
from training.models.layers import conv3x3, zero_

_SLOPE = 0.01


class Affine(nn.Module):
    """x -> gamma x + beta with gamma and beta read from the code; starts as the identity."""

    def __init__(self, channels: int, code_channels: int) -> None:
        super().__init__()
        self.gamma = _read_code(channels, code_channels, start=1)
        self.beta = _read_code(channels, code_channels, start=0)

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        gamma_NCHW = _enlarge(self.gamma(code_NDhw), x_NCHW)
        beta_NCHW = _enlarge(self.beta(code_NDhw), x_NCHW)
        return gamma_NCHW * x_NCHW + beta_NCHW


def _read_code(channels: int, code_channels: int, start: float) -> nn.Sequential:
    last = zero_(nn.Conv2d(channels, channels, 1), bias=start)
    return nn.Sequential(nn.Conv2d(code_channels, channels, 1), nn.LeakyReLU(_SLOPE), last)


def _enlarge(x_NChw: Tensor, like_NCHW: Tensor) -> Tensor:
    # 1x1 convolutions commute with nearest upsampling: reading the code at its own size first
    # gives the same numbers for a sixteenth of the work.
    large = F.interpolate(x_NChw, scale_factor=ENCODER_STRIDE, mode="nearest")
    return large[..., : like_NCHW.shape[-2], : like_NCHW.shape[-1]]


class ModulatedBlock(nn.Module):
    """affine - LReLU - conv, twice, added to the input."""

    def __init__(self, channels: int, code_channels: int) -> None:
        super().__init__()
        self.affines = nn.ModuleList(Affine(channels, code_channels) for _ in range(2))
        self.convs = nn.ModuleList(conv3x3(channels, channels) for _ in range(2))

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        y_NCHW = x_NCHW
        for affine, conv in zip(self.affines, self.convs, strict=True):
            y_NCHW = conv(F.leaky_relu(affine(y_NCHW, code_NDhw), _SLOPE))
        return x_NCHW + y_NCHW


class Modulation(nn.Module):
    """Modulated blocks and a convolution, added to the input; in front of the propagation.

    CAVSR's release computes this and throws it away: it returns the input twice over.
    """

    def __init__(self, channels: int, code_channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ModulatedBlock(channels, code_channels) for _ in range(blocks))
        self.last = conv3x3(channels, channels)

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        y_NCHW = x_NCHW
        for block in self.blocks:
            y_NCHW = block(y_NCHW, code_NDhw)
        return x_NCHW + self.last(y_NCHW)
