"""Synthesise a dataset: `python -m pipelines.synthesize --input photos/ --output dataset/`.

First everything is probed and a plan is committed; then every shard of the plan is made. Both
can be interrupted: the same command goes on where it stopped.
"""

import logging
import sys
import time
from collections.abc import Sequence

import apache_beam as beam

from pipelines.command import EXIT_OK, run_command
from pipelines.corpus import Entry, SourceRule, discover, read_source_list
from pipelines.demo import demo_inputs, demo_rules
from pipelines.environment import log_environment
from pipelines.errors import UserError
from pipelines.job import Job, check_recipe, describe_environment
from pipelines.options import Options, check_apart, parse_options
from pipelines.pool import Done, shared_pool
from pipelines.probing import batches, commit_plan, write_locations
from pipelines.progress import ProgressBar
from pipelines.report import describe_plan, describe_result
from pipelines.run_identity import claim_output
from pipelines.steps import ProbeSources, make_shards
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.recipe_files import load_recipe
from schemas.store import StorePath, absolute, place
from schemas.tables import read_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING)
    return run_command("synthesize", lambda: _run(arguments), goes_on=True)


def _run(arguments: Sequence[str] | None) -> int:
    synthesize(parse_options(arguments))
    return EXIT_OK


def synthesize(options: Options) -> None:
    """Plan, then make.

    Raises:
        UserError: if the user's mistake shows; nothing was made then.
        RecipeError: if there is no such recipe.
    """
    recipe = load_recipe(options.recipe)
    check_recipe(recipe)
    output = absolute(options.output)
    check_apart(output, options.inputs)
    if isinstance(root := place(output), StorePath):
        root.check()
    entries = discover(options.inputs or demo_inputs())
    rules = read_source_list(options.sources) if options.sources else []
    rules += [] if options.inputs else demo_rules()
    environment = shared_pool(options.num_workers).run(describe_environment, recipe)
    if not isinstance(environment, Done):
        raise UserError(f"the encoders do not run here: {environment}")
    job = Job(
        output=output,
        recipe=recipe,
        seed=options.seed,
        num_workers=options.num_workers,
        environment=environment.value,
    )
    claim_output(job, entries, rules, options.licences)
    log_environment(job)
    plan = _plan(job, entries, rules, options)
    write_locations(job, entries)
    sys.stdout.write(describe_plan(job, plan))
    if not options.plan_only:
        _make(job, plan, options)


def _plan(
    job: Job, entries: list[Entry], rules: list[SourceRule], options: Options
) -> list[PlannedSample]:
    if job.layout.plan.is_file():
        return read_table(str(job.layout.plan), PlannedSample)
    work = batches(entries)
    progress = ProgressBar(job.layout, "probing", len(entries), "source")
    with progress, beam.Pipeline(options=options.beam) as root:
        _ = root | "ProbeSources" >> ProbeSources(job, work)
    return commit_plan(job, len(work), rules, options.licences)


def _make(job: Job, plan: list[PlannedSample], options: Options) -> None:
    started = time.monotonic()
    make_shards(job, plan, options.beam)
    sys.stdout.write(describe_result(job, time.monotonic() - started))
    splits = read_manifest(job.layout.root).splits
    if empty := [split for split, num_samples in splits.items() if not num_samples]:
        raise UserError(
            f"no sample of the {' and '.join(empty)} split could be made; the reasons are in "
            f"{job.layout.root / 'index' / 'samples'}. Once the sources are back, the same command "
            "makes them"
        )


if __name__ == "__main__":
    sys.exit(main())
