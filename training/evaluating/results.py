"""What an evaluation finds, as values: `results.json`."""

import numpy as np
from pydantic import Field

from schemas.record import Record
from training.evaluating.degradation import CodedClip

TRUTH = "ground truth"
"""The method of scores of the ground truth itself, under no condition."""


class ClipScore(Record):
    """How one method restored one clip."""

    method: str
    """cubic, a run, or the ground truth itself"""
    clip: str
    """name of the clip"""
    condition: str
    """how it was compressed, such as clean or CRF 25 4:2:0"""
    values: dict[str, list[float]]
    """by metric: a value for each frame that counts, or for each two consecutive ones"""

    @property
    def means(self) -> dict[str, float]:
        """Over frames; without metrics that have no values, such as tOF of a single frame."""
        return {name: float(np.mean(v)) for name, v in self.values.items() if v}


class CodingScore(Record):
    """How one clip was compressed, as its bitstream tells."""

    clip: str
    """name of the clip"""
    condition: str
    """how it was compressed"""
    frame_types: str
    """I, P or B for each frame"""
    stream_bytes: int
    """size of the bitstream; of lossless H.264 where it is not compressed"""
    bits_per_pixel: float
    """of LR"""

    @classmethod
    def of(cls, clip: str, coded: CodedClip) -> "CodingScore":
        """What is told of a clip as coded."""
        return cls(
            clip=clip,
            condition=coded.condition.label,
            frame_types=coded.frame_types,
            stream_bytes=coded.stream_bytes,
            bits_per_pixel=8 * coded.stream_bytes / np.prod(coded.lr.shape[:3]),
        )


class Results(Record):
    """Everything that an evaluation finds, and what it was asked."""

    data: str
    """the folder of clips, as it was given"""
    frames: dict[str, int]
    """frames of each clip, dropped ones included"""
    whole: bool
    """no clip was cut short"""
    protocol: str
    """cavsr or comisr"""
    conditions: list[str]
    """how clips were compressed, in order"""
    metrics: list[str]
    """what was measured, in order"""
    methods: list[str]
    """what restored them, in order"""
    weights: dict[str, str]
    """SHA-256 of the weights of each run"""
    tiled: bool
    """networks saw tiles and windows, not whole clips"""
    device: str
    """where networks ran"""
    encoder: str
    """what the encoder says of itself"""
    libraries: dict[str, str]
    """versions"""
    codings: list[CodingScore] = Field(default=[])
    """one for each clip and condition"""
    scores: list[ClipScore] = Field(default=[])
    """one for each method, clip and condition"""

    def mean(self, metric: str, method: str, condition: str, clip: str = "") -> float | None:
        """Mean over frames, then over clips.

        Args:
            metric: its name.
            method: which.
            condition: which.
            clip: only of this clip; empty for all.

        Returns:
            None where there is no value.
        """
        means = [
            score.means[metric]
            for score in self.scores
            if (score.method, score.condition) == (method, condition)
            and clip in ("", score.clip)
            and metric in score.means
        ]
        return float(np.mean(means)) if means else None
