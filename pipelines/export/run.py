"""The export itself: what is to be written, and what came of it."""

import argparse
import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.command import check_workers
from pipelines.errors import UserError, reason_of
from pipelines.export.place import claim, discard, write_marker
from pipelines.export.sample import (
    Damage,
    ExportTask,
    Written,
    export_sample,
    remove_sample,
    write_whole,
)
from pipelines.export.tree import (
    DEFAULT_WINDOWS,
    MvUnits,
    Settings,
    TreeName,
    list_lines,
    rate_folder,
    reason_left_out,
    stream_folders,
)
from pipelines.layout import Layout
from pipelines.pool import WorkerDied, shared_pool
from pipelines.progress import watched
from schemas.manifest import DatasetError, Manifest, Shard, read_manifest
from schemas.record import Status
from schemas.sample import SampleRow, StreamRow
from schemas.source import Source
from schemas.tables import TABLE_ERRORS, read_columns, read_table
from schemas.wording import counted

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # what may name a file or folder
_RATE_COLUMNS = ["name", "lr_kind", "codec", "rate_mode", "rate_value", "earlier", "lost_slices"]


@dataclasses.dataclass
class Report:
    """What came of an export."""

    expected: int
    """samples of the split, by the manifest"""
    samples: int = 0
    """samples that are whole in the output"""
    files: int = 0
    frames: int = 0
    bytes: int = 0
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    """samples without a place in the layout, by reason"""
    damaged: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """shard -> what is wrong with it"""

    @property
    def missing(self) -> int:
        """Samples that should have been written and were not."""
        return self.expected - self.samples - self.left_out.total()

    def count(self, written: Written) -> None:
        """Count a sample."""
        self.samples += 1
        self.files += written.files
        self.frames += written.frames
        self.bytes += written.bytes

    def add_damage(self, shard: str, detail: str) -> None:
        """Note what is wrong with a shard, in one line."""
        self.damaged.setdefault(shard, []).append(" ".join(detail.split()))


def export(options: argparse.Namespace) -> tuple[Settings, Report]:
    """Write what the options ask for.

    Raises:
        UserError: if a mistake shows, before anything is written; or if the output fails.
        DatasetError: if there is no finished dataset.
        SchemaVersionError: if an incompatible release wrote it.
    """
    manifest, layout = read_manifest(options.dataset), Layout(options.dataset)
    shards = _shards(manifest, options)
    report = Report(expected=sum(shard.num_samples for shard in shards))
    settings = _decide(manifest, shards, options, report)
    sources = _read_sources(layout)
    claim(options.output, options.dataset, settings)
    tasks = _tasks(layout, shards, settings, options.output, sources, report)
    try:
        _write(tasks, settings, options, report)
    except OSError as error:
        raise UserError(
            f"cannot write to --output {options.output}: {reason_of(error)}; "
            "the same command goes on from here"
        ) from error
    if not report.samples and not report.damaged:
        discard(options.output)
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items())
        raise UserError(f"--layout {settings.layout} has no place for any sample: {reasons}")
    return settings, report


def _shards(manifest: Manifest, options: argparse.Namespace) -> list[Shard]:
    shards = [shard for shard in manifest.shards if shard.split == options.split]
    if not any(shard.num_samples for shard in shards):
        present = ", ".join(f"{count} {split}" for split, count in sorted(manifest.splits.items()))
        raise UserError(
            f"{options.dataset} has no samples of --split {options.split}; "
            f"samples it has: {present or 'none at all'}"
        )
    return shards


