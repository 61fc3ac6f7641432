"""What was published, checked as a whole before anything is made of it."""

from typing import NamedTuple

from pipelines.audit.bounds import plan_problem
from pipelines.audit.dataset import Dataset
from pipelines.audit.files import (
    changed_files,
    changed_markers,
    check_names,
    described_files,
)
from pipelines.errors import UserError
from pipelines.pool import WorkerPool
from schemas.manifest import DatasetError, Shard
from schemas.plan import PlannedSample
from schemas.sample import SampleRow
from schemas.shard import PLAIN_NAME
from schemas.source import Source
from schemas.tables import TABLE_ERRORS, read_columns, read_group


class Publication(NamedTuple):
    """What a dataset is made of."""

    plan: list[PlannedSample]
    sources: list[Source]
    """those that samples are made of"""


def read_publication(published: Dataset, pool: WorkerPool) -> Publication:
    """Read plan and sources, if every table is as the manifest says and fits the others.

    Raises:
        UserError: if one is not.
    """
    try:
        _check_files(published, pool)
        table = {row.source_id: row for row in published.read(published.layout.sources, Source)}
        plan = [
            row
            for index, shard in enumerate(published.manifest.shards)
            for row in _read_shard(published, index, shard)
        ]
        _check_plan(published, plan, table)
    except (DatasetError, *TABLE_ERRORS) as error:
        told = " ".join(str(error).split())
        root = published.layout.root
        raise UserError(f"{root} is no sound publication: {told}; fetch it again") from error
    used = {span.source_id for row in plan for span in row.spans}
    return Publication(plan, [row for row in table.values() if row.source_id in used])


def _check_files(published: Dataset, pool: WorkerPool) -> None:
    layout, manifest = published
    check_names(layout, manifest)
    files = [file for file in described_files(manifest) if not file.path.startswith("data/")]
    if findings := [
        *changed_files(layout.root, files, pool),
        *changed_markers(layout, manifest),
    ]:
        others = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise DatasetError(f"{findings[0].place}: {findings[0].detail}{others}")


def _read_shard(published: Dataset, index: int, shard: Shard) -> list[PlannedSample]:
    """The rows of a shard, which recipe, seed and environment make into that shard."""
    layout = published.layout
    rows = read_group(str(layout.plan), PlannedSample, index)
    plan_sha256 = published.job(layout.root, num_workers=1).plan_sha256(rows)
    if {row.shard for row in rows} != {shard.shard} or plan_sha256 != shard.plan_sha256:
        raise DatasetError(f"the plan of {shard.shard} is not the one in the manifest")
    samples = read_columns(str(layout.table("samples", shard.shard)), SampleRow, ["key"])
    if samples.column("key").to_pylist() != [row.key for row in rows]:
        raise DatasetError(f"the samples of {shard.shard} are not the planned ones")
    return rows


def _check_plan(published: Dataset, plan: list[PlannedSample], sources: dict[str, Source]) -> None:
    recipe, keys = published.recipe, set[str]()
    for row in plan:
        if not PLAIN_NAME.fullmatch(row.key) or row.key in keys:
            raise DatasetError(f"the key {row.key!r} is not plain, or twice in the plan")
        keys.add(row.key)
        if told := plan_problem(row, sources, recipe):
            raise DatasetError(f"the plan of {row.key}: {told}")
