"""Choose what to train on by SQL over a dataset's tables: `python -m pipelines.view DATASET`.

The outcome is a small Parquet file (`schemas.view`) that `training` takes. The query can read the
datasets' tables and nothing else: no other file, no network, no extension. Equal queries give equal
views: one thread reads the tables in order, and functions that draw are refused.
"""

import argparse
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow.dataset

from pipelines.audit.dataset import Dataset, open_dataset, read_damageable_columns
from pipelines.command import EXIT_OK, run_command
from pipelines.errors import UserError
from pipelines.progress import watched
from schemas.manifest import SHARD_TABLES, DatasetError
from schemas.plan import PlannedSample
from schemas.record import Record, SchemaVersionError, Status
from schemas.sample import FrameRow, SampleRow, StreamRow
from schemas.source import SPLITS, Source
from schemas.store import Place, for_arrow, lies_in, place, place_argument
from schemas.tables import TABLE_ERRORS
from schemas.view import ANY, MOST_WEIGHT, ViewAbout, ViewError, ViewRow, read_view, write_view
from schemas.wording import counted

_RECORDS: dict[str, type[Record]] = {
    "samples": SampleRow,
    "streams": StreamRow,
    "frames": FrameRow,
    "sources": Source,
    "plan": PlannedSample,
}
_COLUMNS = tuple(ViewRow.model_fields)
_RESERVED = {*_RECORDS, "main", "temp", "system", "information_schema", "pg_catalog"}
"""Names that DuckDB, or this command, gives to something else."""
_SELECTED = {
    "sample": "key",
    "stream": "key, stream",
    "frame": "key, stream, display_index AS frame",
}
_ISOLATED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "threads": 1,  # several would add floats, and find first rows, in another order each time
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


class _Sample(NamedTuple):
    split: str
    num_frames: int
    is_made: bool


def _run(options: argparse.Namespace) -> int:
    dataset = open_dataset(options.dataset)
    others = _open_others(options.others)
    _check_output(options.output, [dataset, *others.values()])
    query = options.sql
    if query is None:
        query = where_query(options.where, options.per, options.weight)
    names, found = run_query(dataset, others, query)
    samples = _read_samples(dataset)
    rows = list(_rows(dataset, samples, names, found))
    hashes = {name: other.manifest.sha256 for name, other in others.items()}
    about = _write(options.output, dataset, query, hashes, rows)
    sys.stdout.write(_describe(samples, rows))
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
        if not equals or not re.fullmatch("[a-z][a-z0-9_]*", name) or name in _RESERVED | {*others}:
            raise UserError(
                f"--with {text}: give NAME=DATASET, with a name of its own of small letters and "
                f"digits, such as --with other=datasets/second; {', '.join(sorted(_RESERVED))} "
                "are taken"
            )
        others[name] = open_dataset(place(folder))
    return others


def _check_output(output: Path, datasets: Sequence[Dataset]) -> None:
    """Refuse to write over anything but a view."""
    if output.is_dir():
        raise UserError(
            f"--output {output} is a folder: name a file, such as {output / 'view.parquet'}"
        )
    for dataset in datasets:
        if lies_in(output, dataset.layout.root):
            raise UserError(
                f"--output {output} lies in the dataset {dataset.layout.root}, which holds nothing "
                "but what its manifest lists: choose a file outside"
            )
    if output.exists():
        try:
            read_view(output)
        except (ViewError, SchemaVersionError) as error:
            raise UserError(
                f"--output {output} is there and is no view that this release wrote, so it is not "
                f"replaced ({error}): choose another, or delete it"
            ) from error


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


