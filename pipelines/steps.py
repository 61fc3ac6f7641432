"""The Beam transforms: each wraps one function of this package, none has logic of its own.

What travels between them is small (paths, shard numbers, shard records); pixels never do. The
graph is a line with one leaf, since some runners compute nothing else rightly.
"""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.corpus import Entry
from pipelines.finish import finish_dataset
from pipelines.job import Job
from pipelines.pool import shared_pool
from pipelines.probing import probe_batch
from pipelines.progress import ProgressBar
from pipelines.shards import write_shard
from schemas.manifest import Shard
from schemas.plan import PlannedSample


def make_shards(job: Job, plan: Sequence[PlannedSample], options: PipelineOptions) -> None:
    """Make every shard of the committed plan, then finish the dataset."""
    num_shards = len({row.shard for row in plan})
    progress = ProgressBar(job.layout, "making", len(plan), "sample")
    with progress, beam.Pipeline(options=options) as root:
        shards = root | "WriteShards" >> WriteShards(job, num_shards)
        _ = shards | "WriteManifest" >> WriteManifest(job)


class _InPool(beam.DoFn):
    """A step that needs worker processes; one pool serves all steps of a process."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._pool = shared_pool(self._job.num_workers)


class _ProbeBatch(_InPool):
    def process(self, batch):
        number, entries = batch
        beam.metrics.Metrics.counter("vcsr", "probed_entries").inc(len(entries))
        yield probe_batch(self._job, number, entries, self._pool)


class _WriteShard(_InPool):
    def process(self, index):
        shard = write_shard(self._job, index, self._pool)
        beam.metrics.Metrics.counter("vcsr", "samples").inc(shard.num_samples)
        beam.metrics.Metrics.counter("vcsr", "left_out").inc(shard.num_left_out)
        yield shard.model_dump_json()


class ProbeSources(beam.PTransform):
    """Open every source once and store what it is; yields the number of rows of each batch."""

    def __init__(self, job: Job, batches: list[list[Entry]]) -> None:
        super().__init__()
        self._job, self._batches = job, batches

    def expand(self, root):
        return (
            root
            | "Batches" >> beam.Create(list(enumerate(self._batches)), reshuffle=False)
            | "SpreadBatches" >> beam.Reshuffle()
            | "ProbeBatch" >> beam.ParDo(_ProbeBatch(self._job)).with_output_types(int)
        )


class WriteShards(beam.PTransform):
    """Make every shard of the committed plan; yields shard records as JSON."""

    def __init__(self, job: Job, num_shards: int) -> None:
        super().__init__()
        self._job, self._num_shards = job, num_shards

    def expand(self, root):
        return (
            root
            | "ShardNumbers" >> beam.Create(range(self._num_shards), reshuffle=False)
            | "SpreadShards" >> beam.Reshuffle()
            | "WriteShard" >> beam.ParDo(_WriteShard(self._job)).with_output_types(str)
        )


class WriteManifest(beam.PTransform):
    """Finish the dataset, once every shard is there."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, shards):
        return (
            shards
            | "AllShards" >> beam.combiners.ToList()
            | "Finish" >> beam.Map(_finish, self._job).with_output_types(int)
        )


def _finish(shards: list[str], job: Job) -> int:
    return finish_dataset(job, [Shard.model_validate_json(shard) for shard in shards])
