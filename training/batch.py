"""What the network is fed. The only place where uint8 THWC arrays become float TCHW tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schemas.sample import SampleKind
from training.draw import WindowDraw
from transforms.motion import Flow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read of a sample for a batch."""

    skipped: tuple[str, ...] = ()
    """samples that were damaged, and for which this one is here"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window(Reading):
    """T frames of one LR stream of one sample with their HR, cropped to aligned rectangles."""

    key: str
    """the sample"""
    draw: WindowDraw | None = None
    """what it was read by; None where it was not read from a dataset"""
    stream_name: str
    """the LR stream, such as clean or crf25"""
    kind: SampleKind
    """clip or camera, or pseudo_video: then no frame has anything to do with another"""
    lr: np.ndarray
    """(T, h, w, 3) uint8 RGB"""
    hr: np.ndarray
    """(T, scale * h, scale * w, 3) uint8 RGB; HR (scale * y, scale * x) lies at LR (y, x)"""
    flow: Flow
    """the codec's motion over the crop, (T, h, w, ...); all unknown in a pseudo-video"""
    frame_type: np.ndarray
    """(T,) int64, `FrameType.code`"""
    qp: np.ndarray
    """(T,) float32, mean quantiser in the codec's own scale, -1 where it is not known"""
    crf: float
    """constant rate factor of the stream, -1 where its rate was controlled otherwise, or not"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """N clips of T frames; a pseudo-video gives its T frames as T clips of one frame."""

    keys: tuple[str, ...]
    """the sample of each of the N clips"""
    stream_names: tuple[str, ...]
    """the LR stream of each of the N clips"""
    draws: tuple[WindowDraw | None, ...]
    """what each of the N clips was read by; the same for all frames of a pseudo-video"""
    skipped: tuple[str, ...]
    """samples that were damaged, and for which others are here"""
    lr: Tensor
    """(N, T, 3, h, w) RGB: uint8 as it is loaded, float32 in [0, 1] behind `to`"""
    hr: Tensor
    """(N, T, 3, scale * h, scale * w) RGB: uint8 as it is loaded, float32 in [0, 1] behind `to`"""
    flow_previous: Tensor
    """(N, T, 2, h, w) float32 (x, y), LR pixels: I_t(p) ~ I_{t-1}(p + flow_t(p)); 0 if unknown"""
    flow_next: Tensor
    """(N, T, 2, h, w) float32 (x, y), LR pixels: I_t(p) ~ I_{t+1}(p + flow_t(p)); 0 if unknown"""
    flow_valid: Tensor
    """(N, T, h, w) uint8: 1 where `flow_previous` is known, plus 2 where `flow_next` is; the
    first and the last frame may point out of the window"""
    frame_type: Tensor
    """(N, T) int64, `FrameType.code`: I 0, P 1, B 2"""
    qp: Tensor
    """(N, T) float32, mean quantiser in the codec's own scale, -1 where it is not known"""
    crf: Tensor
    """(N,) float32, constant rate factor of the stream, -1 where its rate was controlled otherwise,
    or not"""

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, ready for a network; a copy from pinned memory does not block.

        Pictures become float there: until then they are a quarter of the bytes.
        """
        there = self._map(lambda tensor: tensor.to(device, non_blocking=True).contiguous())
        return dataclasses.replace(there, lr=_floats(there.lr), hr=_floats(there.hr))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (called by `DataLoader(pin_memory=True)`)."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        tensors: dict[str, Any] = {
            name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **tensors)


def collate(windows: Sequence[Window]) -> Batch:
    """Stack windows of one kind, one length and one size.

    Args:
        windows: clips, or pseudo-videos; not both.
    """
    pseudo_video = windows[0].kind is SampleKind.PSEUDO_VIDEO
    # Folding the frames into the batch axis is what keeps a recurrent network from carrying
    # anything from one unrelated picture to the next.
    clips_per_window = len(windows[0].lr) if pseudo_video else 1

    def stack(arrays: list[np.ndarray]) -> Tensor:
        stacked = torch.from_numpy(np.stack(arrays))
        return stacked.flatten(0, 1).unsqueeze(1) if pseudo_video else stacked

    return Batch(
        skipped=tuple(key for w in windows for key in w.skipped),
        keys=tuple(w.key for w in windows for _ in range(clips_per_window)),
        stream_names=tuple(w.stream_name for w in windows for _ in range(clips_per_window)),
        draws=tuple(w.draw for w in windows for _ in range(clips_per_window)),
        lr=_channels_first(stack([w.lr for w in windows])),
        hr=_channels_first(stack([w.hr for w in windows])),
        flow_previous=_channels_first(stack([w.flow.previous for w in windows])),
        flow_next=_channels_first(stack([w.flow.next for w in windows])),
        flow_valid=stack([w.flow.valid for w in windows]),
        frame_type=stack([w.frame_type for w in windows]),
        qp=stack([w.qp for w in windows]),
        crf=torch.tensor([w.crf for w in windows], dtype=torch.float32).repeat_interleave(
            clips_per_window
        ),
    )


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, -3)  # no pixel is moved before the batch is on its device


def _floats(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype is torch.uint8 else x
