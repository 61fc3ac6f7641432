"""The whole command: what is to be looked at, and what came of it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.audit.dataset import Dataset
from pipelines.audit.material import Material, gather
from pipelines.audit.report import Finding, Report
from pipelines.corpus import Entry, discover
from pipelines.job import library_versions
from pipelines.pool import WorkerDied, WorkerPool, shared_pool
from pipelines.progress import watched
from pipelines.shards import describe_file
from pipelines.verify.draws import Planned
from pipelines.verify.semantic import SampleTask, check_sample
from pipelines.verify.structural import Structure, check_structure
from schemas.manifest import MANIFEST_NAME
from schemas.plan import PlannedSample
from schemas.record import Status
from schemas.sample import SampleRow, StreamRow
from schemas.source import Source
from schemas.store import Place
from schemas.tables import read_columns, read_group, read_table
from schemas.wording import counted

_HASHES = 2**64


class Grade(StrEnum):
    """How deep to look. Each grade includes those before it."""

    STRUCTURAL = "structural"
    SEMANTIC = "semantic"
    PIXEL = "pixel"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for."""

    root: Place
    """the dataset"""
    grade: Grade
    sample_rate: float
    """share of the samples that are looked at beyond their structure, 0 to 1"""
    inputs: Sequence[str]
    """where sources may be found, beside where they lay when the dataset was made"""
    num_workers: int


def verify(settings: Settings) -> Report:
    """Look at a dataset.

    Raises:
        UserError: if there is no finished dataset, another release wrote it, or an input is not
            there.
    """
    pool = shared_pool(settings.num_workers)
    entries = discover(settings.inputs) if settings.inputs else []
    structure = check_structure(settings.root, pool)
    report = Report(
        command="verify",
        dataset=str(settings.root),
        manifest_sha256=_manifest_sha256(settings.root),
        settings={"grade": settings.grade, "sample_rate": f"{settings.sample_rate:g}"},
        looked_at=structure.looked_at,
        not_looked_at=structure.not_looked_at,
        findings=structure.findings,
    )
    if settings.grade is Grade.STRUCTURAL or structure.dataset is None:
        return report
    return _look_deeper(settings, entries, structure.dataset, structure, report, pool)


def _manifest_sha256(root: Place) -> str:
    try:
        return describe_file(root / MANIFEST_NAME, "", 0).sha256
    except OSError:  # which is among the findings
        return ""


def _look_deeper(
    settings: Settings,
    entries: Sequence[Entry],
    dataset: Dataset,
    structure: Structure,
    report: Report,
    pool: WorkerPool,
) -> Report:
    """The report with what the samples gave, of those whose structure is sound."""
    damaged = {finding.key for finding in structure.findings}
    keys = {
        key: shard
        for shard in structure.readable_shards
        for key in _made(dataset, shard)
        if key not in damaged and is_sampled(key, settings.sample_rate)
    }
    skipped = [*report.not_looked_at, *(_unproved(dataset, structure) if keys else [])]
    if (others := report.looked_at["samples"] - len(keys)) > 0:
        skipped.append(f"{counted(others, 'sample')} beyond their structure")
    material = None
    if settings.grade is Grade.PIXEL and keys:
        if structure.is_plan_readable:
            material = gather(dataset, list(keys), entries, pool)
        else:
            skipped.append("pixels: the plan, or the table of sources, is damaged")
    findings, looked_at = list(report.findings), {"streams": 0, "frames": 0}
    tasks = _tasks(dataset, structure, keys, material)
    outcomes = pool.map_ordered(check_sample, tasks)
    for task, outcome in watched(outcomes, len(keys), "checking samples", "sample"):
        if isinstance(outcome, WorkerDied):
            findings.append(_death(task, outcome))
            continue
        findings += outcome.value.findings
        skipped += outcome.value.not_looked_at
        looked_at["streams"] += outcome.value.num_streams
        looked_at["frames"] += outcome.value.num_frames
    return report.model_copy(
        update={
            "looked_at": report.looked_at | looked_at,
            "not_looked_at": skipped,
            "findings": findings,
        }
    )


def is_sampled(key: str, rate: float) -> bool:
    """Whether a sample is among that share of all; the same ones every time."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < rate * _HASHES


def _made(dataset: Dataset, shard: str) -> Iterator[str]:
    table = str(dataset.layout.table("samples", shard))
    for row in read_columns(table, SampleRow, ["key", "status"]).to_pylist():
        if row["status"] == Status.OK:
            yield row["key"]


def _same_libraries(dataset: Dataset) -> frozenset[str]:
    made_with = dataset.manifest.environment.libraries
    here = library_versions()
    return frozenset(name for name in here if here[name] == made_with.get(name))


def _unproved(dataset: Dataset, structure: Structure) -> Iterator[str]:
    """What cannot be said of any sample."""
    made_with, same = dataset.manifest.environment.libraries, _same_libraries(dataset)
    if not structure.is_plan_readable:
        yield "whether samples are drawn from the plan: it, or the table of sources, is damaged"
    for library, what in (
        ("numpy", "whether recipe and seed give the stored draws"),
        ("libavformat", "bytes of containers outside packets"),
    ):
        if library not in same:
            here = library_versions()[library]
            made = made_with.get(library, "unknown")
            yield f"{what}: made with {library} {made}, here is {here}"


def _planned(dataset: Dataset, shard: str, sources: Mapping[str, Source]) -> dict[str, Planned]:
    """What the samples of a shard are drawn from, by key."""
    index = [one.shard for one in dataset.manifest.shards].index(shard)
    rows = read_group(str(dataset.layout.plan), PlannedSample, index)
    return {row.key: Planned(row, sources, dataset.manifest.seed) for row in rows}


def _tasks(
    dataset: Dataset, structure: Structure, keys: Mapping[str, str], material: Material | None
) -> Iterator[SampleTask]:
    layout, recipe, same_libraries = dataset.layout, dataset.recipe, _same_libraries(dataset)
    has_plan, sources = structure.is_plan_readable, dict[str, Source]()
    if has_plan and keys:
        sources = {row.source_id: row for row in read_table(str(layout.sources), Source)}
    for shard in dict.fromkeys(keys.values()):
        planned = _planned(dataset, shard, sources) if has_plan else {}
        streams: defaultdict[str, list[StreamRow]] = defaultdict(list)
        if material is not None:
            for stream in read_table(str(layout.table("streams", shard)), StreamRow):
                streams[stream.key].append(stream)
        for row in read_table(str(layout.table("samples", shard)), SampleRow):
            if keys.get(row.key) == shard:
                yield SampleTask(
                    tar=layout.tar(shard),
                    path=layout.relative(layout.tar(shard)),
                    row=row,
                    recipe=recipe,
                    environment=dataset.manifest.environment,
                    same_libraries=same_libraries,
                    planned=planned.get(row.key),
                    remake=material.task(row, streams[row.key]) if material else None,
                )


def _death(task: SampleTask, death: WorkerDied) -> Finding:
    return Finding(
        check=death.reason,
        path=task.path,
        shard=task.row.shard,
        key=task.row.key,
        detail=f"looking at the sample took the process down: {death.detail}",
    )
