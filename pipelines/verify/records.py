"""The records in the tar against the tables, which are derived from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from pipelines.rows import SampleRows, rows_of
from pipelines.verify.problem import Problem
from schemas.manifest import Manifest
from schemas.plan import PlannedSample
from schemas.record import Record, Status
from schemas.sample import JSON_MEMBER, FrameRow, Sample, SampleRow, StreamRow

Row = TypeVar("Row", StreamRow, FrameRow)

_PLANNED_FIELDS = sorted(set(PlannedSample.model_fields) & set(SampleRow.model_fields))
_RUN_FIELDS = ("recipe_sha256", "seed", "scale")


class Tables(NamedTuple):
    """A shard's part of each table."""

    samples: list[SampleRow]
    streams: list[StreamRow]
    frames: list[FrameRow]

    @property
    def made(self) -> list[SampleRow]:
        """The samples that are in the tar."""
        return [row for row in self.samples if row.status is Status.OK]


def planned_problems(
    planned: Sequence[PlannedSample], rows: Sequence[SampleRow]
) -> Iterator[Problem]:
    """Every planned sample has one row, in the plan's order, which repeats what was planned."""
    if [row.key for row in planned] != [row.key for row in rows]:
        differing = {row.key for row in planned} ^ {row.key for row in rows}
        told = f"such as {min(differing)}" if differing else "in another order, or twice"
        yield Problem("planned", "", f"not the planned samples: {told}", "", "samples")
    by_key = {row.key: row for row in planned}
    for row in rows:
        if row.key in by_key and (names := _differing(_PLANNED_FIELDS, row, by_key[row.key])):
            yield Problem("planned", "", f"{names}: not as planned", row.key, "samples")


def record_problems(
    records: Mapping[str, bytes],
    planned: Sequence[PlannedSample],
    tables: Tables,
    manifest: Manifest,
) -> Iterator[Problem]:
    """Compare the tables with the rows that the records give.

    Args:
        records: the `json` members that are whole, by key; samples without one are left out.
        planned: the shard's rows of the plan.
        tables: the shard's part of each table.
        manifest: says what all samples share.
    """
    by_key = {row.key: row for row in planned}
    streams, frames = _grouped(tables.streams), _grouped(tables.frames)
    for index, row in enumerate(tables.made):
        stored = SampleRows(row, streams.pop(row.key, []), frames.pop(row.key, []))
        if row.key not in records or row.key not in by_key:
            continue
        try:
            sample = Sample.model_validate_json(records[row.key])
            derived = rows_of(sample, by_key[row.key], index, row.members)
        except (ValidationError, KeyError) as error:
            yield Problem("record", JSON_MEMBER, f"not a sample's record: {error}", row.key)
            continue
        if sample.model_dump_json().encode() != records[row.key]:
            yield Problem("record", JSON_MEMBER, "not written as this release writes it", row.key)
        if names := _differing(_RUN_FIELDS, sample, manifest):
            yield Problem("record", JSON_MEMBER, f"{names}: not as in manifest.json", row.key)
        yield from _row_problems(derived, stored)
    for table, others in (("streams", streams), ("frames", frames)):
        for key in sorted(others):
            yield Problem("rows", "", "rows of a sample that was not made", key, table)


def _row_problems(derived: SampleRows, stored: SampleRows) -> Iterator[Problem]:
    pairs: list[tuple[str, Sequence[Record], Sequence[Record]]] = [
        ("samples", [derived.sample], [stored.sample]),
        ("streams", derived.streams, stored.streams),
        ("frames", derived.frames, stored.frames),
    ]
    for table, one, other in pairs:
        if one != other:
            told = f"not the rows that the record gives: {_first_difference(one, other)}"
            yield Problem("rows", "", told, derived.sample.key, table)


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.key, []).append(row)
    return found


def _differing(names: Sequence[str], one: Record, other: Record) -> str:
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))


def _first_difference(derived: Sequence[Record], stored: Sequence[Record]) -> str:
    if len(derived) != len(stored):
        return f"{len(stored)} rows, and should be {len(derived)}"
    differing = (
        f"{names} of row {index}"
        for index, (one, other) in enumerate(zip(derived, stored, strict=True))
        if (names := _differing(list(type(one).model_fields), one, other))
    )
    return next(differing)
