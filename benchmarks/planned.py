"""Plans, for measurements of what comes after them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.running import run_quietly
from pipelines.corpus import discover
from pipelines.job import Job, describe_environment
from pipelines.plan import make_plan
from pipelines.probe import Probed, files_of, probe
from pipelines.probing import write_locations
from pipelines.synthesize.__main__ import main as synthesize
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.source import Source
from schemas.tables import table_of


def plan_dataset(folder: Path, inputs: Sequence[str], recipe: Recipe) -> Job:
    """A dataset of which only the plan is there, as the command makes it up to its first shard.

    Args:
        folder: where the dataset's folder and a recipe are written.
        inputs: folders and files.
        recipe: the recipe.

    Returns:
        The job that makes the rest.

    Raises:
        SystemExit: with what the command said, if it refuses.
    """
    file, output = folder / "recipe.yaml", folder / "planned"
    file.write_text(recipe.model_dump_json(exclude_none=True))  # JSON is YAML
    arguments = [part for path in inputs for part in ("--input", path)]
    arguments += [f"--output={output}", f"--recipe={file}", "--plan-only"]
    run_quietly(synthesize, arguments)
    job = Job(
        output=str(output),
        recipe=recipe,
        seed=0,
        num_workers=1,
        environment=describe_environment(recipe),
    )
    write_locations(job, discover(inputs))
    return job


class Inputs(NamedTuple):
    """What a recipe makes of inputs, before anything is made."""

    samples: list[PlannedSample]
    sources: dict[str, Source]
    """by id"""
    paths: dict[str, list[str]]
    """where each source lies"""


def plan_inputs(inputs: Sequence[str], recipe: Recipe, seed: int) -> Inputs:
    """Plan in memory, in this process."""
    found: list[tuple[Probed, Sequence[str]]] = []
    for entry in discover(inputs):
        probed = probe(entry, recipe, seed)
        if probed is not None:
            found.append((probed, entry.paths))
            continue
        for file in files_of(entry):
            alone = probe(file, recipe, seed)
            assert alone is not None  # only folders may be no source of their own
            found.append((alone, file.paths))
    plan = make_plan([table_of(Probed, [probed for probed, _ in found])], [], recipe, seed)
    return Inputs(
        samples=[row for shard in plan.shards() for row in shard],
        sources={probed.source.source_id: probed.source for probed, _ in found},
        paths={probed.source.source_id: list(where) for probed, where in found},
    )
