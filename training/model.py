"""A compression-aware recurrent network for video super-resolution, after CAVSR (CVPR 2023).

Features of each frame are modulated by how it was compressed, then carried backwards and
forwards through the clip along the codec's own motion vectors. What CAVSR's release leaves out
of its forward pass (the modulation, the frame type) works here.

Shapes: B clips, T frames, N = B * T pictures, C channels, H and W LR rows and columns,
D channels of the compression representation, S = scale.
"""

import torch
from torch import Tensor, nn

from schemas.record import Record
from schemas.sample import FrameType
from training.config import Count
from training.modules import (
    Branch,
    CompressionEncoder,
    Modulation,
    conv3x3,
    photometric_residual,
    zero_,
)
from training.resample import bicubic


class ModelConfig(Record):
    """What decides the network's shape; the defaults train on a CPU."""

    scale: Count = 4
    """HR size divided by LR size"""
    channels: Count = 16
    """C, features everywhere"""
    trunk_blocks: Count = 3
    """residual blocks a direction"""
    modulation_blocks: Count = 2
    """blocks of the compression-aware modulation, shared by both directions"""
    encoder_width: Count = 8
    """channels of the compression encoder's first stage; D is four times as many"""


class CompressionAwareVsr(nn.Module):
    """LR clip and the codec's metadata in, HR clip out; any number of frames, any size."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.encoder = CompressionEncoder(config.encoder_width)
        self.head = conv3x3(3, channels)
        self.modulation = Modulation(channels, self.encoder.code_channels, config.modulation_blocks)
        self.backward_branch = Branch(channels, config.trunk_blocks)
        self.forward_branch = Branch(channels, config.trunk_blocks, extra_inputs=1)
        self.fusion = nn.Sequential(
            conv3x3(2 * channels, channels), nn.LeakyReLU(0.1), conv3x3(channels, channels)
        )
        # Starts at 0, so that training starts from bicubic interpolation.
        self.upsample = nn.Sequential(
            zero_(conv3x3(channels, 3 * config.scale**2)), nn.PixelShuffle(config.scale)
        )

    def forward(
        self,
        lr_BTCHW: Tensor,
        frame_type_BT: Tensor | None = None,
        flow_previous_BT2HW: Tensor | None = None,
        flow_next_BT2HW: Tensor | None = None,
    ) -> Tensor:
        """Super-resolve clips.

        Args:
            lr_BTCHW: (B, T, 3, H, W) float32 RGB in [0, 1].
            frame_type_BT: int64 `FrameType.code`; None where it is not known.
            flow_previous_BT2HW: float32 (x, y) LR pixels, I_t(p) ~ I_{t-1}(p + flow_t(p));
                None, or zeros, where it is not known.
            flow_next_BT2HW: the same into t + 1.

        Returns:
            (B, T, 3, S * H, S * W) float32 RGB, not clamped.
        """
        batch, frames = lr_BTCHW.shape[:2]
        lr_NCHW = lr_BTCHW.flatten(0, 1)
        frame_type_N = None if frame_type_BT is None else frame_type_BT.flatten()
        # Everything that is not recurrent runs on all frames at once.
        shallow_NCHW = self.head(lr_NCHW)
        code_NDhw = self.encoder(lr_NCHW, frame_type_N)
        features_NCHW = self.modulation(shallow_NCHW, code_NDhw)
        both_BTCHW = self._propagate(
            features_NCHW.unflatten(0, (batch, frames)),
            lr_BTCHW,
            _b_frames(frame_type_BT, lr_BTCHW),
            _or_zeros(flow_previous_BT2HW, lr_BTCHW),
            _or_zeros(flow_next_BT2HW, lr_BTCHW),
        )
        deep_NCHW = shallow_NCHW + self.fusion(both_BTCHW.flatten(0, 1))
        base_NCHW = bicubic(lr_NCHW, self.config.scale)
        return (base_NCHW + self.upsample(deep_NCHW)).unflatten(0, (batch, frames))

    def _propagate(
        self,
        features_BTCHW: Tensor,
        lr_BTCHW: Tensor,
        b_frame_BT: Tensor,
        flow_previous_BT2HW: Tensor,
        flow_next_BT2HW: Tensor,
    ) -> Tensor:
        """Outputs of both directions, the forward one built on the backward one, (B,T,2C,H,W)."""
        backward_BTCHW = self.backward_branch(
            features_BTCHW.flip(1),
            flow_next_BT2HW.flip(1),
            _residuals(lr_BTCHW.flip(1), flow_next_BT2HW.flip(1)),
            b_frame_BT.flip(1),
        ).flip(1)
        forward_BTCHW = self.forward_branch(
            features_BTCHW,
            flow_previous_BT2HW,
            _residuals(lr_BTCHW, flow_previous_BT2HW),
            b_frame_BT,
            backward_BTCHW,
        )
        return torch.cat([backward_BTCHW, forward_BTCHW], 2)


def _b_frames(frame_type_BT: Tensor | None, lr_BTCHW: Tensor) -> Tensor:
    if frame_type_BT is None:
        return torch.zeros(lr_BTCHW.shape[:2], dtype=torch.bool, device=lr_BTCHW.device)
    return frame_type_BT == FrameType.B.code


def _or_zeros(flow_BT2HW: Tensor | None, lr_BTCHW: Tensor) -> Tensor:
    return torch.zeros_like(lr_BTCHW[:, :, :2]) if flow_BT2HW is None else flow_BT2HW


def _residuals(lr_BTCHW: Tensor, flow_BT2HW: Tensor) -> Tensor:
    """Photometric residual of each frame against the one before it along T; of the first, 0."""
    batch, frames = lr_BTCHW.shape[:2]
    residual_BT1HW = torch.zeros_like(lr_BTCHW[:, :, :1])
    if frames > 1:
        now, before = lr_BTCHW[:, 1:].flatten(0, 1), lr_BTCHW[:, :-1].flatten(0, 1)
        residual = photometric_residual(now, before, flow_BT2HW[:, 1:].flatten(0, 1))
        residual_BT1HW[:, 1:] = residual.unflatten(0, (batch, frames - 1))
    return residual_BT1HW
