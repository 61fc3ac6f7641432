"""Networks for single pictures: VCISR's use of the data.

They take clips like the others, and restore each frame for itself.

Shapes: B clips, T frames, N = B * T pictures, C channels, H and W LR rows and columns, S = scale.
"""

from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.record import Record
from training.config import Depth, Scale, Width
from training.models.layers import (
    LiteHead,
    ResidualBlock,
    compile_forward,
    conv3x3,
    enlarged,
    small_,
)


class CompactConfig(Record):
    """A small residual network (EDSR-like); the defaults train on a CPU."""

    kind: Literal["compact"] = "compact"
    """the network"""
    scale: Scale = 4
    """HR size divided by LR size"""
    channels: Width = 32
    """C"""
    blocks: Depth = 8
    """residual blocks"""


class RrdbConfig(Record):
    """RRDBNet (ESRGAN, section 3.1); the defaults are its."""

    kind: Literal["rrdb"] = "rrdb"
    """the network"""
    scale: Scale = 4
    """HR size divided by LR size, a power of 2"""
    channels: Width = 64
    """C"""
    blocks: Depth = 23
    """residual-in-residual dense blocks"""
    growth: Width = 32
    """channels that each convolution of a dense block adds"""

    @field_validator("scale")
    @classmethod
    def _doubles(cls, scale: int) -> int:
        if scale.bit_count() != 1:
            raise ValueError(f"RRDBNet is for scales that are powers of 2, not {scale}")
        return scale


class _ImageNetwork(nn.Module):
    """A network of pictures with the interface of networks of clips."""

    def forward(self, lr_BTCHW: Tensor, *metadata: Tensor | None) -> Tensor:
        """Super-resolve each frame.

        Args:
            lr_BTCHW: (B, T, 3, H, W) float32 RGB in [0, 1].
            metadata: of the codec; not looked at.

        Returns:
            (B, T, 3, S * H, S * W) RGB, not clamped.
        """
        return self.pictures(lr_BTCHW.flatten(0, 1)).unflatten(0, lr_BTCHW.shape[:2])

    def restorations(self, lr_BTCHW: Tensor, *metadata: Tensor | None) -> list[Tensor]:
        """`forward`'s output alone."""
        return [self(lr_BTCHW)]

    def pictures(self, lr_NCHW: Tensor) -> Tensor:
        """Super-resolve pictures."""
        raise NotImplementedError


class Compact(_ImageNetwork):
    """Residual blocks at the size of LR, and one convolution to HR; starts as bicubic."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.head = conv3x3(3, channels)
        self.trunk = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(config.blocks)), conv3x3(channels, channels)
        )
        self.upsample = LiteHead(channels, config.scale)

    def compile_steps(self) -> None:
        """Compile what repeats."""
        compile_forward(self.trunk)

    def pictures(self, lr_NCHW: Tensor) -> Tensor:
        shallow_NCHW = self.head(lr_NCHW)
        deep_NCHW = shallow_NCHW + self.trunk(shallow_NCHW)
        return enlarged(lr_NCHW, self.config.scale) + self.upsample(deep_NCHW)


class _DenseBlock(nn.Module):
    """Five convolutions, each of all that came before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        inputs = [channels + i * growth for i in range(5)]
        outputs = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(
            small_(conv3x3(*sizes)) for sizes in zip(inputs, outputs, strict=True)
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        seen = [x_NCHW]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x_NCHW + 0.2 * self.convs[-1](torch.cat(seen, 1))


class _Rrdb(nn.Module):
    """Three dense blocks, added to the input by a fifth."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(_DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW + 0.2 * self.dense(x_NCHW)


class RrdbNet(_ImageNetwork):
    """Residual-in-residual dense blocks, then nearest upsampling with convolutions (ESRGAN)."""

    def __init__(self, config: RrdbConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.head = conv3x3(3, channels)
        self.trunk = nn.Sequential(
            *(_Rrdb(channels, config.growth) for _ in range(config.blocks)),
            conv3x3(channels, channels),
        )
        num_doublings = config.scale.bit_length() - 1
        self.ups = nn.ModuleList(conv3x3(channels, channels) for _ in range(num_doublings))
        self.last = nn.Sequential(
            conv3x3(channels, channels), nn.LeakyReLU(0.2), conv3x3(channels, 3)
        )

    def compile_steps(self) -> None:
        """Compile what repeats."""
        for block in self.trunk:
            compile_forward(block)

    def pictures(self, lr_NCHW: Tensor) -> Tensor:
        shallow_NCHW = self.head(lr_NCHW)
        x = shallow_NCHW + self.trunk(shallow_NCHW)
        for up in self.ups:
            x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(x)