def _decide(
    manifest: Manifest, shards: Sequence[Shard], options: argparse.Namespace, report: Report
) -> Settings:
    tree = TreeName(options.layout)
    check_workers(options.workers)
    if unknown := sorted(set(options.stream) - set(manifest.streams)):
        raise UserError(
            f"the dataset has no --stream {unknown[0]}: it has {', '.join(manifest.streams)}"
        )
    if tree is TreeName.BASICSR and options.mv_units:
        raise UserError("--mv-units is for the cavsr layouts: basicsr has no motion vectors")
    if tree is TreeName.CAVSR_VIMEO and options.window is not None:
        raise UserError("--window is not for cavsr-vimeo, whose clips are windows already")
    window = DEFAULT_WINDOWS[tree] if options.window is None else options.window
    if window < 0:
        raise UserError(f"--window is {window}, and must be 1 or more, or 0 for no such list")
    if strange := [name for name in manifest.streams if not _PLAIN_NAME.fullmatch(name)]:
        raise DatasetError(f"{options.dataset}: the stream {strange[0]!r} has no plain name")
    rates = {} if tree is TreeName.BASICSR else _rates(Layout(options.dataset), shards, report)
    folders = stream_folders(tree, manifest.streams, rates)
    chosen = options.stream or manifest.streams
    return Settings(
        manifest_sha256=manifest.sha256,
        layout=tree,
        split=options.split,
        folders={name: folder for name, folder in folders.items() if name in chosen},
        mv_units=MvUnits(options.mv_units or MvUnits.OFFICIAL),
        window=window,
    )


def _rates(layout: Layout, shards: Sequence[Shard], report: Report) -> dict[str, set[str]]:
    """Stream -> the release's names for what it is, over all samples."""
    found = defaultdict[str, set[str]](set)
    for shard in shards:
        table = layout.table("streams", shard.shard)
        try:
            rows = read_columns(str(table), StreamRow, _RATE_COLUMNS).to_pylist()
        except TABLE_ERRORS as error:
            report.add_damage(shard.shard, f"{layout.relative(table)}: {error}")
            continue
        for row in rows:
            found[row["name"]].add(rate_folder(row))
    return found


def _read_sources(layout: Layout) -> dict[str, dict[str, Any]]:
    try:
        rows = read_table(str(layout.sources), Source)
    except TABLE_ERRORS as error:
        raise DatasetError(
            f"{layout.sources} is missing or damaged ({error}): copy the dataset again"
        ) from error
    told = {"source_id", "uris", "licence", "attribution"}
    return {row.source_id: row.model_dump(include=told) for row in rows}


def _tasks(
    layout: Layout,
    shards: Sequence[Shard],
    settings: Settings,
    output: Path,
    sources: dict[str, dict[str, Any]],
    report: Report,
) -> Iterator[ExportTask]:
    """The samples to be written; others are noted in the report."""
    for shard in shards:
        for row in _rows(layout, shard, report):
            if reason := reason_left_out(settings, row):
                report.left_out[reason] += 1
                continue
            yield ExportTask(
                tar=layout.tar(shard.shard),
                shard=shard.shard,
                row=row,
                settings=settings,
                output=output,
                sources=[sources.get(i, {"source_id": i}) for i in row.source_ids],
            )


def _rows(layout: Layout, shard: Shard, report: Report) -> Iterator[SampleRow]:
    table = layout.table("samples", shard.shard)
    name = layout.relative(table)
    try:
        rows = read_table(str(table), SampleRow)
    except TABLE_ERRORS as error:
        report.add_damage(shard.shard, f"{name}: {error}")
        return
    made = [row for row in rows if row.status == Status.OK]
    if len(made) != shard.num_samples:
        detail = f"{name} has {counted(len(made), 'sample')}, the manifest {shard.num_samples}"
        report.add_damage(shard.shard, detail)
    for row in made:
        if _PLAIN_NAME.fullmatch(row.key):
            yield row
        else:  # it would become a path
            report.add_damage(shard.shard, f"{name}: the key {row.key!r} is no plain name")


def _write(
    tasks: Iterator[ExportTask], settings: Settings, options: argparse.Namespace, report: Report
) -> None:
    """Write the samples, then the lists of those that are whole."""
    lists = defaultdict[str, list[str]](list)
    outcomes = shared_pool(options.workers).map_ordered(export_sample, tasks)
    for task, outcome in watched(outcomes, report.expected, "exporting", "sample"):
        if isinstance(outcome, WorkerDied):
            remove_sample(task)
            report.add_damage(task.shard, f"{task.row.key}: {outcome.reason}: {outcome.detail}")
        elif isinstance(outcome.value, Damage):
            report.add_damage(task.shard, outcome.value.detail)
        else:
            report.count(outcome.value)
            for path, lines in list_lines(settings, task.row).items():
                lists[path] += lines
    for path, lines in lists.items():
        write_whole(options.output / path, "".join(f"{line}\n" for line in lines).encode())
    write_marker(options.output, settings, dict(vars(report)))
