"""One shard: the unit of work and of commit.

A shard is built in a staging folder and published file by file, its marker last. A shard whose
marker says what the plan asks for is not made again; one that is made twice has the same bytes.
"""

import hashlib
import itertools
import json
import os
import platform
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from pipelines.environment import log_environment
from pipelines.failures import failed
from pipelines.job import Job, check_libraries
from pipelines.layout import Layout, publish, publish_bytes, staged
from pipelines.make import MakeTask, make
from pipelines.pool import Done, WorkerDied, WorkerPool
from pipelines.progress import Heartbeat, watched
from pipelines.rows import rows_of, source_ids
from pipelines.store import remove
from schemas.manifest import SHARD_TABLES, DataFile, Shard
from schemas.plan import PlannedSample
from schemas.record import UNKNOWN, Outcome, Record, Status
from schemas.sample import FrameRow, SampleRow, StreamRow
from schemas.shard import ShardWriter
from schemas.source import Source, SourceKind
from schemas.store import Place, StorePath
from schemas.tables import TABLE_ERRORS, read_columns, read_group, read_rows, write_table
from transforms.degrade import MadeSample

_SAMPLES_AHEAD = 2  # tasks of each worker, whose samples are in memory

_ROW_TYPES: dict[str, type[Record]] = {
    "samples": SampleRow,
    "streams": StreamRow,
    "frames": FrameRow,
}


class Location(Record):
    """Table `locations`, in the logs: where a source lies on this machine."""

    source_id: str
    """the source"""
    paths: list[str]
    """its file, or the frames of a folder in order"""


def nowhere(layout: Layout, source: Source) -> list[str]:
    """The paths of a source that is not at hand: no file is ever there."""
    num_files = source.num_frames if source.kind is SourceKind.FRAMES else 1
    return [str(layout.logs / "absent")] * num_files


def write_shard(job: Job, index: int, pool: WorkerPool) -> Shard:
    """Make and publish shard number `index` of the plan, unless that is done already.

    Raises:
        RuntimeError: if this machine's libraries are not those of the plan.
    """
    rows = read_group(str(job.layout.plan), PlannedSample, index)
    plan_sha256 = job.plan_sha256(rows)
    heartbeat = Heartbeat(job.layout, rows[0].shard)
    finished = _finished_shard(job.layout, rows[0].shard, plan_sha256)
    if finished is not None:
        heartbeat.add(len(rows))
        return finished
    check_libraries(job)
    remove(job.layout.manifest)  # it tells of files that are about to change
    started = time.monotonic()
    with staged(job.layout) as folder:
        shard = _ShardBuilder(job, rows, folder).build(pool, heartbeat, plan_sha256)
    _log_attempt(job, shard, time.monotonic() - started)  # first: once it is marked, it is done
    marker = job.layout.marker(shard.shard)
    publish_bytes(shard.model_dump_json().encode(), marker, job.layout)
    return shard


def _finished_shard(layout: Layout, name: str, plan_sha256: str) -> Shard | None:
    """The shard as its marker describes it, if its files are there as described."""
    shard = _read_marker(layout, name)
    if (
        shard is None
        or shard.plan_sha256 != plan_sha256
        or not all(_is_whole(layout, f) for f in shard.files)
    ):
        return None
    return shard


def _read_marker(layout: Layout, name: str) -> Shard | None:
    marker = layout.marker(name)
    try:
        return Shard.model_validate_json(marker.read_bytes()) if marker.is_file() else None
    except ValidationError:
        return None  # of another release: made again


def _is_whole(layout: Layout, file: DataFile) -> bool:
    path = layout.root / file.path
    if isinstance(path, StorePath):
        # Stores keep what they took; all of it would have to be read again to be hashed.
        return path.is_file() and path.size == file.size
    return path.is_file() and describe_file(path, file.path, file.rows) == file


def num_retryable(layout: Layout, shards: Iterable[Shard]) -> int:
    """Samples of finished shards that may be made another time."""
    tables = (layout.table("samples", shard.shard) for shard in shards if shard.num_left_out)
    columns = (read_columns(str(table), SampleRow, ["status"]).column("status") for table in tables)
    return sum(column.to_pylist().count(Status.FAILED_RETRYABLE) for column in columns)


def reopen_retryable(layout: Layout, names: Collection[str]) -> int:
    """Take the markers of finished shards that hold a failure which may go otherwise now.

    So they are made again, by this run or, if it is killed, by the next one; once in a run,
    however often an engine repeats its work.

    Args:
        layout: the dataset.
        names: its shards.

    Returns:
        The number of shards.
    """
    num_reopened = 0
    for name in watched(names, len(names), "looking for failures", "shard"):
        marker = _read_marker(layout, name)
        try:
            is_retryable = marker is not None and num_retryable(layout, [marker]) > 0
        except TABLE_ERRORS:
            continue  # damaged, so that it is made again in any case
        if is_retryable:
            remove(layout.manifest)  # it tells of files that are about to change
            remove(layout.marker(name))
            num_reopened += 1
    return num_reopened


