"""What it takes to make samples of a dataset again: stored draws, and sources where at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipelines.audit.dataset import Dataset, read_damageable
from pipelines.audit.environment import host_of
from pipelines.audit.files import inside
from pipelines.audit.sources import FoundSources, find_sources
from pipelines.corpus import Entry
from pipelines.make import MakeTask
from pipelines.pool import WorkerPool
from pipelines.shards import Location
from schemas.draw import SceneDraw, StreamDraw
from schemas.manifest import DatasetError, Environment
from schemas.plan import PlannedSample
from schemas.sample import SampleRow, StreamRow
from schemas.source import Source, SourceKind
from schemas.store import place


@dataclass(frozen=True, kw_only=True)
class RemakeTask:
    """A sample, and all that it takes to make it again."""

    work: MakeTask
    """the sample's row of the plan, and its sources; paths of those that are at hand"""
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
    host: Mapping[str, Any]
    """what made the shard, as far as its log tells"""

    @cached_property
    def scene(self) -> SceneDraw:
        """The stored draw of the scene."""
        return SceneDraw.model_validate_json(self.row.scene_draw)

    @property
    def draws(self) -> list[StreamDraw]:
        """The stored draw of each stream."""
        return [StreamDraw.model_validate_json(stream.draw) for stream in self.streams]


class Material(NamedTuple):
    """What the samples of a dataset are made of."""

    dataset: Dataset
    planned: Mapping[str, PlannedSample]
    """rows of the plan, by key"""
    sources: Mapping[str, Source]
    """by id"""
    found: FoundSources

    def task(self, row: SampleRow, streams: Sequence[StreamRow]) -> RemakeTask:
        """What it takes to make one sample again.

        Args:
            row: of a sample that was made.
            streams: its streams, in order.
        """
        planned = self.planned[row.key]
        ids = sorted({span.source_id for span in planned.spans})
        paths, absent = self.found
        tar = self.dataset.layout.tar(planned.shard)
        work = MakeTask(
            recipe=self.dataset.recipe,
            seed=self.dataset.manifest.seed,
            rows=[planned],
            sources={source_id: self.sources[source_id] for source_id in ids},
            paths={source_id: paths[source_id] for source_id in ids if source_id in paths},
        )
        return RemakeTask(
            work=work,
            row=row,
            streams=list(streams),
            absent=[absent[source_id] for source_id in ids if source_id in absent],
            tar=str(tar) if tar.is_file() else "",
            environment=self.dataset.manifest.environment,
            host=host_of(self.dataset.layout, planned.shard),
        )


def gather(
    dataset: Dataset, keys: Sequence[str], entries: Sequence[Entry], pool: WorkerPool
) -> Material:
    """Read the plan of samples, and find their sources: where they lay, then among `entries`.

    Raises:
        DatasetError: if a table is missing or damaged, or lacks a row, or a name leads elsewhere.
    """
    layout, wanted = dataset.layout, set(keys)
    plan = read_damageable(layout.plan, PlannedSample)
    planned = {row.key: row for row in plan if row.key in wanted}
    for row in planned.values():
        inside(layout.root, row.shard)  # names files that are going to be read
    ids = {span.source_id for row in planned.values() for span in row.spans}
    table = read_damageable(layout.sources, Source)
    sources = {row.source_id: row for row in table if row.source_id in ids}
    if lacking := sorted(wanted - planned.keys()) or sorted(ids - sources.keys()):
        raise DatasetError(f"the plan of {layout.root} lacks {lacking[0]}")
    places = [*_places(dataset, sources), *entries]
    return Material(dataset, planned, sources, find_sources(list(sources.values()), places, pool))


def _places(dataset: Dataset, sources: Mapping[str, Source]) -> list[Entry]:
    """Where the sources lay when the dataset was made, as far as the logs are here."""
    file = dataset.layout.locations
    locations = read_damageable(file, Location) if file.is_file() else []
    found = [(sources[row.source_id], row.paths) for row in locations if row.source_id in sources]
    return [
        Entry(uri=source.uris[0], paths=tuple(paths), is_folder=source.kind is SourceKind.FRAMES)
        for source, paths in found
        if paths and all(place(path).is_file() for path in paths)
    ]
