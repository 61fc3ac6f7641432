"""What decides a run's outcome, as frozen values, and the error of a user who asked too much."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.record import Record

Count = Annotated[int, Field(ge=1)]


class UserError(ValueError):
    """Something asked for cannot be done; the message says what, why, and what to do."""


class StreamSettings(Record):
    """How samples become batches."""

    frames: Count = 5
    """T, frames of a window"""
    crop: Count = 48
    """side of the square LR crop, pixels"""
    batch_size: Count = 2
    """samples in a batch"""
    mixed_shards: Count = 16
    """shards whose samples are shuffled together; readers of a store need so many at hand"""
    uneven: Literal["drop", "pad"] = "drop"
    """where batches do not divide evenly among ranks: leave the last ones out, or take as many
    of those that follow"""
    damaged: Literal["refuse", "skip"] = "refuse"
    """what becomes of a sample whose bytes are not those that were written: an error, or another
    sample in its place, which is told and counted"""
    seed: int = 0
    """of the order of samples, of windows, crops and flips, and of the initial weights"""


class TrainConfig(StreamSettings):
    """What decides the weights, apart from dataset and model."""

    steps: Count = 1000
    """optimizer steps"""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """of the first step; falls to 0 along a cosine"""
