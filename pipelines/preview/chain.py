"""A drawn chain, applied step by step, with a look at one frame after each.

What comes out at the end is what synthesis makes, to the bit: no frame is rounded between steps
that synthesis does not round.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.draw import (
    CodecDraw,
    CropDraw,
    DenoiseDraw,
    FrameStageDraw,
    PadDraw,
    ResizeDraw,
    RetimeDraw,
    StageDraw,
)
from schemas.sample import Generation
from transforms.degrade import Clip, apply_stages
from transforms.frame_stages import apply_frame_stages
from transforms.pixels import to_float, to_uint8


class Step(NamedTuple):
    """A stage, or a codec with what must happen around it."""

    stages: list[StageDraw]
    """in order"""
    picture: np.ndarray
    """(h, w, 3) uint8, the frame that is looked at, afterwards"""
    generation: Generation | None
    """what the bitstream of a codec said"""


class Developed(NamedTuple):
    """A chain's steps, and what came out."""

    steps: list[Step]
    clip: Clip
    """the frames after the last step"""


def stages_of(clip: Clip, stages: Sequence[StageDraw], shown: int) -> Developed:
    """Apply a drawn chain, one step after the other.

    Args:
        clip: what goes in.
        stages: what was drawn.
        shown: display index of the frame to look at.

    Raises:
        CodecError: if an encoder fails.
    """
    steps = []
    waiting: list[FrameStageDraw] = []  # steps between act on the shown frame alone, for speed
    height, width = clip.frames[0].shape[:2]
    for group in grouped(stages, (height, width), len(clip.frames)):
        whole, single = _split(group)
        if whole:
            clip = apply_stages(clip, [*waiting, *whole])
            waiting = []
        waiting += single
        picture = _developed(clip.frames[shown], waiting, shown)
        is_coded = any(isinstance(stage, CodecDraw) for stage in group)
        steps.append(Step(group, picture, clip.generations[-1] if is_coded else None))
    return Developed(steps, apply_stages(clip, waiting))


def as_uint8(frame: np.ndarray) -> np.ndarray:
    """A frame of a clip, as 8 bits."""
    return frame if frame.dtype == np.uint8 else to_uint8(frame)


def _developed(frame: np.ndarray, stages: Sequence[FrameStageDraw], index: int) -> np.ndarray:
    if not stages:
        return as_uint8(frame)
    image = to_float(frame) if frame.dtype == np.uint8 else frame
    return to_uint8(apply_frame_stages(image, stages, index))


def _split(group: Sequence[StageDraw]) -> tuple[list[StageDraw], list[FrameStageDraw]]:
    """Stages up to the last one that needs all frames, and those after it."""
    single: list[FrameStageDraw] = []
    for count, stage in enumerate(reversed(group)):
        if isinstance(stage, CodecDraw | DenoiseDraw | RetimeDraw):
            return list(group[: len(group) - count]), single
        single.insert(0, stage)
    return [], single


def grouped(
    stages: Sequence[StageDraw], size: tuple[int, int], num_frames: int
) -> list[list[StageDraw]]:
    """The stages, with each codec and what brings frames to its size and rate and back in one.

    Args:
        stages: what was drawn.
        size: (height, width) of the frames that go in.
        num_frames: how many.
    """
    codecs = [index for index, stage in enumerate(stages) if isinstance(stage, CodecDraw)]
    sizes = _sizes_before(stages, size)
    spans = [_around(stages, sizes, codec, num_frames) for codec in codecs]
    inside = {index for start, end in spans for index in range(start + 1, end)}
    starts = [index for index in range(len(stages)) if index not in inside]
    return [list(stages[start:end]) for start, end in pairwise([*starts, len(stages)])]


def _around(
    stages: Sequence[StageDraw], sizes: list[tuple[int, int]], codec: int, num_frames: int
) -> tuple[int, int]:
    """First stage of a codec's group, and the first one after it."""
    start, end = codec, codec + 1
    for kind in (PadDraw | CropDraw, ResizeDraw, RetimeDraw):
        if start == 0 or end == len(stages):
            break
        before, after = stages[start - 1], stages[end]
        if not (isinstance(before, kind) and isinstance(after, kind)):
            continue
        # A resize or a retime that is not undone behind the codec is the recipe's own.
        if isinstance(before, ResizeDraw) and sizes[start - 1] != sizes[end + 1]:
            continue
        if isinstance(before, RetimeDraw) and len(before.frames) == num_frames:
            continue
        start, end = start - 1, end + 1
    return start, end


def _sizes_before(stages: Sequence[StageDraw], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Size of the first frame before each stage, and after the last one."""
    sizes = [size]
    for stage in stages:
        if isinstance(stage, ResizeDraw):
            size = stage.height[0], stage.width[0]
        elif isinstance(stage, PadDraw | CropDraw):
            size = stage.height, stage.width
        sizes.append(size)
    return sizes
