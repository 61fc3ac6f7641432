"""Parquet tables derived from records: one schema, written and read here only."""

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
        self._schema = arrow_schema(record)
        self._writer = pq.ParquetWriter(
            file, self._schema, compression="zstd", write_page_checksum=True
        )

    def write_group(self, rows: Sequence[Record]) -> None:
        """Append the rows as one row group."""
        columns = [row.model_dump(mode="json") for row in rows]
        self._writer.write_table(pa.Table.from_pylist(columns, schema=self._schema))

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Add to the file's own metadata."""
        self._writer.add_key_value_metadata(dict(metadata))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def write_table(
    file: BinaryIO | str, record: type[R], rows: Iterable[R], group_rows: int = 65_536
) -> int:
    """Write records as one Parquet file, in the order given.

    Returns:
        The number of rows.
    """
    rows = list(rows)
    writer = TableWriter(file, record)
    for start in range(0, len(rows), group_rows):
        writer.write_group(rows[start : start + group_rows])
    writer.close()
    return len(rows)


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
    with _open_table(file, record) as table:
        rows = table.read()
    return [record.model_validate(row) for row in rows.to_pylist()]


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


def read_columns(file: BinaryIO | str, record: type[Record], columns: list[str]) -> pa.Table:
    """Read some columns of a table as Arrow, checked as by `read_table`."""
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
