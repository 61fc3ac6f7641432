import hashlib
import io
import typing
import weakref
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.manifest import DataFile, Shard
from schemas.plan import PlannedSample, Span
from schemas.record import SCHEMA_VERSION, Record, SchemaVersionError, Status
from schemas.sample import FrameRow, FrameType, SampleKind, SampleRow, StreamRow
from schemas.source import Source, SourceKind
from schemas.tables import (
    TableWriter,
    arrow_schema,
    field_table,
    iter_table,
    read_columns,
    read_group,
    read_groups,
    read_rows,
    read_table,
    table_of,
    write_table,
)

ROWS: list[type[Record]] = [SampleRow, StreamRow, FrameRow, Source, PlannedSample, Shard]


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of a stored record may have."""
    if typing.get_origin(annotation) is Literal:
        return st.sampled_from(typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return st.lists(values(typing.get_args(annotation)[0]), max_size=3)
    if issubclass(annotation, Record):
        return records(annotation)
    if issubclass(annotation, Enum):
        return st.sampled_from(list(annotation))
    simple: dict[type, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: st.text(max_size=20),
    }
    return simple[annotation]


def records(record: type[Record]) -> st.SearchStrategy[Any]:
    """Records with any value in every field."""
    fields = {name: values(field.annotation) for name, field in record.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda given: record(**given))


def written(record: type[Record], rows: list[Record], group_rows: int = 65_536) -> bytes:
    file = io.BytesIO()
    assert write_table(file, record, rows, group_rows) == len(rows)
    return file.getvalue()


def source(number: int, **changes: object) -> Source:
    plain = Source(
        source_id=hashlib.sha256(bytes([number])).hexdigest(),
        kind=SourceKind.IMAGE,
        uris=[f"photos/夜 {number}.png", ""],
        group="",
        split="train",
        licence="CC-BY",
        attribution="Zoë",
        size=2**40 + number,
    )
    return plain.model_copy(update=changes)


@pytest.mark.parametrize("record", ROWS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read(record: type[Record], data: st.DataObject) -> None:
    rows = data.draw(st.lists(records(record), max_size=5))
    assert read_table(io.BytesIO(written(record, rows)), record) == rows


@pytest.mark.parametrize("record", ROWS)
def test_an_empty_table_is_a_table(record: type[Record], tmp_path: Path) -> None:
    file = tmp_path / "empty.parquet"
    file.write_bytes(written(record, []))
    assert read_table(str(file), record) == []
    assert pq.read_schema(file).names == list(record.model_fields)


def test_enums_come_back_as_members_and_are_plain_words_in_the_file() -> None:
    rows: list[Record] = [
        source(1, kind=SourceKind.FRAMES),
        source(2, status=Status.FILTERED, reason="flat"),
        source(3, status=Status.FAILED_RETRYABLE),
    ]
    data = written(Source, rows)
    first, *_ = read_table(io.BytesIO(data), Source)
    assert first.kind is SourceKind.FRAMES
    plain = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["status"] for row in plain] == ["ok", "filtered", "failed-retryable"]
    assert {type(member.value) for member in (*FrameType, *SampleKind)} == {str}


@pytest.mark.parametrize("record", ROWS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_equal_rows_give_equal_bytes(record: type[Record], data: st.DataObject) -> None:
    rows = data.draw(st.lists(records(record), max_size=5))
    again = [record.model_validate_json(row.model_dump_json()) for row in rows]
    assert written(record, rows) == written(record, again)


def test_a_file_and_a_buffer_get_the_same_bytes(tmp_path: Path) -> None:
    rows = [source(number) for number in range(5)]
    write_table(str(tmp_path / "one.parquet"), Source, rows)
    write_table(str(tmp_path / "other name.parquet"), Source, rows)
    expected = written(Source, list(rows))
    assert (tmp_path / "one.parquet").read_bytes() == expected
    assert (tmp_path / "other name.parquet").read_bytes() == expected


def test_another_record_is_refused() -> None:
    data = written(FrameRow, [])
    with pytest.raises(ValueError, match="holds records 'FrameRow', expected 'StreamRow'"):
        read_table(io.BytesIO(data), StreamRow)


def with_metadata(record: type[Record], metadata: dict[str, str] | None) -> bytes:
    file = io.BytesIO()
    pq.write_table(arrow_schema(record).with_metadata(metadata).empty_table(), file)
    return file.getvalue()


def test_another_major_version_is_refused_and_another_minor_read() -> None:
    major = SCHEMA_VERSION.split(".")[0]
    later = with_metadata(Source, {"record": "Source", "schema_version": f"{major}.99"})
    assert read_table(io.BytesIO(later), Source) == []
    for version in ("9.0", "", f"{major}1.0"):
        other = with_metadata(Source, {"record": "Source", "schema_version": version})
        with pytest.raises(SchemaVersionError, match=f"schema version '{version}'"):
            read_table(io.BytesIO(other), Source)


def test_any_other_parquet_file_is_refused() -> None:
    with pytest.raises(SchemaVersionError, match="schema version ''"):
        read_table(io.BytesIO(with_metadata(Source, None)), Source)


def test_a_flipped_byte_inside_a_page_is_an_error() -> None:
    rows: list[Record] = [source(number) for number in range(200)]
    data = written(Source, rows)
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    ids = columns["source_id"]
    assert ids.total_compressed_size > 6200  # nearly all of it the page of the ids themselves
    for position in range(100, 6000, 590):
        damaged = bytearray(data)
        damaged[ids.dictionary_page_offset + position] ^= 1
        with pytest.raises(OSError, match="CRC"):
            read_table(io.BytesIO(damaged), Source)
        with pytest.raises(OSError, match="CRC"):
            read_columns(io.BytesIO(damaged), Source, ["source_id"])


def test_a_cut_table_is_an_error() -> None:
    data = written(Source, [source(1)])
    for size in (0, 3, len(data) // 2, len(data) - 1):
        with pytest.raises(pa.ArrowInvalid):
            read_table(io.BytesIO(data[:size]), Source)


@pytest.mark.parametrize("record", [*ROWS, Span])
def test_every_column_says_what_it_means(record: type[Record]) -> None:
    schema = pq.read_schema(io.BytesIO(written(record, [])))
    for field in schema:
        assert field.metadata[b"doc"].decode() == record.model_fields[field.name].description
        assert len(field.metadata[b"doc"]) > 5, field.name
    assert schema.metadata[b"record"].decode() == record.__name__
    documented = field_table(record)
    assert [name for name, _, _ in documented] == list(record.model_fields)
    assert all(kind and meaning and "\n" not in meaning for _, kind, meaning in documented)


def test_types_are_named_for_people() -> None:
    types = {name: kind for name, kind, _ in field_table(SampleRow)}
    assert types["key"] == types["kind"] == "string"
    assert types["num_frames"] == "int64"
    assert types["fps"] == "double"
    assert types["source_ids"] == "list of string"
    assert types["members"] == "list of record"


def test_no_column_takes_nulls() -> None:
    for record in ROWS:
        assert all(not field.nullable for field in arrow_schema(record))


def planned(shard: str, number: int) -> PlannedSample:
    return PlannedSample(
        shard=shard,
        key=f"key-{number}",
        kind=SampleKind.CLIP,
        split="train",
        group="",
        licence="",
        clip=number,
        patch=0,
        spans=[Span(source_id="ab", start=number, count=1)],
        estimated_bytes=1,
    )


def test_groups_are_read_one_by_one(tmp_path: Path) -> None:
    file = str(tmp_path / "plan.parquet")
    shards = [[planned("train-0", 0), planned("train-0", 1)], [planned("train-1", 2)]]
    writer = TableWriter(file, PlannedSample)
    for rows in shards:
        writer.write_group(rows)
    writer.close()
    assert [read_group(file, PlannedSample, group) for group in (1, 0, 1)] == [shards[1], *shards]
    assert read_table(file, PlannedSample) == shards[0] + shards[1]


def test_what_a_table_says_of_its_groups_is_read_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "plan.parquet")
    write_table(file, PlannedSample, [planned("a", n) for n in range(9)], group_rows=1)
    opened: list[str] = []
    whole = pq.ParquetFile

    def counted(path: str, **options: Any) -> pq.ParquetFile:
        if options.get("metadata") is None:
            opened.append(path)
        return whole(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", counted)
    assert [read_group(file, PlannedSample, n)[0].clip for n in range(9)] == list(range(9))
    assert opened == [file]


def test_a_table_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    file, new = str(tmp_path / "plan.parquet"), tmp_path / "new"
    for shard in ("old", "new"):
        write_table(str(new), PlannedSample, [planned(shard, 0)])
        new.replace(file)
        assert read_group(file, PlannedSample, 0)[0].shard == shard


def test_a_long_table_is_split_into_groups_and_reads_the_same() -> None:
    rows: list[Record] = [planned("train-0", number) for number in range(10)]
    data = written(PlannedSample, rows, group_rows=4)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 3
    assert read_table(io.BytesIO(data), PlannedSample) == rows


def test_rows_are_found_by_a_column(tmp_path: Path) -> None:
    file = str(tmp_path / "sources.parquet")
    rows = [source(number) for number in range(8)]
    write_table(file, Source, rows, group_rows=3)
    wanted = [rows[6].source_id, rows[1].source_id, "unknown"]
    found = read_rows(file, Source, "source_id", wanted)
    assert sorted(found, key=lambda row: row.size) == [rows[1], rows[6]]
    assert read_rows(file, Source, "source_id", ["unknown"]) == []
    with pytest.raises(ValueError, match="expected 'Shard'"):
        read_rows(file, Shard, "shard", ["a"])


def test_single_columns_can_be_read() -> None:
    data = written(Source, [source(1), source(2, status=Status.FAILED_RETRYABLE)])
    table = read_columns(io.BytesIO(data), Source, ["status"])
    assert table.to_pylist() == [{"status": "ok"}, {"status": "failed-retryable"}]
    assert read_columns(io.BytesIO(data), Source, []).num_rows == 2


def test_rows_of_no_values_are_none(tmp_path: Path) -> None:
    write_table(str(tmp_path / "t"), DataFile, [DataFile(path="a", size=1, sha256="", rows=0)])
    assert read_rows(str(tmp_path / "t"), DataFile, "path", []) == []


def test_columns_are_written_with_the_bytes_of_rows() -> None:
    kinds = [SourceKind.IMAGE, SourceKind.VIDEO, SourceKind.FRAMES]
    rows = [source(number, kind=kinds[number // 3 % 3]) for number in range(40)]
    expected, file = io.BytesIO(), io.BytesIO()
    of_rows, of_columns = TableWriter(expected, Source), TableWriter(file, Source)
    # Of several pieces, whose dictionaries begin with other values than the group.
    pieces = [table_of(Source, rows[:1]), table_of(Source, rows[:1:-1]).slice(0, 38)]
    of_columns.write_columns(pa.concat_tables(pieces))
    of_rows.write_group([*rows[:1], *rows[:1:-1]])
    of_columns.write_columns(table_of(Source, rows).slice(3, 20))
    of_rows.write_group(rows[3:23])
    of_rows.close()
    of_columns.close()
    assert file.getvalue() == expected.getvalue()


def test_groups_are_read_and_written_again_with_the_same_bytes(tmp_path: Path) -> None:
    rows = [source(number) for number in range(40)]
    write_table(str(tmp_path / "t"), Source, rows, group_rows=15)
    writer = TableWriter(str(tmp_path / "again"), Source)
    for group in read_groups(str(tmp_path / "t"), Source):
        writer.write_columns(group)
    writer.close()
    assert (tmp_path / "again").read_bytes() == (tmp_path / "t").read_bytes()


def test_a_long_table_is_read_row_by_row() -> None:
    rows = [source(number % 256, size=number) for number in range(5000)]
    assert list(iter_table(io.BytesIO(written(Source, list(rows), 4500)), Source)) == rows


def test_a_table_is_written_while_its_rows_are_made(tmp_path: Path) -> None:
    held = set[int]()

    def made() -> Iterator[Source]:
        for number in range(50):
            held.add(number)
            row = source(number)
            weakref.finalize(row, held.discard, number)
            yield row
            del row
            assert len(held) <= 21  # two groups

    assert write_table(str(tmp_path / "t"), Source, made(), group_rows=10) == 50
