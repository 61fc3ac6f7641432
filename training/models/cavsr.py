"""Compression-aware video super-resolution, after CAVSR (CVPR 2023).

Features of each frame are modulated by how it was compressed, then carried backwards and forwards
through the clip along the codec's own motion vectors. What CAVSR's release leaves out of its
forward pass (the modulation, the frame type) works here.

Shapes: B clips, T frames, N = T * B pictures, the frames of one time side by side, C channels, H
and W LR rows and columns, D channels of the compression representation, S = scale.
"""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from schemas.record import Record
from schemas.sample import FrameType
from training.config import Depth, Scale, Width
from training.models.alignment import Alignment, Gate, photometric_residual
from training.models.encoder import CompressionEncoder, EncoderConfig
from training.models.layers import (
    SLOPE,
    FullHead,
    LiteHead,
    ResidualBlock,
    compile_forward,
    conv3x3,
    enlarged,
)
from training.models.modulation import Modulation


class CavsrConfig(Record):
    """What decides the network's shape; the defaults train on a CPU."""

    kind: Literal["cavsr"] = "cavsr"
    """the network"""
    scale: Scale = 4
    """HR size divided by LR size"""
    channels: Width = 16
    """C, features everywhere"""
    trunk_blocks: Depth = 3
    """residual blocks a direction"""
    modulation_blocks: Annotated[int, Field(ge=0, le=256)] = 2
    """blocks of the compression-aware modulation; 0 leaves it out, and the encoder with it"""
    shared_modulation: bool = True
    """modulate once for both directions; otherwise each has a modulation of its own"""
    encoder: EncoderConfig = EncoderConfig()
    """of the compression representation"""
    gate: Gate = "features"
    """what the residual gates in the alignment: as in CAVSR's figure, or as in its release"""
    b_frame_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """share of a B frame's own features in the state that is carried on, CAVSR's alpha; 1 carries
    B frames on like others"""
    head: Literal["lite", "full"] = "lite"
    """how features become HR: in one convolution, or with convolutions at the full size"""
    base: Literal["bicubic", "none"] = "bicubic"
    """what the head's output is added to"""
    auxiliary_heads: bool = False
    """two more heads for training, on the features of either direction alone"""

    @model_validator(mode="after")
    def _has_a_head(self) -> Self:
        if self.head == "full" and self.scale not in FullHead.SCALES:
            raise ValueError(f"the full head is for scales {FullHead.SCALES}, not {self.scale}")
        return self


