"""The same part of every LR stream of a sample: equal pictures, compressed to several strengths.

Shapes: N frames of all streams of all windows of a batch, h and w LR rows and columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from schemas.sample import LrKind, SampleKind, Stream
from training.augment import turn_pixels
from training.batch import Reading

UNCOMPRESSED = -1.0
"""Strength of frames that no codec has touched: below every CRF."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodedFrames:
    """T frames of one LR stream."""

    name: str
    """of the stream, such as clean or crf25"""
    lr: np.ndarray
    """(T, h, w, 3) uint8 RGB"""
    frame_type: np.ndarray
    """(T,) int64, `FrameType.code`"""
    strength: float
    """of compression, as `strength` has it"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedWindow(Reading):
    """The same T frames of all LR streams of a sample, cropped to the same rectangle."""

    key: str
    """the sample"""
    kind: SampleKind
    """clip or camera, or pseudo_video: then no frame has anything to do with another"""
    streams: Sequence[CodedFrames]
    """in the recipe's order"""

    def frames(self, positions: np.ndarray, turns: Sequence[str] = ()) -> AlignedWindow:
        """Some of the frames, turned by functions of `training.augment`."""
        chosen = [
            dataclasses.replace(
                stream,
                lr=turn_pixels(stream.lr[positions], turns),
                frame_type=stream.frame_type[positions],
            )
            for stream in self.streams
        ]
        return dataclasses.replace(self, streams=chosen)

    def without_pictures(self) -> AlignedWindow:
        """How the frames were coded alone; the pictures have no rows and no columns."""
        empty = [dataclasses.replace(x, lr=x.lr[:, :0, :0]) for x in self.streams]
        return dataclasses.replace(self, streams=empty)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coding:
    """How each of N frames was coded, and what it shows."""

    strength: Tensor
    """(N,) float32, as `strength` has it"""
    frame_type: Tensor
    """(N,) int64, `FrameType.code`"""
    content: Tensor
    """(N,) int64, equal for frames that show the same scene"""
    moment: Tensor
    """(N,) int64, equal for frames of one content that show the very same picture"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """All frames of some windows."""

    lr: Tensor
    """(N, 3, h, w) RGB: uint8 as it is loaded, float32 in [0, 1] behind `to`"""
    coding: Coding
    """how they were coded"""
    skipped: tuple[str, ...]
    """samples that were damaged, and for which others are here"""

    def to(self, device: torch.device) -> AlignedBatch:
        """The batch on a device, ready for a network."""
        coding = Coding(**{name: x.to(device) for name, x in vars(self.coding).items()})
        lr = self.lr.to(device).float() / 255  # stays channels last, as frames are decoded
        return dataclasses.replace(self, lr=lr, coding=coding)


def strength(stream: Stream) -> float:
    """How strongly a stream is compressed: its CRF, or `UNCOMPRESSED`.

    NaN, which is neither below nor above anything, where its rate was controlled otherwise, or an
    earlier codec has left its marks.
    """
    if stream.earlier:
        return math.nan
    if stream.lr_kind is LrKind.LOSSLESS:
        return UNCOMPRESSED
    return stream.crf if stream.rate_mode == "crf" else math.nan


def collate_aligned(windows: Sequence[AlignedWindow]) -> AlignedBatch:
    """Put the frames of windows side by side: window after window, stream after stream.

    Args:
        windows: of one crop size.
    """
    coded = [stream for window in windows for stream in window.streams]
    content, first = list[np.ndarray](), 0
    for window in windows:
        num_frames = len(window.streams[0].frame_type)
        is_mixed = window.kind is SampleKind.PSEUDO_VIDEO
        scenes = first + (np.arange(num_frames) if is_mixed else np.zeros(num_frames, np.int64))
        content += [scenes] * len(window.streams)
        first += num_frames
    moments = [np.arange(len(x.frame_type)) for x in coded]
    strengths = [np.full(len(x.frame_type), x.strength, np.float32) for x in coded]
    return AlignedBatch(
        lr=torch.from_numpy(np.concatenate([x.lr for x in coded])).movedim(-1, -3),
        coding=Coding(
            strength=torch.from_numpy(np.concatenate(strengths)),
            frame_type=torch.from_numpy(np.concatenate([x.frame_type for x in coded])),
            content=torch.from_numpy(np.concatenate(content)),
            moment=torch.from_numpy(np.concatenate(moments)),
        ),
        skipped=tuple(key for window in windows for key in window.skipped),
    )
