"""Alignment of the recurrent state by the codec's motion (CAVSR's MA).

Shapes: B clips, N pictures, C channels, H and W LR rows and columns.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from training.models.layers import SLOPE, conv3x3, warp, zero_

Gate = Literal["features", "flow"]

_MAX_CORRECTION_PIXELS = 10  # CAVSR's max_residue_magnitude


def photometric_residual(lr_NCHW: Tensor, neighbour_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """Mean |I_t - warp(I_s, flow)| over the colours, (N, 1, H, W) in [0, 1].

    It stands for the codec's residual, which no decoder hands out: residual, deblocking and what
    the interpolation loses.
    """
    return (lr_NCHW - warp(neighbour_NCHW, flow_N2HW)).abs().mean(1, keepdim=True)


class Alignment(nn.Module):
    """Warp the state by the codec's vectors plus a learned, bounded correction.

    With M the vectors, R their photometric residual, I the frame, F its features and h the state:

    - gate "features", as in CAVSR's figure: delta = conv([warp(h, M) g, conv(I) g]) with a gate
      g = sigmoid(a R + b), a and b learned. Where the vectors explain the picture, there is little
      to correct by.
    - gate "flow", as in its release: delta = sigmoid(sum of R over the colours)
      conv([warp(h, M), conv(F)]). Its gate never closes below a half.

    Either gives warp(h, M + 10 tanh(delta)), in which delta starts at 0.
    """

    def __init__(self, channels: int, gate: Gate) -> None:
        super().__init__()
        self._gates_features = gate == "features"
        if self._gates_features:
            self.look = nn.Sequential(conv3x3(3, channels))
            # Residuals of aligned compressed video are some hundredths: 0.12 open at a perfect
            # match, half open at R = 0.125. A slope near 1 would hardly ever change the gate.
            self.gate_slope = nn.Parameter(torch.tensor(16.0))
            self.gate_offset = nn.Parameter(torch.tensor(-2.0))
        else:
            self.look = nn.Sequential(
                conv3x3(channels, channels),
                nn.LeakyReLU(SLOPE),
                conv3x3(channels, channels),
                nn.LeakyReLU(SLOPE),
                conv3x3(channels, channels),
            )
        self.correction = nn.Sequential(
            conv3x3(2 * channels, channels),
            nn.LeakyReLU(SLOPE),
            conv3x3(channels, channels),
            nn.LeakyReLU(SLOPE),
            zero_(conv3x3(channels, 2)),
        )

    def prepare(self, lr_NCHW: Tensor, features_NCHW: Tensor) -> Tensor:
        """What all frames give to their correction, (N, C, H, W); not part of the recurrence."""
        return self.look(lr_NCHW if self._gates_features else features_NCHW)

    def gate(self, residual_N1HW: Tensor) -> Tensor:
        """How far the correction is let through, (N, 1, H, W) in (0, 1)."""
        if self._gates_features:
            return torch.sigmoid(self.gate_slope * residual_N1HW + self.gate_offset)
        return torch.sigmoid(3 * residual_N1HW)  # the sum over three colours

    def forward(
        self, state_BCHW: Tensor, seen_BCHW: Tensor, flow_B2HW: Tensor, gate_B1HW: Tensor
    ) -> Tensor:
        """The state of the neighbouring frame, seen from this one.

        Args:
            state_BCHW: of the neighbouring frame.
            seen_BCHW: of `prepare`, of this frame.
            flow_B2HW: float32 vectors into the neighbouring frame, LR pixels.
            gate_B1HW: of `gate`.

        Returns:
            (B, C, H, W), of the type of the state.
        """
        warped_BCHW = warp(state_BCHW, flow_B2HW)
        both_BcHW = torch.cat([warped_BCHW, seen_BCHW.to(warped_BCHW.dtype)], 1)
        gate = gate_B1HW.to(warped_BCHW.dtype)
        if self._gates_features:
            correction_B2HW = self.correction(both_BcHW * gate)
        else:
            correction_B2HW = self.correction(both_BcHW) * gate
        bounded_B2HW = _MAX_CORRECTION_PIXELS * torch.tanh(correction_B2HW.float())
        return warp(state_BCHW, flow_B2HW + bounded_B2HW)
