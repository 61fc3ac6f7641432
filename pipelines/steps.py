"""The Beam transforms: each wraps one function of this package, none has logic of its own.

What travels between them is small (paths, shard numbers, shard records); pixels never do. The
graph is a line with one leaf, since some runners compute nothing else rightly.
"""

import shutil
from collections.abc import Iterable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.beam_log import noted
from pipelines.corpus import Entry
from pipelines.engines import running
from pipelines.finish import finish_dataset
from pipelines.job import Job
from pipelines.pool import shared_pool
from pipelines.probing import probe_batch, write_batches
from pipelines.progress import ProgressBar
from pipelines.shards import write_shard
from pipelines.watchdog import alive
from schemas.manifest import Shard


def probe_sources(job: Job, entries: Sequence[Entry], options: PipelineOptions) -> int:
    """Open every source once and store what it is; returns the number of batches."""
    num_batches = write_batches(job, entries)
    progress = ProgressBar(job.layout, "probing", len(entries), "source")
    with progress, running(job.layout, options, num_batches) as root:
        _ = root | "ProbeSources" >> ProbeSources(job, num_batches)
    return num_batches


def make_shards(job: Job, num_shards: int, num_samples: int, options: PipelineOptions) -> None:
    """Make every shard of the committed plan, then finish the dataset."""
    progress = ProgressBar(job.layout, "making", num_samples, "sample")
    with progress, running(job.layout, options, num_shards) as root:
        shards = root | "WriteShards" >> WriteShards(job, num_shards)
        _ = shards | "WriteManifest" >> WriteManifest(job)
    # Of attempts that were killed. Here, where the lock is: workers that a killed command left
    # behind must not take it from the run that goes on.
    shutil.rmtree(job.layout.staging, ignore_errors=True)


class _InPool(beam.DoFn):
    """A step that needs worker processes; one pool serves all steps of a process."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        with noted():
            self._pool = shared_pool(self._job.num_workers)


class _ProbeBatch(_InPool):
    def process(self, number):
        with noted(), alive(self._job.layout, f"probe-{number:06d}"):
            num_sources = probe_batch(self._job, number, self._pool)
        beam.metrics.Metrics.counter("vcsr", "probed_sources").inc(num_sources)
        yield num_sources


class _WriteShard(_InPool):
    def process(self, index):
        with noted(), alive(self._job.layout, f"shard-{index:06d}"):
            shard = write_shard(self._job, index, self._pool)
        beam.metrics.Metrics.counter("vcsr", "samples").inc(shard.num_samples)
        beam.metrics.Metrics.counter("vcsr", "left_out").inc(shard.num_left_out)
        yield shard.model_dump_json()


class ProbeSources(beam.PTransform):
    """Open every source once and store what it is; yields the number of rows of each batch."""

    def __init__(self, job: Job, num_batches: int) -> None:
        super().__init__()
        self._job, self._num_batches = job, num_batches

    def expand(self, root):
        return (
            root
            | "BatchNumbers" >> beam.Create(range(self._num_batches), reshuffle=False)
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
            # Not ToList, which has a side input.
            | "OneKey" >> beam.Map(_with_one_key).with_output_types(tuple[int, str])
            | "AllShards" >> beam.GroupByKey()
            | "Finish" >> beam.Map(_finish, self._job).with_output_types(int)
        )


def _with_one_key(shard: str) -> tuple[int, str]:
    return 0, shard


def _finish(grouped: tuple[int, Iterable[str]], job: Job) -> int:
    _, shards = grouped
    with noted(), alive(job.layout, "manifest"):
        return finish_dataset(job, [Shard.model_validate_json(shard) for shard in shards])
