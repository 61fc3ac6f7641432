"""One of two datasets: its tables, held as Arrow, and what identifies its samples."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.audit.dataset import Dataset, read_damageable, read_damageable_columns
from pipelines.progress import watched
from schemas.manifest import DatasetError, Shard, sha256_json
from schemas.plan import PlannedSample, Span
from schemas.record import Record
from schemas.sample import SampleKind, SampleRow, StreamRow
from schemas.source import Source

T = TypeVar("T")

Row = dict[str, Any]


class Side:
    """The samples of a dataset that must be looked at.

    Args:
        dataset: it.
        skipped: names of shards that need not be.

    Raises:
        DatasetError: if a table is missing or damaged.
    """

    def __init__(self, dataset: Dataset, skipped: Collection[str]) -> None:
        self.dataset = dataset
        shards = [shard for shard in dataset.manifest.shards if shard.shard not in skipped]
        self._samples = _read(dataset, shards, "samples", SampleRow)
        self._streams = _read(dataset, shards, "streams", StreamRow)
        self._number: dict[str, int] = {}
        self.fingerprints: dict[str, str] = {}
        """key -> hash of the outcome, the members and the decoded LR: equal for equal samples"""
        decoded = _decoded(self._streams)
        for number, (key, fingerprint) in enumerate(_fingerprints(self._samples, decoded)):
            self._number[key], self.fingerprints[key] = number, fingerprint

    @property
    def keys(self) -> list[str]:
        """Of all samples looked at, sorted."""
        return sorted(self.fingerprints)

    def sample(self, key: str) -> Row:
        """A sample's row."""
        row: Row = self._samples.slice(self._number[key], 1).to_pylist()[0]
        return row

    def streams(self, key: str) -> dict[str, Row]:
        """The rows of a sample's streams, by name."""
        numbers = self._stream_numbers[key]
        rows: list[Row] = self._streams.take(numbers).to_pylist()
        return {row["name"]: row for row in rows}

    @cached_property
    def _stream_numbers(self) -> dict[str, list[int]]:
        numbers = defaultdict(list)
        for number, key in enumerate(self._streams.column("key").to_pylist()):
            numbers[key].append(number)
        return numbers

    @cached_property
    def planned(self) -> dict[str, PlannedSample]:
        """The rows of the plan, by key."""
        rows = read_damageable(self.dataset.layout.plan, PlannedSample)
        return {row.key: row for row in rows}

    @cached_property
    def sources(self) -> dict[str, Source]:
        """All sources that could be read, by id."""
        return {row.source_id: row for row in self._source_rows if row.source_id}

    @cached_property
    def sources_by_uri(self) -> dict[str, Source]:
        """All sources by each of their places."""
        return {uri: row for row in self._source_rows for uri in row.uris}

    @cached_property
    def _source_rows(self) -> list[Source]:
        return read_damageable(self.dataset.layout.sources, Source)

    def uris(self, source_ids: Iterable[str]) -> list[str]:
        """The first place of each source."""
        return [self._of(self.sources, source).uris[0] for source in source_ids]

    def spans(self, key: str) -> list[Span]:
        """What a sample is made of."""
        return self._of(self.planned, key).spans

    def place(self, key: str) -> tuple[object, ...]:
        """What identifies a sample whatever the content of its sources."""
        row = self._of(self.planned, key)
        uris = tuple(self.uris(span.source_id for span in row.spans))
        if row.kind is SampleKind.PSEUDO_VIDEO:
            return row.kind, uris, tuple((s.start, s.count) for s in row.spans), row.variant
        return row.kind, uris, row.clip, row.variant

    def _of(self, rows: Mapping[str, T], name: str) -> T:
        if name not in rows:
            root = self.dataset.layout.root
            raise DatasetError(
                f"{root}: {name} is in one table and missing in another; see python -m "
                f"pipelines.verify {root}"
            )
        return rows[name]


def _read(dataset: Dataset, shards: list[Shard], table: str, record: type[Record]) -> pa.Table:
    names = list(record.model_fields)
    parts = []
    for shard in watched(shards, len(shards), f"reading {table}", "shard"):
        path = dataset.layout.table(table, shard.shard)
        parts.append(read_damageable_columns(path, record, names))
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in names})


def _decoded(streams: pa.Table) -> dict[str, list[str]]:
    """Sample -> hashes of its LR frames: the checksums of members are short."""
    hashes = defaultdict(list)
    for key, decoded in zip(
        streams.column("key").to_pylist(),
        streams.column("decoded_sha256").to_pylist(),
        strict=True,
    ):
        hashes[key].append(decoded)
    return hashes


def _fingerprints(samples: pa.Table, decoded: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for batch in samples.select(["key", "status", "reason", "members"]).to_batches(4096):
        for row in batch.to_pylist():
            members = sorted((m["name"], m["size"], m["crc32"]) for m in row["members"])
            hashes = sorted(decoded.get(row["key"], []))
            yield row["key"], sha256_json([row["status"], row["reason"], members, hashes])
