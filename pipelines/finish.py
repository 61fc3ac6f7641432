"""Finishing a dataset: the table of shards, then the manifest."""

import shutil
from collections import Counter
from collections.abc import Sequence

from pipelines.documents import documents
from pipelines.job import Job
from pipelines.layout import publish, publish_bytes, staged
from pipelines.shards import describe_bytes, describe_file
from schemas.manifest import DataFile, Manifest, Shard
from schemas.plan import PlannedSample
from schemas.record import Record, Status
from schemas.sample import SampleRow
from schemas.source import Source
from schemas.store import Place
from schemas.tables import read_columns, write_table


def finish_dataset(job: Job, shards: Sequence[Shard]) -> int:
    """Write the table of shards, the documents and the manifest.

    Args:
        job: the run.
        shards: every shard of the plan, in any order.

    Returns:
        The number of samples in the dataset.
    """
    shards = sorted(shards, key=lambda shard: shard.shard)
    layout = job.layout
    with staged(layout) as folder:
        write_table(str(folder / "shards"), Shard, shards)
        publish(folder / "shards", layout.shards)
    manifest = describe_dataset(job, shards)
    for path, data in documents(manifest, layout).items():
        publish_bytes(data, layout.root / path, layout)
    publish_bytes(manifest.data, layout.manifest, layout)
    shutil.rmtree(layout.staging, ignore_errors=True)  # of attempts that were killed
    return sum(manifest.splits.values())


def describe_dataset(job: Job, shards: Sequence[Shard]) -> Manifest:
    """The manifest of a dataset whose shards and tables are there.

    Args:
        job: the run.
        shards: sorted by name.
    """
    tables: dict[Place, type[Record]] = {
        job.layout.plan: PlannedSample,
        job.layout.sources: Source,
        job.layout.shards: Shard,
    }
    splits: Counter[str] = Counter()
    for shard in shards:
        splits[shard.split] += shard.num_samples
    manifest = Manifest(
        name=job.recipe.name,
        recipe_sha256=job.recipe.sha256,
        recipe=job.recipe.model_dump(mode="json"),
        seed=job.seed,
        environment=job.environment,
        scale=job.recipe.scale,
        streams=[stream.name for stream in job.recipe.streams],
        splits=dict(sorted(splits.items())),
        failures=dict(sorted(_count_failures(job, shards).items())),
        shards=list(shards),
        tables=[_describe_table(job, path, record) for path, record in tables.items()],
        documents=[],
    )
    described = [
        describe_bytes(data, path) for path, data in documents(manifest, job.layout).items()
    ]
    return manifest.model_copy(update={"documents": described})


def _describe_table(job: Job, path: Place, record: type[Record]) -> DataFile:
    num_rows = read_columns(str(path), record, []).num_rows
    return describe_file(path, job.layout.relative(path), num_rows)


def _count_failures(job: Job, shards: Sequence[Shard]) -> Counter[str]:
    layout = job.layout
    tables: list[tuple[Place, type[Record]]] = [(layout.sources, Source)]
    tables += [(layout.table("samples", shard.shard), SampleRow) for shard in shards]
    reasons: Counter[str] = Counter()
    for path, record in tables:
        columns = read_columns(str(path), record, ["status", "reason"]).to_pylist()
        reasons.update(row["reason"] for row in columns if row["status"] != Status.OK)
    return reasons
