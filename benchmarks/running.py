"""What several measurements do before they measure: plan, and run the project's commands."""

import contextlib
import io
from collections.abc import Callable, Sequence

from pipelines.corpus import discover
from pipelines.plan import Plan, make_plan
from pipelines.probe import Probed, files_of, probe
from schemas.recipe import Recipe


def run_quietly(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> None:
    """Run one of the project's commands in this process; what it says is told if it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = command(arguments)
    if status:
        raise SystemExit(said.getvalue())


def plan_inputs(
    inputs: Sequence[str], recipe: Recipe, seed: int
) -> tuple[Plan, dict[str, list[str]]]:
    """The plan of a recipe, and where the sources lie."""
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
    paths = {probed.source.source_id: list(where) for probed, where in found}
    return make_plan([probed for probed, _ in found], [], recipe, seed), paths