def run_query(
    dataset: Dataset, others: Mapping[str, Dataset], query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What a query selects of a dataset.

    Args:
        dataset: what the view is of.
        others: by schema.
        query: a SELECT statement.

    Returns:
        names: of the columns.
        rows: their values.

    Raises:
        UserError: if the query is not one, or has not the columns of a view.
        DatasetError: if a table is missing or damaged.
    """
    datasets = {"main": dataset, **others}
    with duckdb.connect(config=_ISOLATED) as connection:
        try:
            _add_tables(connection, datasets)
            return _execute(connection, query)
        except duckdb.Error as error:
            if isinstance(error, duckdb.InvalidInputException | duckdb.IOException):
                _check_tables(datasets.values())  # what reading a damaged one ends in
            told = str(error).strip()
            raise UserError(f"{told}\nThe tables and their columns:\n{_tables()}") from error


def _add_tables(connection: duckdb.DuckDBPyConnection, datasets: Mapping[str, Dataset]) -> None:
    """Make each dataset's tables readable by name, and lock every other door."""
    for schema, dataset in datasets.items():
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        for table, files in _files(dataset).items():
            # Arrow opens the files, so that DuckDB need not be let out for them.
            connection.register(f"_{schema}_{table}", _open(files))
            connection.execute(f'CREATE VIEW "{schema}".{table} AS FROM _{schema}_{table}')
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


def _check_tables(datasets: Iterable[Dataset]) -> None:
    """Read everything, to name the file that is damaged."""
    files = [
        (file, _RECORDS[table])
        for dataset in datasets
        for table, files in _files(dataset).items()
        for file in files
    ]
    for file, record in watched(files, len(files), "looking for damage", "table"):
        read_damageable_columns(file, record, list(record.model_fields))


def _execute(
    connection: duckdb.DuckDBPyConnection, query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
        raise UserError("the query is not one SELECT statement: a view is what one selects")
    _check_repeatable(connection, query)
    result = connection.execute(statements[0])
    names = [column[0] for column in result.description or []]
    if "key" not in names or len(set(names)) < len(names) or not set(names) <= set(_COLUMNS):
        raise UserError(
            f"the query selects {', '.join(names)}: select key, and of {', '.join(_COLUMNS[1:])} "
            "what you mean, by these names (display_index AS frame)"
        )
    return names, result.fetchall()


_DRAWING = """
SELECT DISTINCT function_name || '()' FROM duckdb_functions()
WHERE stability <> 'CONSISTENT' AND function_name IN
  (SELECT unnest(json_extract_string(json_serialize_sql($query), '$..function_name')))
UNION ALL
SELECT 'a sample without REPEATABLE (seed)'
WHERE 'false' IN
  (SELECT unnest(json_extract_string(json_serialize_sql($query), '$..repeatable')))
"""


def _check_repeatable(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse what has another outcome each time."""
    found = connection.execute(_DRAWING, {"query": query}).fetchall()
    if found:
        raise UserError(
            f"the query has {', '.join(sorted(name for (name,) in found))}, and would give another "
            "view each time: draw by hash instead, such as hash(key) % 10 = 0"
        )


def _tables() -> str:
    lines = (f"  {t}: {', '.join(record.model_fields)}" for t, record in _RECORDS.items())
    return "\n".join(lines)


def _read_samples(dataset: Dataset) -> dict[str, _Sample]:
    columns = ["key", "split", "num_frames", "status"]
    samples = {}
    for shard in dataset.manifest.shards:
        path = dataset.layout.table("samples", shard.shard)
        for row in read_damageable_columns(path, SampleRow, columns).to_pylist():
            is_made = row["status"] == Status.OK
            samples[row["key"]] = _Sample(row["split"], row["num_frames"], is_made)
    return samples


def _rows(
    dataset: Dataset,
    samples: Mapping[str, _Sample],
    names: Sequence[str],
    found: Sequence[tuple[Any, ...]],
) -> Iterator[ViewRow]:
    num_streams = len(dataset.manifest.streams)
    taken = set[tuple[str, int, int]]()
    left_out = set[str]()
    for values in found:
        given = {"stream": ANY, "frame": ANY, "weight": 1, **dict(zip(names, values, strict=True))}
        key, stream, frame = given["key"], given["stream"], given["frame"]
        sample = samples.get(key) if isinstance(key, str) else None
        if sample is None:
            raise UserError(f"the query selects key {key!r}, which {dataset.layout.root} has not")
        if not sample.is_made:
            left_out.add(key)
            continue
        _check_number("stream", stream, num_streams, key)
        _check_number("frame", frame, sample.num_frames, key)
        if (key, stream, frame) in taken:
            raise UserError(
                f"the query selects {key}, stream {stream}, frame {frame} more than once. With "
                "--where, frames of it differ in --weight: give an expression that is equal in all "
                "of them, or --per frame. With --sql, add DISTINCT, or GROUP BY and a weight such "
                "as count(*)"
            )
        taken.add((key, stream, frame))
        if weight := _weight(given["weight"], key):
            yield ViewRow(key=key, stream=stream, frame=frame, weight=weight)
    if left_out:
        sys.stderr.write(
            f"{counted(len(left_out), 'selected sample')} could not be made when the dataset was, "
            "and cannot be in a view\n"
        )


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
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            part = Path(folder, "view")
            about = write_view(part, dataset.manifest.sha256, query, others, rows)
            os.replace(part, output)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error}): choose another") from error
    return about


def _describe(samples: Mapping[str, _Sample], rows: Sequence[ViewRow]) -> str:
    """What a view holds, split by split."""
    lines = []
    for split in SPLITS:
        chosen = [row for row in rows if samples[row.key].split == split]
        if chosen:
            keys = counted(len({row.key for row in chosen}), "sample")
            weight = sum(row.weight for row in chosen)
            lines.append(
                f"  {split:<11}{counted(len(chosen), 'row')} of {keys}, {weight:.6g} an epoch\n"
            )
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
