"""What was found out about two datasets: for a person, and for a program."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pipelines.command import EXIT_FINDINGS, EXIT_OK
from schemas.record import Record
from schemas.wording import counted

CauseName = Literal[
    "outcome",
    "source",
    "span",
    "source_list",
    "seed",
    "recipe",
    "libraries",
    "encoder_build",
    "scene_draw",
    "stream_draw",
    "plan",
    "fields",
    "unexplained",
]
_MOST_FIELDS = 8


class Cause(Record):
    """One reason why a sample differs."""

    cause: CauseName
    """outcome: made in one alone; source: other content at the same place, or no such source; span:
    other frames of it; source_list: split, group, licence or attribution; seed, recipe, libraries:
    those of the datasets; encoder_build: of what wrote a stream; scene_draw, stream_draw: drawn
    otherwise; plan: not planned, for none of these reasons; fields: of the record; unexplained:
    all of these are equal"""
    detail: str
    """one line for a person; values of A, then of B"""


class Difference(Record):
    """A sample that is not the same in both datasets."""

    side: Literal["a", "b", "both"]
    """where it is"""
    key: str
    """of the sample, in A where it is in both"""
    key_b: str
    """of the sample in B; empty for one that is in A alone"""
    uris: list[str]
    """its sources, by the first place of each"""
    parts: list[str]
    """what differs: hr, lr:NAME, lr_bytes:NAME (the pixels are the same), motion:NAME of a stream,
    metadata (the record); empty where there is nothing to compare"""
    causes: list[Cause]
    """why, what comes first in the pipeline first"""

    @property
    def effect(self) -> str:
        """Which of the pixels differ, in words."""
        kinds = {part.partition(":")[0] for part in self.parts}
        if not kinds:
            return "made in one alone"
        if "hr" in kinds:
            return "HR and LR" if "lr" in kinds else "HR only"
        if "lr" in kinds:
            return "LR only"
        return "bytes of LR only" if kinds & {"lr_bytes", "motion"} else "metadata only"


class Comparison(Record):
    """Two datasets, sample by sample."""

    a: str
    """the first dataset's folder, as it was given"""
    b: str
    """the second one's"""
    manifest_sha256: list[str]
    """of A and of B"""
    recipe: list[str]
    """keys of the resolved recipes that differ, with both values"""
    seed: list[int]
    """of A and of B"""
    environment: list[str]
    """libraries and encoders that differ, with both versions"""
    num_samples: list[int]
    """planned samples of A and of B"""
    num_equal: int
    """samples that are the same to the byte"""
    differences: list[Difference]
    """the others, by key"""

    @property
    def exit_status(self) -> int:
        """0 if every sample is the same, else 1."""
        return EXIT_FINDINGS if self.differences else EXIT_OK

    def describe(self, limit: int) -> str:
        """The comparison for a person, with so many examples."""
        lines = [
            f"  A            {self.a}: {counted(self.num_samples[0], 'sample')}",
            f"  B            {self.b}: {counted(self.num_samples[1], 'sample')}",
        ]
        for name, found in (("recipe", self.recipe), ("environment", self.environment)):
            lines += [f"  {name:<13}{text}" for text in _first(found, _MOST_FIELDS)]
        if self.seed[0] != self.seed[1]:
            lines.append(f"  seed         {self.seed[0]} / {self.seed[1]}")
        all_the_same = ", though the environments differ" if self.environment else ""
        lines.append(f"  equal        {counted(self.num_equal, 'sample')}{all_the_same}")
        for side, label in (("a", "only in A"), ("b", "only in B"), ("both", "different")):
            lines += _counts(label, [item for item in self.differences if item.side == side])
        lines += [_example(item) for item in self.differences[:limit]]
        if (others := len(self.differences) - limit) > 0:
            lines.append(f"  and {others} more")
        return "\n".join(lines) + "\n"


def _first(found: Sequence[str], most: int) -> list[str]:
    more = [f"and {len(found) - most} more"] if len(found) > most else []
    return [*found[:most], *more]


def _counts(label: str, found: Sequence[Difference]) -> list[str]:
    if not found:
        return []
    lines = [f"  {label:<13}{counted(len(found), 'sample')}"]
    if found[0].side == "both":
        effects = Counter(item.effect for item in found)
        lines.append(f"    in         {_listed(effects)}")
    # A sample may have several causes, so that these add up to more.
    causes = Counter[str](n for item in found for n in {cause.cause for cause in item.causes})
    lines.append(f"    by         {_listed(causes)}")
    return lines


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _example(item: Difference) -> str:
    where = {"a": "only in A", "b": "only in B", "both": ", ".join(item.parts) or item.effect}
    key = item.key if item.key_b in ("", item.key) else f"{item.key} / {item.key_b}"
    lines = [f"{key} ({', '.join(_first(item.uris, 3))}): {where[item.side]}"]
    lines += [f"    {cause.cause}: {cause.detail}" for cause in item.causes]
    return "\n".join(lines)
