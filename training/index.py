"""The samples of a split, by key: what must be known of each before it is read.

Columns of Arrow, not objects: a sample takes some 0.3 kB whatever their number, and processes that
were forked share it, since nobody counts references in it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import DatasetError, Manifest
from schemas.record import Record, Status
from schemas.sample import Member, SampleKind, SampleRow
from schemas.shard import PLAIN_NAME
from schemas.store import Place
from schemas.tables import TABLE_ERRORS, arrow_schema, read_columns

_COLUMNS = ["key", "kind", "num_frames", "scale", "hr_height", "hr_width", "members"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What must be known of a sample before it is read; from table `samples`."""

    key: str
    kind: SampleKind
    num_frames: int
    lr_height: int
    """rows of every LR stream, pixels"""
    lr_width: int
    """columns of every LR stream, pixels"""
    shard: str
    """stem of the shard's files"""
    members: Mapping[str, Member]
    """byte ranges by extension"""


class SampleIndex(Sequence[Entry]):
    """Samples in the order of their keys.

    Args:
        table: the columns of `samples` that are read here, and `shard`, int32.
        shards: what `shard` counts in: stems of files.
    """

    def __init__(self, table: pa.Table, shards: Sequence[str]) -> None:
        # The rows stay where they are: the members' byte ranges take most of their memory.
        self._table, self._order = table, pc.sort_indices(table, [("key", "ascending")])
        self.shards = tuple(shards)
        self.shard = self._column("shard")
        """(N,) int32, index into `shards`"""
        self.num_frames = self._column("num_frames")
        """(N,) integers"""
        self.lr_height = self._column("hr_height") // self._column("scale")
        """(N,) integers, pixels"""
        self.lr_width = self._column("hr_width") // self._column("scale")
        """(N,) integers, pixels"""
        kinds = self._table.column("kind").take(self._order).cast(pa.string())
        self.is_pseudo_video = pc.equal(kinds, SampleKind.PSEUDO_VIDEO.value).to_numpy()
        """(N,) bool: pictures that have nothing to do with each other"""

    def _column(self, name: str) -> np.ndarray:
        return self._table.column(name).take(self._order).to_numpy()

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        (row,) = self._table.slice(self._order[range(len(self))[index]].as_py(), 1).to_pylist()
        return Entry(
            key=row["key"],
            kind=SampleKind(row["kind"]),
            num_frames=row["num_frames"],
            lr_height=row["hr_height"] // row["scale"],
            lr_width=row["hr_width"] // row["scale"],
            shard=self.shards[row["shard"]],
            # The columns' types were checked as a whole.
            members={one["name"]: Member.model_construct(**one) for one in row["members"]},
        )

    def keys(self) -> list[str]:
        """The key of each sample."""
        return self._table.column("key").take(self._order).to_pylist()

    def keys_of(self, entries: np.ndarray) -> pa.ChunkedArray:
        """The keys of some samples, by their numbers."""
        return self._table.column("key").take(self._order.take(pa.array(entries)))

    def member_bytes(self, name: str) -> np.ndarray:
        """(N,) int64, bytes of a member of each sample; 0 where there is none."""
        chunks = self._table.column("members").chunks  # to join them would take a copy of them all
        sizes = np.concatenate([_member_bytes(members, name) for members in chunks])
        return sizes[self._order]


def _member_bytes(members: pa.ListArray, name: str) -> np.ndarray:
    sample, flat = pc.list_parent_indices(members), members.flatten()
    chosen = pc.equal(flat.field("name"), name)
    sizes = np.zeros(len(members), np.int64)
    sizes[sample.filter(chosen)] = flat.field("size").filter(chosen)
    return sizes


def read_index(dataset: Place, manifest: Manifest, split: str) -> SampleIndex:
    """The samples of a split that were made.

    Raises:
        DatasetError: if a table that the manifest names is missing or damaged, or a name leads out
            of the dataset.
    """
    shards = [shard.shard for shard in manifest.shards if shard.split == split]
    if strange := [shard for shard in shards if not PLAIN_NAME.fullmatch(shard)]:
        raise DatasetError(
            f"{dataset} names a shard {strange[0]!r}, which may lead out of it: the manifest is "
            "not ours"
        )
    tables = [arrow_schema(SampleRow).empty_table().select(_COLUMNS)]
    tables += [made_samples(dataset, shard, _COLUMNS) for shard in shards]
    numbered = [_numbered(table, number) for number, table in enumerate(tables, -1)]
    return SampleIndex(pa.concat_tables(numbered), shards)


def read_shard_table(
    dataset: Place, table: str, shard: str, record: type[Record], columns: list[str]
) -> pa.Table:
    """Columns of the part of a table that tells of a shard.

    Raises:
        DatasetError: if it is missing or damaged.
    """
    path = dataset / "index" / table / f"{shard}.parquet"
    if not path.is_file():
        raise DatasetError(f"{path} is missing, but the manifest names it: copy the dataset again")
    try:
        return read_columns(str(path), record, columns)
    except TABLE_ERRORS as error:
        raise DatasetError(f"{path} is damaged ({error}): copy the dataset again") from error


def made_samples(dataset: Place, shard: str, columns: list[str]) -> pa.Table:
    """Columns of a shard's samples, those that were made.

    Raises:
        DatasetError: if their table is missing or damaged.
    """
    rows = read_shard_table(dataset, "samples", shard, SampleRow, [*columns, "status"])
    made = rows.filter(pc.equal(rows.column("status").cast(pa.string()), Status.OK.value))
    return made.drop_columns(["status"])


def _numbered(rows: pa.Table, shard: int) -> pa.Table:
    numbers = pa.array(np.full(rows.num_rows, shard, np.int32))
    return rows.append_column("shard", numbers)
