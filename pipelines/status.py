"""How far a dataset is: `python -m pipelines.status DATASET`, during a run and after.

It reads what is stored and asks no process, so that it works from any machine, on any engine.
"""

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from pipelines.audit.dataset import read_damageable_columns
from pipelines.audit.report import check_json, write_json
from pipelines.command import EXIT_FINDINGS, EXIT_OK, add_json, run_command
from pipelines.errors import UserError
from pipelines.layout import Layout, P
from pipelines.progress import watched
from pipelines.report import duration
from schemas.manifest import Shard, read_manifest
from schemas.plan import PlannedSample
from schemas.record import Outcome, Record, Status
from schemas.sample import SampleRow
from schemas.source import Source
from schemas.store import Place, place_argument
from schemas.wording import counted

T = TypeVar("T")

_READERS = 16
"""Threads that wait for small files, each of which a store takes its time for."""
_PAUSE_SECONDS = 60.0
"""Where nobody worked for so long, a stretch of work ends, over which the rate is taken."""


class LeftOut(Record):
    """How many were left out for one reason."""

    status: Status
    """filtered, failed-retryable or failed-permanent"""
    reason: str
    """short code, such as too_small or corrupt"""
    count: int
    """how many"""


class DatasetStatus(Record):
    """How far a dataset is."""

    dataset: str
    """as it was given"""
    is_finished: bool
    """whether the manifest is there"""
    batches_probed: int
    """batches of inputs that were opened"""
    batches: int
    """batches of inputs; 0 where this is not known any more"""
    shards_done: int
    """shards that are committed"""
    shards: int
    """shards of the plan; 0 while there is none"""
    samples_done: int
    """planned samples in shards that are done, those left out included"""
    samples_begun: int
    """samples made in shards that are not done, as far as is known here"""
    samples: int
    """samples of the plan"""
    samples_left_out: list[LeftOut]
    """of those done"""
    sources: int
    """sources that were found, those left out included"""
    sources_left_out: list[LeftOut]
    """sources of which nothing can be made"""
    samples_per_second: float
    """of the last stretch of work; 0 if not known"""
    stretch_shards: int
    """shards that were done in that stretch"""
    remaining_seconds: float
    """at that rate; 0 if it is finished or not known"""
    quiet_seconds: float
    """since the last sign of life of whoever works on it; -1 if there is none"""

    def describe(self) -> str:
        """The same for a person."""
        lines = [f"{self.dataset}: {'finished' if self.is_finished else 'not finished'}"]
        if not self.shards:
            lines.append(f"  probing    {self.batches_probed} of {self.batches} batches of sources")
        else:
            made = self.samples_done - _total(self.samples_left_out)
            begun = f", {self.samples_begun} begun" if self.samples_begun else ""
            lines += [
                f"  shards     {self.shards_done} of {self.shards}",
                f"  samples    {self.samples_done} of {self.samples}: {made} made, "
                f"{_total(self.samples_left_out)} left out{begun}",
                *(f"  left out   {_described(one)}" for one in self.samples_left_out),
                f"  sources    {self.sources - _total(self.sources_left_out)} of {self.sources} "
                "usable",
                *(f"  left out   {_described(one)}" for one in self.sources_left_out),
            ]
        if self.samples_per_second:
            lines.append(
                f"  rate       {self.samples_per_second:.2f} samples/s over the last "
                f"{counted(self.stretch_shards, 'shard')}"
            )
        if not self.is_finished:
            if self.remaining_seconds:
                lines.append(f"  remaining  about {duration(self.remaining_seconds)} at this rate")
            if self.quiet_seconds >= 0:
                lines.append(f"  last sign  {duration(self.quiet_seconds)} ago")
        return "\n".join(lines) + "\n"


def _total(left_out: Iterable[LeftOut]) -> int:
    return sum(one.count for one in left_out)


def _described(one: LeftOut) -> str:
    return f"{one.count} {one.reason} ({one.status})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run_command("status", lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.status",
        description="Tell how far a dataset is: shards, samples, what was left out and why, rate "
        "and remaining time. Works during a run, after it, and from other machines.",
        epilog="Exit status: 0 if the dataset is finished, 1 if it is not, 2 for a mistake.",
        allow_abbrev=False,
    )
    parser.add_argument("dataset", type=place_argument, metavar="DATASET", help="the dataset")
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    check_json(options.json)
    status = read_status(options.dataset)
    sys.stdout.write(status.describe())
    if options.json:
        write_json(status, options.json)
    return EXIT_OK if status.is_finished else EXIT_FINDINGS


def read_status(root: Place) -> DatasetStatus:
    """How far a dataset is.

    Raises:
        UserError: if there is none, and none was begun.
        DatasetError: if a table is damaged.
    """
    layout = Layout(root)
    if not layout.plan.is_file():
        return _status_of_probing(layout)
    planned = _planned(layout)
    is_finished = layout.manifest.is_file()
    done = read_manifest(root).shards if is_finished else list(_committed(layout, planned))
    logs = _logs(layout, done)
    rate, stretch_shards = _rate([(log, planned[log.shard]) for log in logs])
    samples, samples_done = sum(planned.values()), sum(planned[one.shard] for one in done)
    begun = _begun(layout, planned.keys() - {shard.shard for shard in done})
    left = 0 if is_finished else samples - samples_done - begun
    # It waits in the logs from the plan's commit on until it is moved, which a kill puts off.
    is_there = layout.sources.is_file() or not layout.next_sources.is_file()
    sources = _outcomes(layout.sources if is_there else layout.next_sources, Source)
    return DatasetStatus(
        dataset=str(root),
        is_finished=is_finished,
        batches_probed=0,
        batches=0,
        shards_done=len(done),
        shards=len(planned),
        samples_done=samples_done,
        samples_begun=begun,
        samples=samples,
        samples_left_out=_samples_left_out(layout, done),
        sources=sources.total(),
        sources_left_out=_left_out(sources),
        samples_per_second=rate,
        stretch_shards=stretch_shards,
        remaining_seconds=left / rate if rate else 0.0,
        quiet_seconds=_quiet_seconds(layout, logs),
    )


