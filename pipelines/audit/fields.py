"""Values as JSON has them, compared field by field."""

from collections.abc import Iterator
from typing import Any, NamedTuple


class FieldDifference(NamedTuple):
    """A field that is not the same in both."""

    name: str
    """such as stages.0.rate_value"""
    one: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.one)} / {_short(self.other)}"


ABSENT = "(absent)"


def differing_fields(one: Any, other: Any, *, name: str = "") -> Iterator[FieldDifference]:
    """The fields that differ, in the order of the first; lists of other lengths as a whole."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            pair = one.get(key, ABSENT), other.get(key, ABSENT)
            yield from differing_fields(*pair, name=f"{name}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differing_fields(*pair, name=f"{name}.{index}".lstrip("."))
    elif one != other:
        yield FieldDifference(name, one, other)


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} entries"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
