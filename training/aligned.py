"""The same part of every LR stream of a sample: the same pictures, compressed to several degrees.

Shapes: N frames of all streams of all windows of a batch, h and w LR rows and columns.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from schemas.sample import LrKind, SampleKind, Stream
from training.batch import Reading

UNCOMPRESSED = -1.0
"""Strength of frames that no codec has touched: below every CRF."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodedFrames:
    """T frames of one LR stream."""

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
    frames: np.ndarray
    """(T,) int64, which frames of the sample they are"""
    streams: Sequence[CodedFrames]
    """in the recipe's order"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """All frames of some aligned windows."""

    lr: Tensor
    """(N, 3, h, w) RGB: uint8 as it is loaded, float32 in [0, 1] behind `to`"""
    coding: Coding
    """how they were coded"""
    skipped: tuple[str, ...]
    """samples that were damaged, and for which others are here"""

    def to(self, device: torch.device) -> AlignedBatch:
        """The batch on a device, ready for a network."""
        lr = self.lr.to(device, non_blocking=True).contiguous().float() / 255
        return dataclasses.replace(self, lr=lr, coding=self.coding.to(device))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coding:
    """How each of N frames was coded, and what it shows."""

    strength: Tensor
    """(N,) float32, as `strength` has it"""
    frame_type: Tensor
    """(N,) int64, `FrameType.code`"""
    content: Tensor
    """(N,) int64, equal for frames that show the same scene"""

    def to(self, device: torch.device) -> Coding:
        """The same on a device."""
        return Coding(**{name: x.to(device, non_blocking=True) for name, x in vars(self).items()})


def strength(stream: Stream) -> float:
    """How strongly a stream is compressed: its CRF, or `UNCOMPRESSED`.

    NaN, which is neither below nor above anything, where its rate was controlled otherwise or an
    earlier codec has left its marks, too.
    """
    if stream.earlier:
        return math.nan
    if stream.lr_kind is LrKind.LOSSLESS:
        return UNCOMPRESSED
    return stream.crf if stream.rate_mode == "crf" else math.nan


def collate_aligned(windows: Sequence[AlignedWindow]) -> AlignedBatch:
    """Put the frames of windows of one crop size side by side."""
    coded = [stream for window in windows for stream in window.streams]
    return AlignedBatch(
        lr=torch.from_numpy(np.concatenate([x.lr for x in coded])).movedim(-1, -3),
        coding=coding_of(windows),
        skipped=tuple(key for window in windows for key in window.skipped),
    )


def coding_of(windows: Sequence[AlignedWindow]) -> Coding:
    """How the frames of windows were coded: window after window, stream after stream."""
    coded = [stream for window in windows for stream in window.streams]
    lengths = torch.tensor([len(x.frame_type) for x in coded])
    numbers = itertools.count()
    content = [_content(window, numbers) for window in windows for _ in [next(numbers)]]
    raise NotImplementedError