def _status_of_probing(layout: Layout) -> DatasetStatus:
    blocks = _files(layout.entries(0, 0).parent)
    if not blocks:
        raise UserError(f"{layout.root} holds no dataset, and none was begun there")
    return DatasetStatus(
        dataset=str(layout.root),
        is_finished=False,
        batches_probed=len(_files(layout.probed(0, 0).parent)),
        batches=sum(len(json.loads(block.read_bytes())) for block in blocks),
        shards_done=0,
        shards=0,
        samples_done=0,
        samples_begun=0,
        samples=0,
        samples_left_out=[],
        sources=0,
        sources_left_out=[],
        samples_per_second=0.0,
        stretch_shards=0,
        remaining_seconds=0.0,
        quiet_seconds=_quiet_seconds(layout, []),
    )


def _planned(layout: Layout) -> dict[str, int]:
    """Samples of each shard of the plan."""
    rows = read_damageable_columns(layout.plan, PlannedSample, ["shard"])
    return Counter(rows.column("shard").to_pylist())


def _committed(layout: Layout, planned: Iterable[str]) -> Iterator[Shard]:
    """The shards whose markers are there."""

    def read(name: str) -> Shard | None:
        try:
            return Shard.model_validate_json(layout.marker(name).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # not made yet, or going to be made again

    return (shard for shard in _read_all(read, planned, "shard") if shard)


class _Log(NamedTuple):
    shard: str
    finished_unix_seconds: float
    seconds: float


def _logs(layout: Layout, shards: Sequence[Shard]) -> list[_Log]:
    """When shards were made and how long it took, where that is known."""

    def read(shard: Shard) -> _Log | None:
        try:
            log = json.loads(layout.shard_log(shard.shard).read_bytes())
        except FileNotFoundError:
            return None  # logs are no part of a dataset
        return _Log(shard.shard, log["finished_unix_seconds"], log["seconds"])

    return [log for log in _read_all(read, shards, "log") if log]


def _read_all(read: Callable[..., T], items: Iterable, unit: str) -> Iterator[T]:
    items = list(items)
    with ThreadPoolExecutor(_READERS) as pool:
        yield from watched(pool.map(read, items), len(items), "reading", unit)


def _rate(logs: Sequence[tuple[_Log, int]]) -> tuple[float, int]:
    """Samples per second in the last stretch of work without a pause, and its shards."""
    begin, end, num_samples, num_shards = 0.0, 0.0, 0, 0
    for log, count in sorted(logs, key=lambda item: -item[0].finished_unix_seconds):
        if num_shards and log.finished_unix_seconds < begin - _PAUSE_SECONDS:
            break
        started = log.finished_unix_seconds - log.seconds
        begin = min(begin, started) if num_shards else started
        end = max(end, log.finished_unix_seconds)
        num_samples, num_shards = num_samples + count, num_shards + 1
    return (num_samples / (end - begin) if end > begin else 0.0), num_shards


def _begun(layout: Layout, shards: Set[str]) -> int:
    """Samples made in shards that are not committed, by the counters of a run that goes on."""
    texts = (file.text for file in _signs(layout.progress) if file.name in shards)
    return sum(int(text) for text in texts if text)  # one may be empty while it is written


def _files(folder: P) -> list[P]:
    return list(folder.iterdir()) if folder.is_dir() else []


class _Sign(NamedTuple):
    name: str
    text: str
    unix_seconds: float


def _signs(folder: Path) -> Iterator[_Sign]:
    """What processes that are at work write again and again; it may be gone at any moment."""
    for file in _files(folder):
        with contextlib.suppress(FileNotFoundError):
            yield _Sign(file.name, file.read_text(), file.stat().st_mtime)


def _quiet_seconds(layout: Layout, logs: Sequence[_Log]) -> float:
    times = [log.finished_unix_seconds for log in logs]
    times += [s.unix_seconds for at in (layout.alive, layout.progress) for s in _signs(at)]
    return max(0.0, time.time() - max(times)) if times else -1.0


def _samples_left_out(layout: Layout, shards: Sequence[Shard]) -> list[LeftOut]:
    def read(shard: Shard) -> Counter[tuple[Status, str]]:
        return _outcomes(layout.table("samples", shard.shard), SampleRow)

    some = [shard for shard in shards if shard.num_left_out]
    return _left_out(sum(_read_all(read, some, "table"), Counter()))


def _outcomes(table: Place, record: type[Outcome]) -> Counter[tuple[Status, str]]:
    """(status, reason) -> rows of a table."""
    columns = read_damageable_columns(table, record, ["status", "reason"])
    pairs = zip(*(columns.column(name).to_pylist() for name in ("status", "reason")), strict=True)
    return Counter((Status(status), reason) for status, reason in pairs)


def _left_out(outcomes: Counter[tuple[Status, str]]) -> list[LeftOut]:
    return [
        LeftOut(status=status, reason=reason, count=count)
        for (status, reason), count in sorted(outcomes.items())
        if status is not Status.OK
    ]


if __name__ == "__main__":
    sys.exit(main())
