"""Turns of phrase that messages share."""

import difflib
from collections.abc import Iterable, Sequence

from schemas.sample import SampleKind

KIND_NAMES = {
    SampleKind.CLIP: "clip",
    SampleKind.PSEUDO_VIDEO: "pseudo-video",
    SampleKind.CAMERA: "camera clip",
}
"""What a sample of each kind is called."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Such as 1 sample, 2 samples; a plural that is formed otherwise is given."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name; empty if it is like no other."""
    similar = difflib.get_close_matches(written, list(known), n=1)
    return f", did you mean {similar[0]!r}?" if similar else ""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; bars in cells must be escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
