"""Probing in batches, and the plan that follows from it."""

import contextlib
import functools
import itertools
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any

from pipelines.corpus import Entry, SourceRule
from pipelines.job import Job
from pipelines.layout import Layout, publish, publish_bytes, staged
from pipelines.licences import LicencePolicy
from pipelines.plan import Committed, Plan, make_plan
from pipelines.pool import Done, WorkerDied, WorkerPool
from pipelines.probe import Probed, files_of, not_probed, probe
from pipelines.progress import Heartbeat
from pipelines.shards import Location, nowhere
from pipelines.store import remove_tree
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.source import Source
from schemas.store import Place, is_url
from schemas.tables import TABLE_ERRORS, iter_table, read_columns, read_table, write_table

BATCH_ENTRIES = 64
_BLOCK_BATCHES = 64
_uri = attrgetter("uri")
_ENTRY_FIELDS = [field.name for field in fields(Entry)]


def write_batches(job: Job, entries: Sequence[Entry]) -> int:
    """Write down the inputs in batches, each of which is one unit of work.

    They lie in files, many batches in each, so that what is sent to an engine does not grow with
    their number: an engine may refuse a large job.

    Returns:
        The number of batches.
    """
    earlier = map(_uri, read_entries(job.layout, job.generation))
    if any(one != other for one, other in itertools.zip_longest(earlier, map(_uri, entries))):
        forget_probed(job.layout, job.generation)  # other batches than these
    starts = range(0, len(entries), BATCH_ENTRIES)
    for block, first in enumerate(range(0, len(starts), _BLOCK_BATCHES)):
        batches = [
            list(map(_row_of, entries[start : start + BATCH_ENTRIES]))
            for start in starts[first : first + _BLOCK_BATCHES]
        ]
        # JSON, since it keeps names that are no Unicode.
        data = json.dumps(batches).encode()
        publish_bytes(data, job.layout.entries(job.generation, block), job.layout)
    return len(starts)


def forget_probed(layout: Layout, generation: int) -> None:
    """Remove what was probed for a generation."""
    for file in (layout.probed(generation, 0), layout.entries(generation, 0)):
        remove_tree(file.parent)


def _read_batch(job: Job, number: int) -> list[Entry]:
    block, index = divmod(number, _BLOCK_BATCHES)
    return _read_block(job.layout, job.generation, block)[index]


def _read_block(layout: Layout, generation: int, block: int) -> list[list[Entry]]:
    batches = json.loads(layout.entries(generation, block).read_bytes())
    return [[_entry(row) for row in batch] for batch in batches]


def _row_of(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _ENTRY_FIELDS}


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{**row, "paths": tuple(row["paths"]), "sizes": tuple(row["sizes"])})


def read_entries(layout: Layout, generation: int) -> Iterator[Entry]:
    """The inputs that were probed for a generation, as far as the logs are there, and whole."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        for block in itertools.count():
            for batch in _read_block(layout, generation, block):
                yield from batch


def file_sizes(entry: Entry) -> list[int]:
    """Bytes of each file of an entry; 0 of what is gone, none of what must not be opened."""
    if entry.sizes:
        return list(entry.sizes)
    return [] if entry.refused else list(map(_size_of, entry.paths))


def _size_of(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError:  # probing is going to tell
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def probe_batch(job: Job, number: int, pool: WorkerPool) -> int:
    """Probe a batch of inputs in worker processes and store the outcome, unless that is done.

    Returns:
        The number of sources found.
    """
    entries = _read_batch(job, number)
    target = job.layout.probed(job.generation, number)
    heartbeat = Heartbeat(job.layout, f"probe-{number:06d}")
    if (done := _probed_before(target)) is not None:
        heartbeat.add(len(entries))
        return done
    found: list[Probed] = []
    one_by_one: list[Entry] = []
    probe_entry = partial(_probe_entry, recipe=job.recipe, seed=job.seed)
    for entry, outcome in pool.map_ordered(probe_entry, entries):
        if entry.is_folder and (isinstance(outcome, WorkerDied) or outcome.value is None):
            one_by_one += files_of(entry)  # a folder that is no clip, or holds a deadly file
        else:
            found.append(_row(entry, outcome))
        heartbeat.add(1)
    found += [_row(entry, outcome) for entry, outcome in pool.map_ordered(probe_entry, one_by_one)]
    with staged(job.layout) as folder:
        write_table(str(folder / "probed"), Probed, found)
        publish(folder / "probed", target)
    return len(found)


def _probed_before(target: Place) -> int | None:
    """The number of sources of a batch that is stored; None if it is not, or is damaged."""
    if not target.is_file():
        return None
    try:
        return len(read_table(str(target), Probed))
    except TABLE_ERRORS:
        return None


def _probe_entry(entry: Entry, *, recipe: Recipe, seed: int) -> Probed | None:
    return probe(entry, recipe, seed)


def _row(entry: Entry, outcome: Done[Probed | None] | WorkerDied) -> Probed:
    if isinstance(outcome, WorkerDied):
        return not_probed(entry, outcome.reason, outcome.detail)
    assert outcome.value is not None  # only folders may be no entry of their own
    return outcome.value


def write_locations(job: Job, entries: Sequence[Entry]) -> None:
    """Write where the sources lie now, which may be elsewhere than when they were probed.

    Sources of other generations than the inputs' lie where they lay, unless they are gone.
    """
    with staged(job.layout) as folder:
        write_table(str(folder / "locations"), Location, _locations(job, entries))
        publish(folder / "locations", job.layout.locations)


def _locations(job: Job, entries: Sequence[Entry]) -> Iterator[Location]:
    layout, given = job.layout, _paths(entries)
    earlier = _earlier_paths(layout)
    when_probed = functools.cache(lambda number: _paths(read_entries(layout, number)))
    for source in iter_table(str(layout.sources), Source):
        if source.status is not Status.OK:
            continue
        uri = source.uris[0]
        paths = given.get(uri)
        if source.generation != job.generation:
            lay = earlier.get(source.source_id) or when_probed(source.generation).get(uri, ())
            paths = lay if paths is None or (lay and all(map(_may_be_there, lay))) else paths
        yield Location(source_id=source.source_id, paths=list(paths or nowhere(layout, source)))


def _may_be_there(path: str) -> bool:
    return is_url(path) or os.path.isfile(path)  # asking a store for each takes too long


def _paths(entries: Iterable[Entry]) -> dict[str, Sequence[str]]:
    """Where the source of each uri lies; of a folder, its files by themselves, too."""
    paths = dict[str, Sequence[str]]()
    for entry in entries:
        for one in (*(files_of(entry) if entry.is_folder else ()), entry):
            paths[one.uri] = one.paths
    return paths


def _earlier_paths(layout: Layout) -> dict[str, Sequence[str]]:
    try:
        rows = read_columns(str(layout.locations), Location)
    except TABLE_ERRORS:  # none yet, or damaged: it is only a log
        return {}
    columns = (rows.column(name).to_pylist() for name in ("source_id", "paths"))
    return dict(zip(*columns, strict=True))


def plan_sources(
    job: Job,
    num_batches: int,
    rules: Sequence[SourceRule],
    policy: LicencePolicy,
    before: Committed,
) -> Plan:
    """Plan the next generation from what probing stored.

    Raises:
        UserError: if no dataset can be made of it, or there is nothing to add.
    """
    files = (job.layout.probed(job.generation, number) for number in range(num_batches))
    probed = (read_columns(str(file), Probed) for file in files)
    return make_plan(probed, rules, job.recipe, job.seed, policy, before)
