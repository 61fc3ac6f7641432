"""What it takes to make samples of a dataset again: stored draws, and sources where at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pipelines.audit.bounds import plan_problem
from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.environment import Host, host_of
from pipelines.audit.sources import FoundSources, find_sources
from pipelines.corpus import Entry
from pipelines.make import MakeTask
from pipelines.pool import WorkerPool
from pipelines.shards import Location
from schemas.draw import SceneDraw, StreamDraw
from schemas.manifest import DatasetError, Environment
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.sample import SampleRow, StreamRow
from schemas.shard import PLAIN_NAME
from schemas.source import Source, SourceKind
from schemas.store import place


@dataclass(frozen=True, kw_only=True)
class RemakeTask:
    """A sample, and all that it takes to make it again."""

    fault: str
    """what of the plan makes it impossible, a line; empty where nothing does"""
    work: MakeTask
    """the sample's row of the plan, and its sources; paths of those that are at hand. No row where
    there is a fault"""
    row: SampleRow
    """its row of the samples"""
    streams: list[StreamRow]
    """the rows of its streams, in order"""
    absent: list[str]
    """a line for each source that is not at hand"""
    tar: str
    """the shard; empty where it is not at hand"""
    environment: Environment
    """what the dataset was made with"""
    host: Host
    """what made the shard, as far as its log tells"""

    @cached_property
    def scene(self) -> SceneDraw:
        """The stored draw of the scene."""
        return SceneDraw.model_validate_json(self.row.scene_draw)

    @property
    def is_hr_exact(self) -> bool:
        """Whether HR is stored as the source has it."""
        return self.work.recipe.hr.stored_quality(self.row.split) is None

    @property
    def draws(self) -> list[StreamDraw]:
        """The stored draw of each stream."""
        return [StreamDraw.model_validate_json(stream.draw) for stream in self.streams]


class Material(NamedTuple):
    """What the samples of a dataset are made of."""

    dataset: Dataset
    recipe: Recipe
    planned: Mapping[str, PlannedSample]
    """rows of the plan, by key"""
    sources: Mapping[str, Source]
    """by id"""
    found: FoundSources
    hosts: Mapping[str, Host]
    """what made each shard"""

    def task(self, row: SampleRow, streams: Sequence[StreamRow]) -> RemakeTask:
        """What it takes to make one sample again.

        Args:
            row: of a sample that was made.
            streams: its streams, in order.
        """
        planned = self.planned.get(row.key)
        fault = self._fault(planned)
        rows = [planned] if planned and not fault else []
        shard = rows[0].shard if rows else ""
        ids = sorted({span.source_id for planned in rows for span in planned.spans})
        paths, absent = self.found
        tar = self.dataset.layout.tar(shard)
        work = MakeTask(
            recipe=self.recipe,
            seed=self.dataset.manifest.seed,
            rows=rows,
            sources={source_id: self.sources[source_id] for source_id in ids},
            paths={source_id: paths[source_id] for source_id in ids if source_id in paths},
        )
        return RemakeTask(
            fault=fault,
            work=work,
            row=row,
            streams=list(streams),
            absent=[absent[source_id] for source_id in ids if source_id in absent],
            tar=str(tar) if tar.is_file() else "",
            environment=self.dataset.manifest.environment,
            host=self.hosts.get(shard, Host({}, "")),
        )

    def _fault(self, planned: PlannedSample | None) -> str:
        if planned is None:
            return "index/plan.parquet lacks the sample"
        if planned.shard not in self.hosts:
            return f"it is planned for the shard {planned.shard!r}, which the manifest lacks"
        return plan_problem(planned, self.sources, self.recipe)


def gather(
    dataset: Dataset, keys: Sequence[str], entries: Sequence[Entry], pool: WorkerPool
) -> Material:
    """Read the plan of samples, and find their sources: where they lay, then among `entries`.

    Raises:
        DatasetError: if a table is missing or damaged.
    """
    layout, wanted = dataset.layout, set(keys)
    plan = dataset.read(layout.plan, PlannedSample)
    planned = {row.key: row for row in plan if row.key in wanted}
    ids = {span.source_id for row in planned.values() for span in row.spans}
    table = dataset.read(layout.sources, Source)
    sources = {row.source_id: row for row in table if row.source_id in ids and row.uris}
    # A shard's name becomes a path.
    shards = {row.shard for row in planned.values()} & {s.shard for s in dataset.manifest.shards}
    return Material(
        dataset=dataset,
        recipe=dataset.recipe,
        planned=planned,
        sources=sources,
        found=_find(dataset, sources, entries, pool),
        hosts={s: host_of(layout, s) for s in sorted(shards) if PLAIN_NAME.fullmatch(s)},
    )


def _find(
    dataset: Dataset, sources: Mapping[str, Source], entries: Sequence[Entry], pool: WorkerPool
) -> FoundSources:
    try:
        places, unknown = _places(dataset, sources), ""
    except DatasetError as error:
        places, unknown = [], f"; where it lay is not known: {error}"
    paths, absent = find_sources(list(sources.values()), [*places, *entries], pool)
    return FoundSources(paths, {source_id: line + unknown for source_id, line in absent.items()})


def _places(dataset: Dataset, sources: Mapping[str, Source]) -> list[Entry]:
    """Where the sources lay when the dataset was made, as far as the logs are here.

    Raises:
        DatasetError: if the log is damaged.
    """
    file = dataset.layout.locations
    locations = read_damageable(file, Location) if file.is_file() else []
    found = [(sources[row.source_id], row.paths) for row in locations if row.source_id in sources]
    return [
        Entry(uri=source.uris[0], paths=tuple(paths), is_folder=source.kind is SourceKind.FRAMES)
        for source, paths in found
        if paths and all(_is_file(path) for path in paths)
    ]


def _is_file(path: str) -> bool:
    try:
        return place(path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