class Step(nn.Module):
    """One step of a recurrence: align the state, refine it, say what is carried on."""

    def __init__(self, config: CavsrConfig, extra_inputs: int) -> None:
        super().__init__()
        channels = config.channels
        self._b_frame_share = config.b_frame_share
        self.alignment = Alignment(channels, config.gate)
        self.trunk = nn.Sequential(
            conv3x3((3 + extra_inputs) * channels, channels),
            nn.LeakyReLU(SLOPE),
            *(ResidualBlock(channels) for _ in range(config.trunk_blocks)),
        )

    def forward(
        self,
        state_BCHW: Tensor,
        inputs_BcHW: Tensor,
        seen_BCHW: Tensor,
        flow_B2HW: Tensor,
        gate_B1HW: Tensor,
        is_b_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Go on by a frame.

        Args:
            state_BCHW: carried from the neighbouring frame.
            inputs_BcHW: features of the frame, of its neighbour, and of the other direction.
            seen_BCHW: what the frame gives to the correction of its vectors.
            flow_B2HW: vectors into the neighbouring frame.
            gate_B1HW: of the correction.
            is_b_B: bool, whether it is a B frame.

        Returns:
            The frame's features, and what is carried on, (B, C, H, W) each.
        """
        aligned_BCHW = self.alignment(state_BCHW, seen_BCHW, flow_B2HW, gate_B1HW)
        output_BCHW = self.refine(inputs_BcHW, aligned_BCHW)
        # B frames are the most compressed: what came before them is worth as much as they are.
        blended = torch.lerp(aligned_BCHW.to(output_BCHW.dtype), output_BCHW, self._b_frame_share)
        return output_BCHW, torch.where(is_b_B[:, None, None, None], blended, output_BCHW)

    def refine(self, inputs_BcHW: Tensor, aligned_BCHW: Tensor) -> Tensor:
        """The features of a frame, (B, C, H, W)."""
        return self.trunk(torch.cat([inputs_BcHW, aligned_BCHW.to(inputs_BcHW.dtype)], 1))


class Cavsr(nn.Module):
    """LR clip and the codec's metadata in, HR clip out; any number of frames, any size."""

    def __init__(self, config: CavsrConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoints_parts = False
        """Whether activations inside of parts are computed again for gradients instead of kept."""
        channels, code = config.channels, config.encoder.code_channels
        self.encoder = CompressionEncoder(config.encoder) if config.modulation_blocks else None
        branches = 1 if config.shared_modulation else 2
        self.heads = nn.ModuleList(conv3x3(3, channels) for _ in range(branches))
        self.modulations = nn.ModuleList(
            Modulation(channels, code, config.modulation_blocks)
            for _ in range(branches if config.modulation_blocks else 0)
        )
        self.backward_step = Step(config, extra_inputs=0)
        self.forward_step = Step(config, extra_inputs=1)
        self.fusion = nn.Sequential(
            conv3x3(2 * channels, channels), nn.LeakyReLU(SLOPE), conv3x3(channels, channels)
        )
        self.upsample = _new_head(config)
        self.auxiliary = nn.ModuleList(
            _new_head(config) for _ in range(2 if config.auxiliary_heads else 0)
        )
        self._is_encoder_frozen = False

    def freeze_encoder(self) -> None:
        """Train everything but the encoder, which stays as it was pretrained."""
        assert self.encoder is not None
        self._is_encoder_frozen = True
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._is_encoder_frozen and self.encoder is not None:
            self.encoder.eval()  # its statistics stay, too
        return self

    def compile_steps(self) -> None:
        """Compile what repeats, each for itself: the whole unrolled clip would take minutes."""
        parts = [*self.modulations, self.backward_step, self.forward_step, self.fusion]
        for module in [*parts, self.upsample, *self.auxiliary]:
            compile_forward(module)

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
            frame_type_BT: int64 `FrameType.code`, `UNKNOWN_TYPE` where it is not known; None where
                none is.
            flow_previous_BT2HW: float32 (x, y) LR pixels, I_t(p) ~ I_{t-1}(p + flow_t(p));
                None, or zeros, where it is not known.
            flow_next_BT2HW: the same into t + 1.

        Returns:
            (B, T, 3, S * H, S * W) RGB, not clamped.
        """
        return self.restorations(lr_BTCHW, frame_type_BT, flow_previous_BT2HW, flow_next_BT2HW)[0]

    def restorations(
        self,
        lr_BTCHW: Tensor,
        frame_type_BT: Tensor | None = None,
        flow_previous_BT2HW: Tensor | None = None,
        flow_next_BT2HW: Tensor | None = None,
    ) -> list[Tensor]:
        """`forward`'s output; in training with auxiliary heads, those of the forward and of the
        backward features, too."""
        clips, frames = lr_BTCHW.shape[:2]
        lr_NCHW = _fold(lr_BTCHW)
        type_N = None if frame_type_BT is None else frame_type_BT.transpose(0, 1).flatten()
        # Everything that is not recurrent runs on all frames at once.
        shallow, features = self._features(lr_NCHW, type_N)
        backward, forward = self._propagate(
            features,
            lr_NCHW,
            type_N,
            _motion(flow_previous_BT2HW, lr_BTCHW),
            _motion(flow_next_BT2HW, lr_BTCHW),
            frames,
        )
        heads, deep = [self.upsample], [self.fusion(torch.cat([backward, forward], 1))]
        if self.training and self.auxiliary:
            heads, deep = [*heads, *self.auxiliary], [*deep, forward, backward]
        base = enlarged(lr_NCHW, self.config.scale) if self.config.base == "bicubic" else 0
        pairs = zip(heads, deep, strict=True)
        pictures = [self._call(head, shallow + x) + base for head, x in pairs]
        return [x.unflatten(0, (frames, clips)).transpose(0, 1) for x in pictures]

    def _call(self, part: nn.Module, *arguments: Tensor) -> Any:
        if self.checkpoints_parts and self.training:
            return checkpoint(part, *arguments, use_reentrant=False)
        return part(*arguments)

    def _features(self, lr_NCHW: Tensor, type_N: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The long skip's features, (N, C, H, W); and those that are propagated, backwards and
        forwards."""
        shallow = [head(lr_NCHW) for head in self.heads]
        features = shallow
        if self.encoder is not None:
            code_NDhw = self.encoder(lr_NCHW, type_N)
            pairs = zip(self.modulations, shallow, strict=True)
            features = [self._call(modulation, x, code_NDhw) for modulation, x in pairs]
        return shallow[-1], [features[0], features[-1]]

    def _propagate(
        self,
        features: list[Tensor],
        lr_NCHW: Tensor,
        type_N: Tensor | None,
        flow_previous_N2HW: Tensor,
        flow_next_N2HW: Tensor,
        frames: int,
    ) -> tuple[Tensor, Tensor]:
        """Features of both directions, the forward ones built on the others, (N, C, H, W) each."""
        is_b_N = _is_b(type_N, lr_NCHW)
        backward = self._run(
            self.backward_step, features[0], lr_NCHW, flow_next_N2HW, is_b_N, frames, -1
        )
        forward = self._run(
            self.forward_step, features[1], lr_NCHW, flow_previous_N2HW, is_b_N, frames, 1, backward
        )
        return torch.cat(backward), torch.cat(forward)

    def _run(
        self,
        step: Step,
        features_NCHW: Tensor,
        lr_NCHW: Tensor,
        flow_N2HW: Tensor,
        is_b_N: Tensor,
        frames: int,
        direction: Literal[-1, 1],
        other: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """One direction of the recurrence; features of all frames, (B, C, H, W) each."""
        features, flow, lr = (x.chunk(frames) for x in (features_NCHW, flow_N2HW, lr_NCHW))
        is_b = is_b_N.chunk(frames)
        order = range(frames)[::direction]
        seen = step.alignment.prepare(lr_NCHW, features_NCHW).chunk(frames)
        first, outputs = order[0], dict[int, Tensor]()
        for t in order:
            before = t - direction  # of the first, the frame on its other side
            beside = features[before if t != first else min(max(t + direction, 0), frames - 1)]
            extra = [] if other is None else [other[t]]
            inputs = torch.cat([features[t], beside, *extra], 1)
            if t == first:
                start = torch.zeros_like(features[t]) if other is None else other[t]
                state = outputs[t] = step.refine(inputs, start)
                continue
            gate = step.alignment.gate(photometric_residual(lr[t], lr[before], flow[t]))
            arguments = (state, inputs, seen[t], flow[t], gate, is_b[t])
            outputs[t], state = self._call(step, *arguments)
        return [outputs[t] for t in range(frames)]


def _new_head(config: CavsrConfig) -> nn.Sequential:
    if config.head == "lite":
        return LiteHead(config.channels, config.scale)
    return FullHead(config.channels, config.scale, starts_at_zero=config.base != "none")


def _fold(x_BTCHW: Tensor) -> Tensor:
    """(N, C, H, W), the frames of one time side by side: a time is then one piece of memory."""
    return x_BTCHW.transpose(0, 1).flatten(0, 1)


def _motion(flow_BT2HW: Tensor | None, lr_BTCHW: Tensor) -> Tensor:
    if flow_BT2HW is None:
        return torch.zeros_like(_fold(lr_BTCHW)[:, :2], dtype=torch.float32)
    return _fold(flow_BT2HW).float()


def _is_b(type_N: Tensor | None, lr_NCHW: Tensor) -> Tensor:
    if type_N is None:
        return torch.zeros(len(lr_NCHW), dtype=torch.bool, device=lr_NCHW.device)
    return type_N == FrameType.B.code
