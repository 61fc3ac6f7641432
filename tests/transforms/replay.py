"""Following a drawn chain without its pixels: sizes and numbers of frames."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.draw import CodecDraw, CropDraw, PadDraw, ResizeDraw, RetimeDraw, StageDraw
from transforms.codec import coded_size, refuse_untaken


class Replay(NamedTuple):
    """What comes out of a chain."""

    sizes: list[tuple[int, int]]
    """(height, width) of each frame"""
    coded_frames: list[int]
    """how many frames each codec was given"""


def replay(stages: Sequence[StageDraw], size: tuple[int, int], num_frames: int) -> Replay:
    """Follow a chain, checking that each stage fits the frames that reach it.

    Args:
        stages: the chain.
        size: (height, width) of the frames that come in.
        num_frames: how many come in.
    """
    sizes, coded_frames = [size] * num_frames, []
    for stage in stages:
        match stage:
            case ResizeDraw():
                assert len(stage.height) == len(stage.width)
                assert len(stage.height) in (1, len(sizes))
                assert len(stage.factor) in (0, 1, len(sizes))
                new = list(zip(stage.height, stage.width, strict=True))
                sizes = new * len(sizes) if len(new) == 1 else new
            case PadDraw():
                assert len(set(sizes)) == 1
                assert stage.height >= sizes[0][0] + stage.top
                assert stage.width >= sizes[0][1] + stage.left
                sizes = [(stage.height, stage.width)] * len(sizes)
            case CropDraw():
                assert sizes[0][0] >= stage.top + stage.height
                assert sizes[0][1] >= stage.left + stage.width
                sizes = [(stage.height, stage.width)] * len(sizes)
            case RetimeDraw():
                assert stage.frames[0] == 0 and stage.frames == sorted(stage.frames)
                sizes = [sizes[frame] for frame in stage.frames]
            case CodecDraw():
                coded = (stage.height, stage.width)
                assert set(sizes) == {coded}
                assert coded == coded_size(stage.codec, stage.pixel_format, *coded)
                refuse_untaken(stage)
                coded_frames.append(len(sizes))
    return Replay(sizes, coded_frames)
