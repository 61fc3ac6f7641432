"""The parts of the network: warp, encoder, modulation, alignment, propagation.

Shapes: B clips, T frames, N pictures (time folded into the batch), C channels, H and W LR rows
and columns, D channels of the compression representation, h and w its rows and columns,
ceil(H/4) and ceil(W/4).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.sample import FrameType

_ENCODER_STRIDE = 4
_SLOPE = 0.1
_MAX_CORRECTION_PIXELS = 10
_CARRIED_SHARE_OF_B = 0.5


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, or halves it (rounding up) at stride 2."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def zero_(layer: nn.Conv2d, bias: float = 0) -> nn.Conv2d:
    """Make a layer start by putting out a constant, whatever its input."""
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


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
    sampled = F.grid_sample(
        x_NCHW.float(), grid_NHW2, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.to(x_NCHW.dtype)


class ResidualBlock(nn.Module):
    """conv - ReLU - conv, added to the input (CAVSR's trunk)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight *= 0.1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW + self.second(F.relu(self.first(x_NCHW)))


class CompressionEncoder(nn.Module):
    """How strongly, and as what type, a frame is compressed: C = V + E (CAVSR, section 3.1).

    V comes from the picture, at a quarter of its size; E from the frame type. Without batch
    normalisation, so that a frame's code does not depend on its neighbours in the batch.

    Args:
        width: channels of the first stage; the code has four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.code_channels = 4 * width
        sizes = [(3, width, 1), (width, width, 1)]
        sizes += [(width, 2 * width, 2), (2 * width, 2 * width, 1)]
        sizes += [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1)]
        layers = [(conv3x3(*size), nn.LeakyReLU(_SLOPE)) for size in sizes]
        self.image = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.frame_type = nn.Sequential(
            nn.Embedding(len(FrameType), self.code_channels),
            nn.Linear(self.code_channels, self.code_channels),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(self.code_channels, self.code_channels),
        )

    def forward(self, lr_NCHW: Tensor, frame_type_N: Tensor | None) -> Tensor:
        """The code of every frame, (N, D, h, w); of the picture alone where no type is given."""
        code_NDhw = self.image(lr_NCHW)
        if frame_type_N is None:
            return code_NDhw
        return code_NDhw + self.frame_type(frame_type_N)[:, :, None, None]


class Affine(nn.Module):
    """x -> gamma x + beta with gamma and beta read from the code; starts as the identity."""

    def __init__(self, channels: int, code_channels: int) -> None:
        super().__init__()
        self.gamma = self._read_code(channels, code_channels, start=1)
        self.beta = self._read_code(channels, code_channels, start=0)

    @staticmethod
    def _read_code(channels: int, code_channels: int, start: float) -> nn.Sequential:
        last = zero_(nn.Conv2d(channels, channels, 1), bias=start)
        return nn.Sequential(nn.Conv2d(code_channels, channels, 1), nn.LeakyReLU(0.01), last)

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        gamma_NCHW = _enlarge(self.gamma(code_NDhw), x_NCHW)
        beta_NCHW = _enlarge(self.beta(code_NDhw), x_NCHW)
        return gamma_NCHW * x_NCHW + beta_NCHW


def _enlarge(x_NChw: Tensor, like_NCHW: Tensor) -> Tensor:
    # 1x1 convolutions commute with nearest upsampling: reading the code at its own size first
    # gives the same numbers for a sixteenth of the work.
    large = F.interpolate(x_NChw, scale_factor=_ENCODER_STRIDE, mode="nearest")
    return large[..., : like_NCHW.shape[-2], : like_NCHW.shape[-1]]


class ModulatedBlock(nn.Module):
    """affine - LReLU - conv, twice, added to the input (CAVSR's CAM)."""

    def __init__(self, channels: int, code_channels: int) -> None:
        super().__init__()
        self.affines = nn.ModuleList(Affine(channels, code_channels) for _ in range(2))
        self.convs = nn.ModuleList(conv3x3(channels, channels) for _ in range(2))

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        y_NCHW = x_NCHW
        for affine, conv in zip(self.affines, self.convs, strict=True):
            y_NCHW = conv(F.leaky_relu(affine(y_NCHW, code_NDhw), 0.01))
        return x_NCHW + y_NCHW


class Modulation(nn.Module):
    """Compression-aware modulation of features, in front of the propagation (CAVSR's CAM)."""

    def __init__(self, channels: int, code_channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ModulatedBlock(channels, code_channels) for _ in range(blocks))
        self.last = conv3x3(channels, channels)

    def forward(self, x_NCHW: Tensor, code_NDhw: Tensor) -> Tensor:
        y_NCHW = x_NCHW
        for block in self.blocks:
            y_NCHW = block(y_NCHW, code_NDhw)
        return x_NCHW + self.last(y_NCHW)


def photometric_residual(lr_NCHW: Tensor, neighbour_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """Mean |I_t - warp(I_s, flow)| over the colours, (N, 1, H, W) in [0, 1].

    It stands for the codec's residual, which no decoder hands out.
    """
    return (lr_NCHW - warp(neighbour_NCHW, flow_N2HW)).abs().mean(1, keepdim=True)


class Alignment(nn.Module):
    """Meta-assisted alignment: warp the state by the codec's vectors plus a learned correction.

    The correction is bounded, starts at 0, and is let through where the vectors fail to explain
    the picture: M + 10 tanh(delta) sigmoid(a R + b), R the photometric residual.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.correction = nn.Sequential(
            conv3x3(2 * channels, channels),
            nn.LeakyReLU(_SLOPE),
            conv3x3(channels, channels),
            nn.LeakyReLU(_SLOPE),
            zero_(conv3x3(channels, 2)),
        )
        # Residuals of aligned compressed video are some hundredths: 0.12 open at a perfect
        # match, half open at R = 0.125. A slope near 1 would hardly ever change the gate.
        self.gate_slope = nn.Parameter(torch.tensor(16.0))
        self.gate_offset = nn.Parameter(torch.tensor(-2.0))

    def forward(
        self, state_BCHW: Tensor, features_BCHW: Tensor, flow_B2HW: Tensor, residual_B1HW: Tensor
    ) -> Tensor:
        """The state of the neighbouring frame, seen from this one, (B, C, H, W)."""
        warped_BCHW = warp(state_BCHW, flow_B2HW)
        correction_B2HW = self.correction(torch.cat([warped_BCHW, features_BCHW], 1)).float()
        gate_B1HW = torch.sigmoid(self.gate_slope * residual_B1HW + self.gate_offset)
        bounded_B2HW = _MAX_CORRECTION_PIXELS * torch.tanh(correction_B2HW)
        return warp(state_BCHW, flow_B2HW + gate_B1HW * bounded_B2HW)


class Branch(nn.Module):
    """One direction of the recurrence; time runs along T, so turn the tensors for the other.

    Args:
        channels: C.
        blocks: residual blocks of the trunk.
        extra_inputs: further features a step is given: 1 for outputs of the other direction.
    """

    def __init__(self, channels: int, blocks: int, extra_inputs: int = 0) -> None:
        super().__init__()
        self.alignment = Alignment(channels)
        self.trunk = nn.Sequential(
            conv3x3((3 + extra_inputs) * channels, channels),
            nn.LeakyReLU(_SLOPE),
            *(ResidualBlock(channels) for _ in range(blocks)),
        )

    def forward(
        self,
        features_BTCHW: Tensor,
        flow_BT2HW: Tensor,
        residual_BT1HW: Tensor,
        b_frame_BT: Tensor,
        other_BTCHW: Tensor | None = None,
    ) -> Tensor:
        """Run through the clip.

        Args:
            features_BTCHW: modulated features.
            flow_BT2HW: vectors into the frame one step earlier along T; the first is not read.
            residual_BT1HW: photometric residual of these vectors.
            b_frame_BT: bool; frames whose state is half carried over (meta-assisted propagation).
            other_BTCHW: outputs of the other direction; the first also starts the recurrence.

        Returns:
            (B, T, C, H, W) outputs.
        """
        steps = features_BTCHW.shape[1]
        state = torch.zeros_like(features_BTCHW[:, 0]) if other_BTCHW is None else other_BTCHW[:, 0]
        outputs = []
        for t in range(steps):
            now = features_BTCHW[:, t]
            if t > 0:
                state = self.alignment(state, now, flow_BT2HW[:, t], residual_BT1HW[:, t])
            neighbour = features_BTCHW[:, t - 1 if t > 0 else min(1, steps - 1)]
            extra = [] if other_BTCHW is None else [other_BTCHW[:, t]]
            outputs.append(self.trunk(torch.cat([now, neighbour, state, *extra], 1)))
            state = outputs[t] if t == 0 else _carry(outputs[t], state, b_frame_BT[:, t])
        return torch.stack(outputs, 1)


def _carry(output_BCHW: Tensor, state_BCHW: Tensor, b_frame_B: Tensor) -> Tensor:
    # B frames are the most compressed: what came before them is worth as much as they are.
    blended = torch.lerp(output_BCHW, state_BCHW.to(output_BCHW.dtype), _CARRIED_SHARE_OF_B)
    return torch.where(b_frame_B[:, None, None, None], blended, output_BCHW)
