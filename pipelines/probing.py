"""Probing in batches, and committing the plan that follows from it."""

import json
from collections.abc import Sequence
from functools import partial

from pipelines.corpus import Entry, SourceRule
from pipelines.job import Job
from pipelines.layout import publish, publish_bytes, staged
from pipelines.licences import LicencePolicy
from pipelines.plan import make_plan
from pipelines.pool import Done, WorkerDied, WorkerPool
from pipelines.probe import Probed, files_of, not_probed, probe
from pipelines.progress import Heartbeat
from pipelines.shards import Location
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.source import Source
from schemas.store import Place
from schemas.tables import TABLE_ERRORS, TableWriter, read_table, write_table

BATCH_ENTRIES = 64
_BLOCK_BATCHES = 64


def write_batches(job: Job, entries: Sequence[Entry]) -> int:
    """Write down the inputs in batches, each of which is one unit of work.

    They lie in files, many batches in each, so that what is sent to an engine does not grow with
    their number: an engine may refuse a large job.

    Returns:
        The number of batches.
    """
    starts = range(0, len(entries), BATCH_ENTRIES)
    batches = [list(map(vars, entries[start : start + BATCH_ENTRIES])) for start in starts]
    for block, first in enumerate(range(0, len(batches), _BLOCK_BATCHES)):
        # JSON, since it keeps names that are no Unicode.
        data = json.dumps(batches[first : first + _BLOCK_BATCHES]).encode()
        publish_bytes(data, job.layout.entries(block), job.layout)
    return len(batches)


def _read_batch(job: Job, number: int) -> list[Entry]:
    block, index = divmod(number, _BLOCK_BATCHES)
    rows = json.loads(job.layout.entries(block).read_bytes())[index]
    return [
        Entry(**{**row, "paths": tuple(row["paths"]), "sizes": tuple(row["sizes"])}) for row in rows
    ]


def probe_batch(job: Job, number: int, pool: WorkerPool) -> int:
    """Probe a batch of inputs in worker processes and store the outcome, unless that is done.

    Returns:
        The number of sources found.
    """
    entries = _read_batch(job, number)
    target = job.layout.probed(number)
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
    """Write where the sources lie now, which may be elsewhere than when they were probed."""
    files = [file for entry in entries if entry.is_folder for file in files_of(entry)]
    paths = {entry.uri: list(entry.paths) for entry in [*files, *entries]}
    locations = [
        Location(source_id=source.source_id, paths=paths[uri])
        for source in read_table(str(job.layout.sources), Source)
        if source.status is Status.OK
        for uri in source.uris[:1]
    ]
    with staged(job.layout) as folder:
        write_table(str(folder / "locations"), Location, locations)
        publish(folder / "locations", job.layout.locations)


def commit_plan(
    job: Job, num_batches: int, rules: Sequence[SourceRule], policy: LicencePolicy
) -> list[PlannedSample]:
    """Plan from what probing stored, and write the plan.

    Raises:
        UserError: if no dataset can be made of it.
    """
    found = [
        item
        for number in range(num_batches)
        for item in read_table(str(job.layout.probed(number)), Probed)
    ]
    plan = make_plan(found, rules, job.recipe, job.seed, policy)
    layout = job.layout
    with staged(layout) as folder:
        write_table(str(folder / "sources"), Source, plan.sources)
        publish(folder / "sources", layout.sources)
        writer = TableWriter(str(folder / "plan"), PlannedSample)
        for rows in plan.shards:
            writer.write_group(rows)
        writer.close()
        publish(folder / "plan", layout.plan)
    return plan.samples
