"""A view: which parts of a dataset to train on, and how often. A small Parquet file of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from schemas.manifest import sha256_json
from schemas.record import Record, SchemaVersionError
from schemas.tables import TABLE_ERRORS, TableWriter, arrow_schema, read_columns, read_metadata

ANY = -1
"""Stands for a stream or frame that the loader is free to draw."""

MOST_WEIGHT = 1_000_000
"""Times an epoch; so that sums of weights stay exact."""

_ABOUT = "view"


class ViewError(ValueError):
    """The file is not a view, or is damaged."""


class ViewRow(Record):
    """One thing to train on. No two rows of a view have equal key, stream and frame."""

    key: str
    """the sample"""
    stream: int
    """the LR stream, 0-based; -1: any, drawn each time"""
    frame: int
    """display index of the frame that windows are centred on; -1: any, drawn each time"""
    weight: Annotated[float, Field(gt=0, le=MOST_WEIGHT)]
    """how many times an epoch, on average"""


_COLUMNS = list(ViewRow.model_fields)


class ViewAbout(Record):
    """Where a view comes from: in the file's metadata, as JSON."""

    manifest_sha256: str
    """of the dataset that it is a view of"""
    query: str
    """the SQL statement"""
    others: dict[str, str]
    """other datasets that the statement names: schema, SHA-256 of the manifest"""
    sha256: str
    """of the dataset's manifest and all rows"""


class View(NamedTuple):
    """A view as it is read: columns of equal length, sorted by key, stream and frame."""

    about: ViewAbout
    keys: list[str]
    streams: list[int]
    frames: list[int]
    weights: list[float]


def write_view(
    path: Path, manifest_sha256: str, query: str, others: dict[str, str], rows: Sequence[ViewRow]
) -> ViewAbout:
    """Write a view; equal arguments give equal bytes.

    Args:
        path: the file.
        manifest_sha256: of the dataset.
        query: the SQL statement.
        others: other datasets that the statement names, by their manifest's hash.
        rows: in any order.
    """
    rows = sorted(rows, key=lambda row: (row.key, row.stream, row.frame))
    columns = [[getattr(row, name) for row in rows] for name in _COLUMNS]
    about = ViewAbout(
        manifest_sha256=manifest_sha256,
        query=query,
        others=others,
        sha256=_content_sha256(manifest_sha256, columns),
    )
    writer = TableWriter(str(path), ViewRow)
    writer.describe({_ABOUT: about.model_dump_json()})
    writer.write_group(rows)
    writer.close()
    return about


def read_view(path: Path) -> View:
    """Read a view.

    Raises:
        ViewError: if there is none, or it is damaged.
        SchemaVersionError: if an incompatible release wrote it.
    """
    try:
        about = ViewAbout.model_validate_json(read_metadata(str(path), ViewRow).get(_ABOUT, ""))
        table = read_columns(str(path), ViewRow, _COLUMNS)
    except SchemaVersionError:
        raise
    except FileNotFoundError as error:
        raise ViewError(f"{path} is not there") from error
    except TABLE_ERRORS as error:
        told = " ".join(str(error).split())
        raise ViewError(f"{path} is no view, or is damaged ({told})") from error
    if not table.schema.equals(arrow_schema(ViewRow), check_metadata=False):
        raise ViewError(f"{path} is damaged: its columns are {', '.join(table.column_names)}")
    columns = [table.column(name).to_pylist() for name in _COLUMNS]
    if _content_sha256(about.manifest_sha256, columns) != about.sha256:
        raise ViewError(f"{path} is damaged: its rows are not those that were written")
    return View(about, *columns)


def _content_sha256(manifest_sha256: str, columns: Sequence[Sequence[object]]) -> str:
    return sha256_json([manifest_sha256, *columns])
