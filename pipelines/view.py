"""Choose what to train on by SQL over a dataset's tables: `python -m pipelines.view DATASET`.

The outcome is a small Parquet file (`schemas.view`) that `training` takes. The query can read the
datasets' tables and nothing else: no other file, no network, no extension.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset

from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.command import EXIT_OK, run_command
from pipelines.errors import UserError
from schemas.manifest import SHARD_TABLES, DatasetError
from schemas.plan import PlannedSample
from schemas.record import Record, Status
from schemas.sample import FrameRow, SampleRow, StreamRow
from schemas.source import SPLITS, Source
from schemas.store import Place, for_arrow, place, place_argument
from schemas.tables import TABLE_ERRORS, read_columns
from schemas.view import ANY, MOST_WEIGHT, ViewAbout, ViewRow, write_view
from schemas.wording import counted

_RECORDS: dict[str, type[Record]] = {
    "samples": SampleRow,
    "streams": StreamRow,
    "frames": FrameRow,
    "sources": Source,
    "plan": PlannedSample,
}
_COLUMNS = ("key", "stream", "frame", "weight")
_SELECTED = {
    "sample": "key",
    "stream": "key, stream",
    "frame": "key, stream, display_index AS frame",
}
_ISOLATED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
_PARQUET = pyarrow.dataset.ParquetFileFormat(
    default_fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(
        page_checksum_verification=True
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run_command("view", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    dataset = open_dataset(options.dataset)
    others = _open_others(options.others)
    query = options.sql
    if query is None:
        query = where_query(options.where, options.per, options.weight)
    rows = select(dataset, others, query)
    hashes = {name: other.manifest.sha256 for name, other in others.items()}
    about = _write(options.output, dataset, query, hashes, rows)
    sys.stdout.write(_describe(dataset, rows))
    sys.stdout.write(
        f"{options.output}: view {about.sha256[:12]}\n"
        f"  train  python -m training.train {options.dataset} --view {options.output}\n"
    )
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.view",
        description="Choose what to train on, by SQL over the tables of a dataset.",
        epilog=f"Tables: {', '.join(_RECORDS)}. docs/reference.md has their columns.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", type=place_argument, metavar="DATASET", help="a dataset: a folder or a URL")
    add("--output", type=Path, required=True, metavar="PARQUET", help="the view to write")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument(
        "--where",
        metavar="EXPRESSION",
        help="condition on samples, streams and frames, joined",
    )
    query.add_argument(
        "--sql",
        metavar="SELECT",
        help="a whole statement, of columns key and any of stream, frame, weight",
    )
    add(
        "--per",
        choices=list(_SELECTED),
        default="stream",
        help="with --where: what is chosen if any of its frames meets it (default: stream)",
    )
    add(
        "--weight",
        default="1",
        metavar="EXPRESSION",
        help="with --where: how many times an epoch, on average (default: 1)",
    )
    add(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="NAME=DATASET",
        help="another dataset, whose tables are NAME.samples and so on; repeatable",
    )
    return parser


def _open_others(given: Sequence[str]) -> dict[str, Dataset]:
    others = dict[str, Dataset]()
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not re.fullmatch("[a-z][a-z0-9_]*", name) or name in {*_RECORDS, *others}:
            raise UserError(
                f"--with {text}: give NAME=DATASET, with a name of its own of small letters and "
                "digits, such as --with other=datasets/second"
            )
        others[name] = open_dataset(place(folder))
    return others


def where_query(where: str, per: str, weight: str) -> str:
    """The statement behind --where.

    Args:
        where: condition on the joined tables.
        per: sample, stream or frame: what is selected.
        weight: expression.
    """
    # Lines of their own: the expressions may end in a comment.
    return (
        f"SELECT DISTINCT {_SELECTED[per]}, (\n{weight}\n) AS weight\n"
        "FROM samples JOIN streams USING (key) JOIN frames USING (key, stream)\n"
        f"WHERE (\n{where}\n)"
    )


def select(dataset: Dataset, others: Mapping[str, Dataset], query: str) -> list[ViewRow]:
    """The rows that a query selects of a dataset.

    Args:
        dataset: what the view is of.
        others: by schema.
        query: a SELECT statement.

    Raises:
        UserError: if the query is not one, or what it selects is no view of the dataset.
        DatasetError: if a table is missing or damaged.
    """
    with duckdb.connect(config=_ISOLATED) as connection:
        _add_tables(connection, {"main": dataset, **others})
        try:
            names, found = _execute(connection, query)
        except duckdb.Error as error:
            told = str(error).strip()
            raise UserError(f"{told}\nThe tables and their columns:\n{_tables()}") from error
    return list(_rows(dataset, names, found))


def _add_tables(connection: duckdb.DuckDBPyConnection, datasets: Mapping[str, Dataset]) -> None:
    """Make each dataset's tables readable by name, and lock every other door."""
    for schema, dataset in datasets.items():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for table, files in _files(dataset).items():
            # Arrow opens the files, so that DuckDB need not be let out for them.
            connection.register(f"_{schema}_{table}", _open(files))
            connection.execute(f"CREATE VIEW {schema}.{table} AS SELECT * FROM _{schema}_{table}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _files(dataset: Dataset) -> dict[str, list[Place]]:
    layout, shards = dataset.layout, dataset.manifest.shards
    files = {table: [layout.table(table, s.shard) for s in shards] for table in SHARD_TABLES}
    return files | {"sources": [layout.sources], "plan": [layout.plan]}


def _open(files: Sequence[Place]) -> pyarrow.dataset.Dataset:
    try:
        paths, file_system = for_arrow(files)
        return pyarrow.dataset.dataset(paths, filesystem=file_system, format=_PARQUET)
    except TABLE_ERRORS as error:
        raise DatasetError(
            f"{files[0]} or a table beside it is missing or damaged ({error}): copy the dataset "
            "again"
        ) from error


def _execute(
    connection: duckdb.DuckDBPyConnection, query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
        raise UserError("the query is not one SELECT statement: a view is what one selects")
    result = connection.execute(statements[0])
    names = [column[0] for column in result.description or []]
    if "key" not in names or len(set(names)) < len(names) or not set(names) <= set(_COLUMNS):
        raise UserError(
            f"the query selects {', '.join(names)}: select key, and of {', '.join(_COLUMNS[1:])} "
            "what you mean, by these names (display_index AS frame)"
        )
    return names, result.fetchall()


def _tables() -> str:
    lines = (f"  {t}: {', '.join(record.model_fields)}" for t, record in _RECORDS.items())
    return "\n".join(lines)


def _rows(
    dataset: Dataset, names: Sequence[str], found: Sequence[tuple[Any, ...]]
) -> Iterator[ViewRow]:
    lengths = _lengths(dataset)
    num_streams = len(dataset.manifest.streams)
    taken = set[tuple[str, int, int]]()
    left_out = set[str]()
    for values in found:
        given = {"stream": ANY, "frame": ANY, "weight": 1, **dict(zip(names, values, strict=True))}
        key, stream, frame = given["key"], given["stream"], given["frame"]
        if key not in lengths:
            raise UserError(f"the query selects key {key!r}, which {dataset.layout.root} has not")
        if lengths[key] is None:
            left_out.add(key)
            continue
        _check_number("stream", stream, num_streams, key)
        _check_number("frame", frame, lengths[key] or 0, key)
        if (key, stream, frame) in taken:
            raise UserError(
                f"the query selects {key}, stream {stream}, frame {frame} more than once: add "
                "DISTINCT, or GROUP BY and a weight such as count(*)"
            )
        taken.add((key, stream, frame))
        if weight := _weight(given["weight"], key):
            yield ViewRow(key=key, stream=stream, frame=frame, weight=weight)
    if left_out:
        sys.stderr.write(
            f"{counted(len(left_out), 'selected sample')} could not be made when the dataset was, "
            "and cannot be in a view\n"
        )


def _lengths(dataset: Dataset) -> dict[str, int | None]:
    """Sample -> frames; None for one that could not be made."""
    lengths: dict[str, int | None] = {}
    for shard in dataset.manifest.shards:
        path = str(dataset.layout.table("samples", shard.shard))
        for row in read_columns(path, SampleRow, ["key", "status", "num_frames"]).to_pylist():
            lengths[row["key"]] = row["num_frames"] if row["status"] == Status.OK else None
    return lengths


def _check_number(name: str, value: Any, end: int, key: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not ANY <= value < end:
        raise UserError(
            f"the query selects {name} {value!r} of {key}: a whole number from 0 to {end - 1}, "
            f"or {ANY} for any"
        )


def _weight(value: Any, key: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight <= MOST_WEIGHT:
        raise UserError(
            f"the query gives {key} a weight of {value!r}: a number from 0 to {MOST_WEIGHT}"
        )
    return weight


def _write(
    output: Path, dataset: Dataset, query: str, others: dict[str, str], rows: Sequence[ViewRow]
) -> ViewAbout:
    if not rows:
        raise UserError(
            f"the query selects nothing of {dataset.layout.root}: widen its condition; it is "
            + " ".join(query.split())
        )
    part = output.with_name(f"{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        about = write_view(part, dataset.manifest.sha256, query, others, rows)
        os.replace(part, output)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error}): choose another") from error
    return about


def _describe(dataset: Dataset, rows: Sequence[ViewRow]) -> str:
    """What a view holds, split by split."""
    splits = {shard.shard: shard.split for shard in dataset.manifest.shards}
    by_key = {}
    for shard, split in splits.items():
        table = read_columns(str(dataset.layout.table("samples", shard)), SampleRow, ["key"])
        by_key.update(dict.fromkeys(table.column("key").to_pylist(), split))
    lines = []
    for split in SPLITS:
        chosen = [row for row in rows if by_key[row.key] == split]
        if chosen:
            samples = counted(len({row.key for row in chosen}), "sample")
            weight = sum(row.weight for row in chosen)
            lines.append(
                f"  {split:<11}{counted(len(chosen), 'row')} of {samples}, {weight:.6g} an epoch\n"
            )
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
