"""From a published dataset and its sources to the dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.audit.environment import differences
from pipelines.audit.files import check_outside, copy_file
from pipelines.audit.report import check_json
from pipelines.audit.sources import FoundSources, find_sources
from pipelines.corpus import discover
from pipelines.environment import log_environment
from pipelines.errors import UserError
from pipelines.job import Job, check_recipe, describe_environment
from pipelines.layout import Layout, publish, publish_bytes, staged
from pipelines.materialize.proof import MaterializeReport, prove
from pipelines.materialize.publication import read_publication
from pipelines.options import check_apart
from pipelines.pool import Done, WorkerPool, shared_pool
from pipelines.run_identity import claim_for_manifest
from pipelines.run_lock import only_run
from pipelines.shards import Location, describe_file, nowhere, reopen_retryable
from pipelines.steps import make_shards
from pipelines.store import remove
from schemas.source import Source
from schemas.store import Place
from schemas.tables import write_table
from schemas.wording import counted

_MOST_SHOWN = 10


class Options(NamedTuple):
    """What the user asked for."""

    published: Place
    inputs: list[str]
    output: Place
    """absolute"""
    allow_missing: bool
    other_libraries: bool
    retries: bool
    """make shards again that lack samples which may be made now"""
    json: Path | None
    """where the report goes, too"""
    num_workers: int
    beam: PipelineOptions


def materialize(options: Options) -> MaterializeReport:
    """Make a published dataset again and compare it with what was published.

    Raises:
        UserError: if the user's mistake shows, what was published is not sound, or sources or
            libraries are missing; nothing was made then.
    """
    published = open_dataset(options.published)
    check_outside(options.output, options.published)
    check_apart(str(options.output), options.inputs)
    check_json(options.json)
    pool = shared_pool(options.num_workers)
    plan, sources = read_publication(published, pool)
    check_recipe(published.recipe)
    entries = discover(options.inputs)
    job = _job(published, options, pool)
    with only_run(job.layout):
        claim_for_manifest(job, describe_file(published.layout.manifest, "", 0).sha256)
        found = find_sources(sources, entries, pool)
        _check_found(found, len(sources), job.layout, options)
        copy_file(published.layout.sources, job.layout.sources, job.layout)
        copy_file(published.layout.plan, job.layout.plan, job.layout)
        _write_locations(job.layout, sources, found)
        log_environment(job)
        if options.retries:
            reopen_retryable(job.layout, sorted({row.shard for row in plan}))
        make_shards(job, len({row.shard for row in plan}), len(plan), options.beam)
        return prove(published, job, found, pool)


def _job(published: Dataset, options: Options, pool: WorkerPool) -> Job:
    """The run that makes the dataset, with the libraries that are here.

    Raises:
        UserError: if they are others than the dataset was made with, unless that is allowed.
    """
    outcome = pool.run(describe_environment, published.recipe)
    if not isinstance(outcome, Done):
        raise UserError(f"the encoders do not run here: {outcome}")
    there = differences(published.manifest.environment, outcome.value)
    if there and not options.other_libraries:
        cures = dict.fromkeys(difference.cure for difference in there)
        raise UserError(
            f"{options.published} was made with other libraries, which would make other bytes:\n"
            + "".join(f"  {difference}\n" for difference in there)
            + "Install what it was made with:\n"
            + "".join(f"  {cure}\n" for cure in cures)
            + "or try nevertheless, with --other-libraries"
        )
    job = published.job(options.output, options.num_workers)
    return job.model_copy(update={"environment": outcome.value}) if there else job


def _check_found(found: FoundSources, total: int, layout: Layout, options: Options) -> None:
    """Tell of sources that are missing or changed before any work is done."""
    file = layout.logs / "absent_sources.txt"
    lines = sorted(found.absent.values())
    remove(file)
    if lines:
        publish_bytes("".join(line + "\n" for line in lines).encode(), file, layout)
    if lines and not options.allow_missing:
        others = len(lines) - _MOST_SHOWN
        raise UserError(
            f"{len(lines)} of {counted(total, 'source')} are not at hand:\n"
            + "".join(f"  {line}\n" for line in lines[:_MOST_SHOWN])
            + (f"  and {others} more\n" if others > 0 else "")
            + f"All are listed in {file}. Name their folders with --input, or make what can be "
            "made with --allow-missing"
        )


def _write_locations(layout: Layout, sources: Sequence[Source], found: FoundSources) -> None:
    locations = []
    for source in sources:
        paths = found.paths.get(source.source_id) or nowhere(layout, source)
        locations.append(Location(source_id=source.source_id, paths=paths))
    with staged(layout) as folder:
        write_table(str(folder / "locations"), Location, locations)
        publish(folder / "locations", layout.locations)