class _ShardBuilder:
    """Collects a shard's samples and rows in a staging folder, then publishes its files."""

    def __init__(self, job: Job, rows: list[PlannedSample], folder: Path) -> None:
        self._job, self._rows, self._folder = job, rows, folder
        ids = sorted({span.source_id for row in rows for span in row.spans})
        layout = job.layout
        self._sources = {
            row.source_id: row for row in read_rows(str(layout.sources), Source, "source_id", ids)
        }
        self._paths = {
            row.source_id: row.paths
            for row in read_rows(str(layout.locations), Location, "source_id", ids)
        }
        self._tables: dict[str, list[Record]] = {table: [] for table in SHARD_TABLES}
        self._num_samples = 0

    def build(self, pool: WorkerPool, heartbeat: Heartbeat, plan_sha256: str) -> Shard:
        name = self._rows[0].shard
        tar = self._folder / "shard.tar"
        with tar.open("wb") as file:
            writer = ShardWriter(file)
            for row, outcome in self._outcomes(pool):
                self._take(writer, row, outcome)
                heartbeat.add(1)
            size, sha256 = writer.close()
        target = self._job.layout.tar(name)
        path = self._job.layout.relative(target)
        files = [DataFile(path=path, size=size, sha256=sha256, rows=self._num_samples)]
        publish(tar, target)
        files += [self._publish_table(table, name) for table in SHARD_TABLES]
        return Shard(
            shard=name,
            split=self._rows[0].split,
            generation=self._rows[0].generation,
            plan_sha256=plan_sha256,
            num_samples=self._num_samples,
            num_left_out=len(self._rows) - self._num_samples,
            files=files,
        )

    def _outcomes(self, pool: WorkerPool) -> Iterator[tuple[PlannedSample, MadeSample | Outcome]]:
        for task, outcome in pool.map_ordered(make, self._tasks(), _SAMPLES_AHEAD):
            if isinstance(outcome, Done):
                yield from zip(task.rows, outcome.value, strict=True)
                continue
            # One of these samples killed the worker, and only that one is lost.
            alone = (
                [(one, pool.run(make, one)) for one in task.alone()]
                if len(task.rows) > 1
                else [(task, outcome)]
            )
            for one, result in alone:
                yield (
                    one.rows[0],
                    _died(result) if isinstance(result, WorkerDied) else result.value[0],
                )

    def _tasks(self) -> Iterator[MakeTask]:
        for _, rows in itertools.groupby(self._rows, key=lambda row: row.spans):
            together = list(rows)
            ids = {span.source_id for span in together[0].spans}
            yield MakeTask(
                recipe=self._job.recipe,
                seed=self._job.seed,
                rows=together,
                sources={source_id: self._sources[source_id] for source_id in ids},
                paths={source_id: self._paths[source_id] for source_id in ids},
            )

    def _take(self, writer: ShardWriter, row: PlannedSample, outcome: MadeSample | Outcome) -> None:
        if isinstance(outcome, Outcome):
            self._tables["samples"].append(self._left_out_row(row, outcome))
            return
        members = writer.add(outcome.sample, outcome.members)
        rows = rows_of(outcome.sample, row, self._num_samples, members)
        self._tables["samples"].append(rows.sample)
        self._tables["streams"] += rows.streams
        self._tables["frames"] += rows.frames
        self._num_samples += 1

    def _left_out_row(self, row: PlannedSample, outcome: Outcome) -> SampleRow:
        detail = f"{outcome.detail}; sources: {', '.join(self._uris(row))}"
        return SampleRow(
            **outcome.model_copy(update={"detail": detail}).model_dump(),
            key=row.key,
            kind=row.kind,
            split=row.split,
            group=row.group,
            licence=row.licence,
            attributions=row.attributions,
            recipe_sha256=self._job.recipe.sha256,
            seed=self._job.seed,
            clip=row.clip,
            variant=row.variant,
            hr_id="",
            origins=[],
            num_frames=sum(span.count for span in row.spans),
            scale=self._job.recipe.scale,
            hr_height=UNKNOWN,
            hr_width=UNKNOWN,
            fps=0,
            hr_sharpened=self._job.recipe.hr.sharpen != "off",
            scene_draw="",
            shard=row.shard,
            source_ids=source_ids(row),
            members=[],
        )

    def _uris(self, row: PlannedSample) -> list[str]:
        return [self._sources[source_id].uris[0] for source_id in source_ids(row)]

    def _publish_table(self, table: str, name: str) -> DataFile:
        staged_file, target = self._folder / f"{table}.parquet", self._job.layout.table(table, name)
        write_table(str(staged_file), _ROW_TYPES[table], self._tables[table])
        file = describe_file(
            staged_file, self._job.layout.relative(target), len(self._tables[table])
        )
        publish(staged_file, target)
        return file


def _died(death: WorkerDied) -> Outcome:
    return failed("make", death.reason, death.detail)


def describe_file(file: Place, path: str, rows: int) -> DataFile:
    """The record of a file that is listed in the manifest under `path`."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size = opened.tell()
    return DataFile(path=path, size=size, sha256=digest, rows=rows)


def describe_bytes(data: bytes, path: str) -> DataFile:
    """The record of a file without rows that is listed in the manifest under `path`."""
    digest = hashlib.sha256(data).hexdigest()
    return DataFile(path=path, size=len(data), sha256=digest, rows=0)


def _log_attempt(job: Job, shard: Shard, seconds: float) -> None:
    log = job.layout.shard_log(shard.shard)
    attempts = json.loads(log.read_bytes())["attempts"] if log.is_file() else 0
    entry = {
        "attempts": attempts + 1,
        "seconds": round(seconds, 3),
        "finished_unix_seconds": round(time.time(), 3),
        "host": platform.node(),
        "pid": os.getpid(),
        "environment": log_environment(job),
    }
    publish_bytes(json.dumps(entry).encode(), log, job.layout)
