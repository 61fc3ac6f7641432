"""Parquet tables derived from records: one schema, written and read here only."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic_to_pyarrow import get_pyarrow_schema

from schemas.record import SCHEMA_VERSION, Record, check_schema_version
from schemas.store import is_url, place, version

R = TypeVar("R", bound=Record)
_BATCH_ROWS = 4096

TABLE_ERRORS = (OSError, ValueError, pa.ArrowException)
"""What reading a table raises that is missing, damaged, or of other records or another release."""


@cache
def arrow_schema(record: type[Record]) -> pa.Schema:
    """The Arrow schema of a record: its fields, with their docstrings as field metadata."""
    fields = [
        field.with_metadata({"doc": record.model_fields[field.name].description or ""})
        for field in get_pyarrow_schema(record)
    ]
    return pa.schema(fields, {"record": record.__name__, "schema_version": SCHEMA_VERSION})


class TableWriter:
    """Writes records to one Parquet file; equal rows give equal bytes.

    Args:
        file: a writable binary file, or a path.
        record: the type of every row.
    """

    def __init__(self, file: BinaryIO | str, record: type[Record]) -> None:
        self._record = record
        self._writer = pq.ParquetWriter(
            file, arrow_schema(record), compression="zstd", write_page_checksum=True
        )

    def write_group(self, rows: Sequence[Record]) -> None:
        """Append the rows as one row group."""
        self._writer.write_table(table_of(self._record, rows))

    def write_columns(self, table: pa.Table) -> None:
        """Append the rows of an Arrow table as one row group, with the bytes of `write_group`."""
        schema = arrow_schema(self._record)
        columns = [_by_first_use(table.column(field.name), field.type) for field in schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Add to the file's own metadata."""
        self._writer.add_key_value_metadata(dict(metadata))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def table_of(record: type[R], rows: Iterable[R]) -> pa.Table:
    """The rows as an Arrow table."""
    columns = [row.model_dump(mode="json") for row in rows]
    return pa.Table.from_pylist(columns, schema=arrow_schema(record))


def _by_first_use(column: pa.ChunkedArray, arrow_type: pa.DataType) -> pa.Array:
    """The column in one piece; a dictionary's values in the order in which they come first."""
    if pa.types.is_dictionary(arrow_type):
        column = column.cast(arrow_type.value_type)
        return column.combine_chunks().dictionary_encode()
    return column.combine_chunks()


def write_table(
    file: BinaryIO | str, record: type[R], rows: Iterable[R], group_rows: int = 65_536
) -> int:
    """Write records as one Parquet file, in the order given; memory holds a row group
    or two.

    Returns:
        The number of rows.
    """
    remaining, num_rows = iter(rows), 0
    writer = TableWriter(file, record)
    while group := list(itertools.islice(remaining, group_rows)):
        writer.write_group(group)
        num_rows += len(group)
    writer.close()
    return num_rows


@contextmanager
def _open_file(
    file: BinaryIO | str, metadata: pq.FileMetaData | None = None
) -> Iterator[pq.ParquetFile]:
    with ExitStack() as stack:
        is_remote = isinstance(file, str) and is_url(file)
        opened = stack.enter_context(place(str(file)).open("rb")) if is_remote else file
        yield stack.enter_context(
            pq.ParquetFile(opened, metadata=metadata, page_checksum_verification=True)
        )


@contextmanager
def _open_table(file: BinaryIO | str, record: type[Record]) -> Iterator[pq.ParquetFile]:
    with _open_file(file) as table:
        metadata = table.schema_arrow.metadata or {}
        check_schema_version(metadata.get(b"schema_version", b"").decode(), f"{file}")
        found = metadata.get(b"record", b"").decode()
        if found != record.__name__:
            raise ValueError(f"{file} holds records {found!r}, expected {record.__name__!r}")
        yield table


def read_table(file: BinaryIO | str, record: type[R]) -> list[R]:
    """Read records back, checking page checksums and the schema version.

    Args:
        file: a readable binary file, a path, or the URL of an object.
        record: the type of every row.

    Raises:
        SchemaVersionError: if an incompatible release wrote the table.
        ValueError: if the table holds other records.
        OSError: if a page does not match its checksum.
    """
    return list(iter_table(file, record))


def iter_table(file: BinaryIO | str, record: type[R]) -> Iterator[R]:
    """Read records one after another, checked as by `read_table`; memory holds few of them."""
    with _open_table(file, record) as table:
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            yield from map(record.model_validate, batch.to_pylist())


def read_group(file: str, record: type[R], group: int) -> list[R]:
    """Read one row group, checked as by `read_table`.

    What Parquet says of all groups stands in one place, and to read that for each of many groups
    would take far longer than the groups: it is kept for the next one.
    """
    metadata = _metadata(file, record, version(file))
    with _open_file(file, metadata) as table:
        rows = table.read_row_group(group)
    return [record.model_validate(row) for row in rows.to_pylist()]


@lru_cache(maxsize=1)
def _metadata(file: str, record: type[Record], version: str) -> pq.FileMetaData:
    with _open_table(file, record) as table:
        return table.metadata


def read_rows(file: str, record: type[R], column: str, values: Sequence[str]) -> list[R]:
    """Read the rows whose `column` is one of `values`, checked as by `read_table`.

    Memory holds one row group at a time, however long the table is.
    """
    wanted = pc.field(column).isin(pa.array(values, pa.string()))
    with _open_table(file, record) as table:
        groups = (table.read_row_group(group) for group in range(table.num_row_groups))
        rows = [row for group in groups for row in group.filter(wanted).to_pylist()]
    return [record.model_validate(row) for row in rows]


def read_groups(file: str, record: type[Record]) -> Iterator[pa.Table]:
    """Read one row group after another as Arrow, checked as by `read_table`."""
    with _open_table(file, record) as table:
        for group in range(table.num_row_groups):
            yield table.read_row_group(group)


def read_columns(
    file: BinaryIO | str, record: type[Record], columns: list[str] | None = None
) -> pa.Table:
    """Read some columns of a table, or all, as Arrow, checked as by `read_table`."""
    columns = list(record.model_fields) if columns is None else columns
    with _open_table(file, record) as table:
        read = table.read(columns=columns)
    if missing := set(columns) - set(read.column_names):
        raise ValueError(f"{file} lacks the columns {', '.join(sorted(missing))}")
    return read


def read_metadata(file: BinaryIO | str, record: type[Record]) -> dict[str, str]:
    """Read what `TableWriter.describe` added, checked as by `read_table`."""
    with _open_table(file, record) as table:
        stored: dict[bytes, bytes] = table.metadata.metadata or {}
    return {key.decode(): value.decode() for key, value in stored.items()}


def field_table(record: type[Record]) -> list[tuple[str, str, str]]:
    """(name, type, meaning) of every field of a record, for the reference page."""
    schema = arrow_schema(record)

    def row(field: pa.Field) -> tuple[str, str, str]:
        doc = (record.model_fields[field.name].description or "").replace("\n", " ")
        return field.name, _type_name(field.type), doc

    return [row(field) for field in schema]


def _type_name(arrow_type: Any) -> str:
    if pa.types.is_dictionary(arrow_type):
        return str(arrow_type.value_type)
    if pa.types.is_list(arrow_type):
        return f"list of {_type_name(arrow_type.value_type)}"
    if pa.types.is_struct(arrow_type):
        return "record"
    return str(arrow_type)
