"""Finishing a dataset: the table of shards, then the manifest."""

from collections import Counter
from collections.abc import Sequence

from pipelines.documents import describe
from pipelines.documents.facts import Facts, read_facts
from pipelines.job import Job
from pipelines.layout import publish, publish_bytes, staged
from pipelines.progress import watched
from pipelines.shards import describe_bytes, describe_file
from schemas.manifest import DataFile, Manifest, Shard
from schemas.plan import PlannedSample
from schemas.record import Record
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
    shards = sorted(shards, key=lambda shard: (shard.generation, shard.shard))
    layout = job.layout
    with staged(layout) as folder:
        write_table(str(folder / "shards"), Shard, shards)
        publish(folder / "shards", layout.shards)
    facts = read_facts(watched(shards, len(shards), "describing", "shard"), layout)
    manifest, texts = _describe(job, shards, facts)
    for path, data in texts.items():
        publish_bytes(data, layout.root / path, layout)
    publish_bytes(manifest.data, layout.manifest, layout)
    return sum(manifest.splits.values())


def describe_dataset(job: Job, shards: Sequence[Shard]) -> Manifest:
    """The manifest of a dataset whose shards and tables are there.

    Args:
        job: the run.
        shards: in the order of the plan.
    """
    return _describe(job, shards, read_facts(shards, job.layout))[0]


def _describe(job: Job, shards: Sequence[Shard], facts: Facts) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and the documents that it lists."""
    tables: dict[Place, type[Record]] = {
        job.layout.plan: PlannedSample,
        job.layout.sources: Source,
        job.layout.shards: Shard,
    }
    splits: Counter[str] = Counter()
    for shard in shards:
        splits[shard.split] += shard.num_samples
    failures: Counter[str] = Counter()
    for (_, reason), number in (facts.sources_left_out + facts.samples_left_out).items():
        failures[reason] += number
    manifest = Manifest(
        schema_version=job.recipe.schema_version,
        name=job.recipe.name,
        recipe_sha256=job.recipe.sha256,
        recipe=job.recipe.model_dump(mode="json"),
        seed=job.seed,
        environment=job.environment,
        scale=job.recipe.scale,
        streams=[stream.name for stream in job.recipe.streams],
        splits=dict(sorted(splits.items())),
        failures=dict(sorted(failures.items())),
        shards=list(shards),
        tables=[_describe_table(job, path, record) for path, record in tables.items()],
        documents=[],
    )
    texts = describe(manifest, facts)
    described = [describe_bytes(data, path) for path, data in texts.items()]
    return manifest.model_copy(update={"documents": described}), texts


def _describe_table(job: Job, path: Place, record: type[Record]) -> DataFile:
    num_rows = read_columns(str(path), record, []).num_rows
    return describe_file(path, job.layout.relative(path), num_rows)
