"""Means of paired differences with intervals, by resampling seeds and clips.

Frames of a clip, and checkpoints of a run, are not independent: what is resampled is what another
trial would draw anew.
"""

from typing import NamedTuple

import numpy as np

_RESAMPLES = 10_000
_COVERAGE = 0.95


class Interval(NamedTuple):
    """A mean and where it would lie in 95 of 100 resamples."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def interval(difference: np.ndarray) -> Interval:
    """The mean of a table of paired differences, and its percentile interval.

    Args:
        difference: (seeds, clips), one value of either side subtracted.
    """
    seeds, clips = difference.shape
    rng = np.random.default_rng(0)
    rows = rng.integers(seeds, size=(_RESAMPLES, seeds))
    columns = rng.integers(clips, size=(_RESAMPLES, clips))
    means = difference[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    tail = (1 - _COVERAGE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(difference.mean()), float(low), float(high))
