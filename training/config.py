"""What decides a run's outcome, as frozen values, and the error of a user who asked too much."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.record import Record

Count = Annotated[int, Field(ge=1)]
# Configurations come with weights from anywhere, and must not make a network without end.
Width = Annotated[int, Field(ge=1, le=1024)]
"""Channels."""
Depth = Annotated[int, Field(ge=1, le=256)]
"""Blocks."""
Scale = Annotated[int, Field(ge=1, le=16)]
"""HR size divided by LR size."""


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


class OptimizerSettings(StreamSettings):
    """How far and how fast weights are changed."""

    steps: Count = 1000
    """optimizer steps"""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """the highest; rises to it in a line, falls to 0 along a cosine"""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """part of the steps in which the learning rate rises"""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    """of all parameters together; longer gradients are shortened to it"""


class TrainConfig(OptimizerSettings):
    """What decides the weights, apart from dataset and model."""

    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """of the moving average of the weights that is kept, validated and handed out; 0 keeps the
    weights themselves"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of convolutions; vectors, warps and the loss are float32 in either case"""
    encoder_sha256: str = ""
    """of the weights of a pretrained compression encoder; empty if it starts from random ones"""
    trains_encoder: bool = True
    """whether the compression encoder is trained along, or stays as it was pretrained"""
