"""Which part of which sample a window is, and how it was turned: all that made it."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """A part of a sample."""

    stream: int
    """the LR stream, 0-based"""
    start: int
    """first frame, 0-based"""
    count: int
    """T, frames"""
    top: int
    """first row, LR pixels"""
    left: int
    """first column, LR pixels"""
    height: int
    """rows, LR pixels"""
    width: int
    """columns, LR pixels"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowDraw:
    """What was drawn for a window; with the dataset it makes the same window again."""

    key: str
    """the sample"""
    shard: str
    """where the sample lies, stem of the shard's files"""
    cut: Cut
    """the part of it"""
    turns: tuple[str, ...] = ()
    """names of `training.augment`'s functions, in the order in which they were applied"""
