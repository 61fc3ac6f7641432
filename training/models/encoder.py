"""The compression representation: how strongly, and as what type, a frame is compressed.

Shapes: N pictures, H and W LR rows and columns, D channels of the representation, h and w its
rows and columns, ceil(H/4) and ceil(W/4).
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from schemas.record import Record
from schemas.sample import FrameType
from training.config import Width
from training.models.layers import SLOPE, conv3x3

UNKNOWN_TYPE = -1
"""Stands for `FrameType.code` where a frame's type is not known."""
ENCODER_STRIDE = 4
"""LR pixels, in either direction, to one of the representation."""
_DETAIL_GAIN = 4  # contrast of details, to that of pictures; not tuned


class EncoderConfig(Record):
    """What decides the encoder's shape."""

    width: Width = 8
    """channels of the first stage; D is four times as many"""
    batch_norm: bool = False
    """normalise as CAVSR does; without, a frame's code does not depend on others in pretraining"""

    @property
    def code_channels(self) -> int:
        """D."""
        return 4 * self.width


class CompressionEncoder(nn.Module):
    """C = V + E (CAVSR, section 3.1): V of the picture, E of the frame type."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, code = config.width, config.code_channels
        sizes = [(3, width, 1), (width, width, 1)]
        sizes += [(width, 2 * width, 2), (2 * width, 2 * width, 1)]
        sizes += [(2 * width, code, 2), (code, code, 1)]
        self.image = nn.Sequential(
            *(layer for size in sizes for layer in _stage(*size, config.batch_norm))
        )
        _look_at_details(self.image[0])
        self.frame_type = nn.Sequential(
            nn.Embedding(len(FrameType), code),
            _he(nn.Linear(code, code)),
            nn.LeakyReLU(SLOPE),
            _he(nn.Linear(code, code)),
        )

    def forward(self, lr_NCHW: Tensor, frame_type_N: Tensor | None) -> Tensor:
        """The code of every frame; of the picture alone where no type is known.

        Args:
            lr_NCHW: RGB in [0, 1].
            frame_type_N: int64 `FrameType.code`, or `UNKNOWN_TYPE`.

        Returns:
            (N, D, h, w).
        """
        code_NDhw = self.image(lr_NCHW)
        if frame_type_N is None:
            return code_NDhw
        return code_NDhw + self.type_code(frame_type_N)[:, :, None, None]

    def type_code(self, frame_type_N: Tensor) -> Tensor:
        """E, (N, D); 0 where the type is not known."""
        is_known = (frame_type_N != UNKNOWN_TYPE)[:, None]
        # Embeddings take no negative numbers.
        return torch.where(is_known, self.frame_type(frame_type_N.clamp(min=0)), 0)


@torch.no_grad()
def _look_at_details(first: nn.Module) -> None:
    """Let the first layer start blind to flat areas: what codecs change are faint details."""
    assert isinstance(first, nn.Conv2d)
    first.weight -= first.weight.mean((2, 3), keepdim=True)
    first.weight *= _DETAIL_GAIN


def _stage(inputs: int, outputs: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return [_he(conv3x3(inputs, outputs, stride)), *norm, nn.LeakyReLU(SLOPE)]


_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


def _he(layer: _Layer) -> _Layer:
    """Start with He's weights: with those of torch a sixth layer hardly sees the picture."""
    assert layer.bias is not None
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    nn.init.zeros_(layer.bias)
    return layer


class ScoreHead(nn.Module):
    """How strongly a frame is compressed, one number; the scale is that of the ranking's margin.

    Needed for pretraining and for looking at the representation, not for super-resolution.
    """

    def __init__(self, code_channels: int) -> None:
        super().__init__()
        half, quarter = code_channels // 2, code_channels // 4
        self.layers = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            _he(nn.Linear(code_channels, half)),
            nn.LeakyReLU(SLOPE),
            _he(nn.Linear(half, quarter)),
            nn.LeakyReLU(SLOPE),
            _he(nn.Linear(quarter, 1)),
        )

    def forward(self, code_NDhw: Tensor) -> Tensor:
        """Scores of codes, (N,); higher is more compressed."""
        return self.layers(code_NDhw.mean((2, 3)))[:, 0]
