"""Synthesise a dataset: `python -m pipelines.synthesize --input photos/ --output dataset/`.

First everything is probed and a plan is committed; then every shard of the plan is made. Both
can be interrupted: the same command goes on where it stopped.
"""

import logging
import sys
import time
from collections.abc import Sequence

from pipelines.command import EXIT_OK, RETRY, run_command, writing_to
from pipelines.corpus import Entry, SourceRule, discover, read_source_list
from pipelines.demo import demo_inputs, demo_rules
from pipelines.environment import log_environment
from pipelines.errors import UserError
from pipelines.generations import commit_plan, not_committed, not_probed_before, read_plan
from pipelines.job import Job, check_recipe, describe_environment
from pipelines.options import Options, check_apart, parse_options
from pipelines.plan import Committed
from pipelines.pool import Done, shared_pool
from pipelines.probing import plan_sources, write_locations
from pipelines.report import describe_plan, describe_result
from pipelines.run_identity import claim_output
from pipelines.run_lock import only_run
from pipelines.shards import num_retryable, reopen_retryable
from pipelines.steps import make_shards, probe_sources
from schemas.manifest import read_manifest
from schemas.recipe_files import load_recipe
from schemas.store import absolute
from schemas.wording import counted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING)
    return run_command("synthesize", lambda: _run(arguments), goes_on=True)


def _run(arguments: Sequence[str] | None) -> int:
    options = parse_options(arguments)
    with writing_to(options.output):
        synthesize(options)
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
    entries = discover(options.inputs or demo_inputs(), follow_links=options.follow_links)
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
    with only_run(job.layout):
        generation = claim_output(job, entries, rules, options.licences, adds=options.add_sources)
        job = job.model_copy(update={"generation": generation})
        log_environment(job)
        plan = _plan(job, entries, rules, options)
        sys.stdout.write(describe_plan(job, plan, options.licences))
        if not options.plan_only:
            write_locations(job, entries)
            _make(job, plan, options)


def _plan(job: Job, entries: list[Entry], rules: list[SourceRule], options: Options) -> Committed:
    """The plan with the inputs' generation, which is committed, but for an addition that is only
    asked about."""
    before = read_plan(job.layout)
    if job.generation < before.num_generations:
        return before
    num_batches = probe_sources(job, not_probed_before(job, entries, before), options.beam)
    plan = plan_sources(job, num_batches, rules, options.licences, before)
    if options.plan_only and options.add_sources:
        return not_committed(plan)
    commit_plan(job.layout, plan)
    return read_plan(job.layout)


def _make(job: Job, plan: Committed, options: Options) -> None:
    started = time.monotonic()
    if options.retries:
        num_reopened = reopen_retryable(job.layout, plan.shards)
        what = counted(num_reopened, "shard") if num_reopened else "nothing to make again"
        sys.stdout.write(f"Retry: {what}\n")
    make_shards(job, len(plan.shards), plan.num_samples, options.beam)
    sys.stdout.write(describe_result(job, time.monotonic() - started))
    manifest = read_manifest(job.layout.root)
    if empty := [split for split, num_samples in manifest.splits.items() if not num_samples]:
        is_curable = num_retryable(job.layout, manifest.shards) > 0
        cure = f". Once what failed is well again, the same command with {RETRY} makes it"
        raise UserError(
            f"no sample of the {' and '.join(empty)} split could be made; the reasons are in "
            f"{job.layout.table('samples', 'any').parent}{cure if is_curable else ''}"
        )


if __name__ == "__main__":
    sys.exit(main())
