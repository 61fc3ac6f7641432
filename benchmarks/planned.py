"""A dataset of which only the plan is there, for measurements of what comes after it."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from pipelines.corpus import discover
from pipelines.job import Job, describe_environment
from pipelines.probing import write_locations
from pipelines.synthesize.__main__ import main as synthesize
from schemas.recipe import Recipe


def plan_dataset(folder: Path, inputs: Sequence[str], recipe: Recipe) -> Job:
    """Plan, as the command does up to its first shard; returns the job that makes the rest.

    Args:
        folder: where the dataset's folder and a recipe are written.
        inputs: folders and files.
        recipe: the recipe.

    Raises:
        SystemExit: with what the command said, if it refuses.
    """
    file, output = folder / "recipe.yaml", folder / "planned"
    file.write_text(recipe.model_dump_json(exclude_none=True))  # JSON is YAML
    arguments = [part for path in inputs for part in ("--input", path)]
    arguments += [f"--output={output}", f"--recipe={file}", "--plan-only"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = synthesize(arguments)
    if status:
        raise SystemExit(said.getvalue())
    job = Job(
        output=str(output),
        recipe=recipe,
        seed=0,
        num_workers=1,
        environment=describe_environment(recipe),
    )
    write_locations(job, discover(inputs))
    return job
