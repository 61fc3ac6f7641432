"""Drawing numbers: fixed, from a range, from a list; once a clip, walking along it, or afresh."""

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from schemas.number import Number, Range, Scaling, ends

T = TypeVar("T")


def draw_number(number: Number, rng: np.random.Generator) -> float:
    """Draw from a fixed value, a range, or a list of values."""
    if isinstance(number, Range):
        return _draw_from_range(number, rng)
    if isinstance(number, list):
        return number[int(rng.integers(len(number)))]
    return number


def _draw_from_range(number: Range, rng: np.random.Generator) -> float:
    if number.step:
        steps = int((number.max - number.min) / number.step + 1e-9)
        return number.min + number.step * int(rng.integers(steps + 1))
    if number.spread == "log":
        return rounded(math.exp(rng.uniform(math.log(number.min), math.log(number.max))))
    if number.spread == "square":
        return math.sqrt(rng.uniform(number.min**2, number.max**2))
    if number.spread == "inverse":
        return 1 / rng.uniform(1 / number.max, 1 / number.min)
    return float(rng.uniform(number.min, number.max))


def rounded(value: float) -> float:
    """To ten digits: CPUs disagree on the last ones of an exponential, and records show them."""
    return float(f"{value:.10g}")


def draw_track(
    number: Number, num_frames: int, rng: np.random.Generator, *, independent: bool = False
) -> list[float]:
    """Draw the values of the frames of a clip.

    Args:
        number: its `walk` and `fresh` say how frames differ.
        num_frames: of the clip.
        rng: the generator.
        independent: frames have nothing to do with each other, whatever `number` says.

    Returns:
        One value, where all frames have the same, or one a frame.
    """
    is_fresh = isinstance(number, Range) and number.fresh
    if independent or is_fresh:
        return [draw_number(number, rng) for _ in range(num_frames)]
    first = draw_number(number, rng)
    if isinstance(number, Range) and number.walk:
        return walk(first, number.walk, (number.min, number.max), num_frames, rng)
    return [first]


def walk(
    first: float,
    most: float,
    limits: tuple[float, float],
    num_frames: int,
    rng: np.random.Generator,
) -> list[float]:
    """A bounded random walk: each step is uniform in -most to +most (mmagic, RealBasicVSR)."""
    values = [first]
    for _ in range(num_frames - 1):
        step = float(rng.uniform(-most, most))
        values.append(min(max(values[-1] + step, limits[0]), limits[1]))
    return values


def draw_weighted(weights: Mapping[T, float], rng: np.random.Generator) -> T:
    """Draw a key with a probability in proportion to its weight."""
    total = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(total, rng.random() * total[-1], side="right"))]


def draw_scaling(scaling: Scaling, num_frames: int, rng: np.random.Generator) -> list[float]:
    """Draw a size factor: one for all frames, or one a frame."""
    weights = {"up": scaling.up, "down": scaling.down, "keep": scaling.keep}
    ways: dict[str, Number] = {"up": scaling.up_factor, "down": scaling.down_factor, "keep": 1.0}
    first = draw_number(ways[draw_weighted(weights, rng)], rng)
    if not scaling.walk:
        return [first]
    limits = (min(ends(scaling.down_factor)), max(ends(scaling.up_factor)))
    return walk(first, scaling.walk, limits, num_frames, rng)
