"""Numbers of a recipe: fixed, drawn from a range, or one of a list."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from schemas.record import Record

Key = TypeVar("Key")


class Range(Record):
    """A number drawn uniformly."""

    min: float
    """least value"""
    max: float
    """largest value"""
    step: float = 0
    """draw among min, min + step, ... up to max; 0 draws a real number"""
    spread: Literal["linear", "log", "square", "inverse"] = "linear"
    """what is uniform: the number, its logarithm, its square (a variance) or 1 over it"""
    walk: Annotated[float, Field(ge=0)] = 0
    """along a clip, the most by which the number moves between frames; it stays in the range"""
    fresh: bool = False
    """drawn anew for every frame of a clip; a pack of patches always has levels and qualities of
    its own for every frame, and kernels and sizes for all"""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max or self.step < 0:
            raise ValueError(f"{self.min = }, {self.max = }, {self.step = }: need min <= max")
        if self.spread != "linear" and (self.step or self.min < 0):
            raise ValueError(f"a {self.spread} spread has no step and no negative numbers")
        if self.spread in ("log", "inverse") and not self.min:
            raise ValueError(f"a {self.spread} spread has no 0")
        if self.walk and self.fresh:
            raise ValueError("give walk or fresh, not both")
        return self


Number = float | Range | Annotated[list[float], Field(min_length=1)]
"""A fixed value, a `Range` such as `{min, max}`, or a list (one of them, equally likely)."""


def ends(number: Number) -> list[float]:
    if isinstance(number, Range):
        return [number.min, number.max]
    return number if isinstance(number, list) else [number]


def check_between(number: Number, least: float, most: float) -> None:
    for value in ends(number):
        if not least <= value <= most:
            raise ValueError(f"{value:g} is not between {least:g} and {most:g}")


def between(least: float, most: float) -> AfterValidator:
    def check(number: Number) -> Number:
        check_between(number, least, most)
        return number

    return AfterValidator(check)


def check_once(number: Number) -> Number:
    if isinstance(number, Range) and (number.walk or number.fresh):
        raise ValueError("is drawn once a clip, without walk or fresh")
    return number


def check_odd(number: Number) -> Number:
    # A kernel with an even number of taps has no middle, and shifts the picture by half a pixel.
    steps = [number.step] if isinstance(number, Range) and number.min < number.max else [2.0]
    if any(value % 2 != 1 for value in ends(number)) or any(s <= 0 or s % 2 for s in steps):
        raise ValueError("give odd whole numbers; a range of them needs an even step")
    return number


def check_some_weight(weights: dict[Key, float]) -> dict[Key, float]:
    if weights and not sum(weights.values()):
        raise ValueError("all weights are 0")
    return weights


Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


Once = AfterValidator(check_once)
"""Marks a number that all frames of a clip share."""


class Scaling(Record):
    """A size factor: up, down or neither."""

    up: Weight = 0
    """weight of enlarging"""
    down: Weight = 0
    """weight of shrinking"""
    keep: Weight = 1
    """weight of leaving the size alone"""
    up_factor: Annotated[Number, between(1, 8), Once] = Range(min=1, max=1.5)
    """factor when enlarging"""
    down_factor: Annotated[Number, between(0.01, 1), Once] = Range(min=0.5, max=1)
    """factor when shrinking"""
    walk: Annotated[float, Field(ge=0)] = 0
    """along a clip, the most by which the factor moves between frames; it stays between the least
    down_factor and the largest up_factor, also where it began with neither"""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.up + self.down + self.keep == 0:
            raise ValueError("the weights of up, down and keep are all 0")
        return self
