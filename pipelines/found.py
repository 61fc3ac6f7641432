"""Sources as planning holds them: small, since there may be millions.

What planning looks at, or sets, is an object of a source's own. All else that is known of it stays
in an Arrow table, which is copied to the table of sources by row.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from schemas.record import Status
from schemas.source import Source, SourceKind
from schemas.tables import arrow_schema

_REPEATED = (
    "status", "stage", "reason", "detail", "kind", "group", "split", "licence", "attribution",
)  # fmt: skip
"""Columns of few values: equal ones are one object."""


@dataclass(frozen=True, slots=True)
class Part:
    """A span (`schemas.plan.Span`) of a source that is known from elsewhere."""

    start: int
    count: int
    start_pts: int
    start_crc32: int
    crc32: int


@dataclass(slots=True)
class Found:
    """A source. Its fields are those of `Source`, but for the first and the last."""

    row: int
    """of the table with all that planning does not look at"""
    status: str
    stage: str
    reason: str
    detail: str
    source_id: str
    kind: str
    uris: tuple[str, ...]
    group: str
    group_labels: tuple[str, ...]
    split: str
    licence: str
    attribution: str
    generation: int
    width: int
    height: int
    parts: tuple[Part, ...] = ()
    """what of it can be used"""

    @property
    def identity(self) -> str:
        """Its content; its place, where that could not be read."""
        return self.source_id or self.uris[0]

    @property
    def is_usable(self) -> bool:
        """Whether it was read, and is not left out."""
        return self.status == Status.OK

    @property
    def is_image(self) -> bool:
        """Whether it is one still picture."""
        return self.kind == SourceKind.IMAGE


_LOOKED_AT = [field.name for field in fields(Found) if field.name in Source.model_fields]
_COPIED = [name for name in Source.model_fields if name not in _LOOKED_AT]


class SourceTable:
    """The columns of sources that planning does not look at; they are added batch by batch."""

    def __init__(self) -> None:
        self._batches: list[pa.Table] = []
        self._num_rows = 0

    def add(self, sources: pa.Table) -> Iterator[Found]:
        """Take in the rows of a table of `Source`, each of which is then an object."""
        columns = [_values(sources, name) for name in _LOOKED_AT]
        first = self._num_rows
        self._batches.append(sources.select(_COPIED))
        self._num_rows += sources.num_rows
        if len(self._batches) >= 256:  # each takes memory of its own
            self._batches = [self._combined()]
        return itertools.starmap(Found, zip(itertools.count(first), *columns, strict=False))

    def add_probed(self, probed: pa.Table) -> Iterator[Found]:
        """Take in the rows of a table of `Probed`."""
        sources = pa.Table.from_struct_array(probed.column("source"))
        for found, parts in zip(self.add(sources), _parts(probed.column("spans")), strict=True):
            found.parts = parts
            yield found

    def rows(self, sources: Sequence[Found]) -> pa.Table:
        """The rows of these sources in a table of `Source`."""
        copied = self._combined().take(pa.array([source.row for source in sources], pa.int64()))
        columns = [
            copied.column(field.name)
            if field.name in _COPIED
            else pa.array([getattr(source, field.name) for source in sources], field.type)
            for field in arrow_schema(Source)
        ]
        return pa.Table.from_arrays(columns, schema=arrow_schema(Source))

    def _combined(self) -> pa.Table:
        if len(self._batches) > 1:
            self._batches = [pa.concat_tables(self._batches).combine_chunks()]
        return self._batches[0]


def _values(sources: pa.Table, name: str) -> Iterable[Any]:
    values = sources.column(name).to_pylist()
    if name in _REPEATED:
        return map(sys.intern, values)
    return map(tuple, values) if name in ("uris", "group_labels") else values


def _parts(spans: pa.ChunkedArray) -> Iterator[tuple[Part, ...]]:
    for chunk in spans.chunks:
        values = chunk.flatten()
        columns = (values.field(field.name).to_pylist() for field in fields(Part))
        parts = itertools.starmap(Part, zip(*columns, strict=True))
        for count in chunk.value_lengths().to_pylist():
            yield tuple(itertools.islice(parts, count))
