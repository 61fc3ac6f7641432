"""Which of several datasets gives a batch: by ratios, exactly."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from transforms.seeding import generator


class Turns:
    """Deals batches to parts: so many of each as the ratios say, in a random order, for ever.

    Args:
        ratios: whole numbers from 1, one a part.
        seed: of the order.
    """

    def __init__(self, ratios: Sequence[int], seed: int) -> None:
        divisor = math.gcd(*ratios)
        self.ratios = tuple(ratio // divisor for ratio in ratios)
        """in lowest terms"""
        self._seed = seed

    def part(self, number: int) -> tuple[int, int]:
        """The part that gives batch `number`, and which of its own batches that is, 0-based."""
        rounds, position = divmod(number, sum(self.ratios))
        order = _order(self.ratios, self._seed, rounds)
        part = int(order[position])
        return part, rounds * self.ratios[part] + int((order[:position] == part).sum())

    def until_all_gave(self, sizes: Sequence[int]) -> int:
        """Batches in the whole rounds until each part gave all of its own, (N,) `sizes`."""
        pairs = zip(sizes, self.ratios, strict=True)
        return max(-(-size // ratio) for size, ratio in pairs) * sum(self.ratios)


@functools.lru_cache(maxsize=4)
def _order(ratios: tuple[int, ...], seed: int, rounds: int) -> np.ndarray:
    """The parts of a round, (sum(ratios),) integers."""
    return generator("turns", seed, rounds).permutation(np.repeat(np.arange(len(ratios)), ratios))
