"""A finished dataset, opened to be looked at."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from pipelines.audit.files import described_files
from pipelines.errors import UserError
from pipelines.job import Job
from pipelines.layout import Layout
from schemas.manifest import DatasetError, Manifest, Shard, read_manifest
from schemas.recipe import Recipe
from schemas.record import Record, SchemaVersionError
from schemas.sample import Member, SampleRow
from schemas.shard import read_member
from schemas.store import Place, absolute
from schemas.tables import TABLE_ERRORS, R, read_columns, read_table


class Dataset(NamedTuple):
    """A dataset, or what is published of one."""

    layout: Layout
    manifest: Manifest

    @property
    def recipe(self) -> Recipe:
        """What it was made by."""
        return Recipe.model_validate(self.manifest.recipe)

    def job(self, output: Place, num_workers: int) -> Job:
        """The run that makes the same dataset in another folder."""
        return Job(
            output=absolute(str(output)),
            recipe=self.recipe,
            seed=self.manifest.seed,
            num_workers=num_workers,
            environment=self.manifest.environment,
        )

    def rows(self, table: str, record: type[R]) -> Iterator[tuple[Shard, list[R]]]:
        """Each shard's part of a table.

        Raises:
            DatasetError: if it is missing or damaged.
        """
        for shard in self.manifest.shards:
            yield shard, self.read(self.layout.table(table, shard.shard), record)

    def read(self, file: Place, record: type[R]) -> list[R]:
        """A table, of no more rows than the manifest says: few bytes may claim many.

        Raises:
            DatasetError: if it is missing or damaged.
        """
        path = self.layout.relative(file)
        most = next((one.rows for one in described_files(self.manifest) if one.path == path), 0)
        try:
            found = read_columns(str(file), record, []).num_rows
        except TABLE_ERRORS as error:
            raise _damaged(file, error) from error
        if found > most:
            raise DatasetError(f"{file} has {found} rows, the manifest says {most}")
        return read_damageable(file, record)

    def members(self, row: SampleRow) -> dict[str, bytes]:
        """The members of a sample, the record included, by extension.

        Raises:
            ShardError: if they are not what the table says.
            OSError: if the shard cannot be read.
        """
        return read_members(self.layout.tar(row.shard), row.members)


def open_dataset(root: Place) -> Dataset:
    """Open a dataset.

    Raises:
        UserError: if there is no finished dataset, or another release wrote it.
    """
    try:
        dataset = Dataset(Layout(root), read_manifest(root))
        _ = dataset.recipe
    except (DatasetError, SchemaVersionError) as error:
        raise UserError(str(error)) from error
    except ValidationError as error:
        raise UserError(f"the manifest of {root} holds no recipe: {error}") from error
    return dataset


def read_members(tar: Place, members: Sequence[Member]) -> dict[str, bytes]:
    """Members of a sample by extension, out of its shard.

    Raises:
        ShardError: if they are not what the table says.
        OSError: if the shard cannot be read.
    """
    with tar.open("rb") as file:
        return {member.name: read_member(file, member) for member in members}


def read_damageable(path: Place, record: type[R]) -> list[R]:
    """Read a table that may be missing or damaged.

    Raises:
        DatasetError: if it is.
    """
    try:
        return read_table(str(path), record)
    except TABLE_ERRORS as error:
        raise _damaged(path, error) from error


def _damaged(path: Place, error: Exception) -> DatasetError:
    told = " ".join(str(error).split())
    return DatasetError(f"{path} is missing or damaged ({told})")


def read_damageable_columns(path: Place, record: type[Record], columns: list[str]) -> pa.Table:
    """Read some columns of a table that may be missing or damaged.

    Raises:
        DatasetError: if it is.
    """
    try:
        return read_columns(str(path), record, columns)
    except TABLE_ERRORS as error:
        told = " ".join(str(error).split())
        raise DatasetError(
            f"{path} is missing or damaged ({told}): copy the dataset again"
        ) from error
