"""Stand-ins for native code that takes its process with it. Importable, for worker processes."""

import os

from pipelines.corpus import Entry
from pipelines.make import MakeTask, make
from pipelines.probe import Probed, probe
from schemas.recipe import Recipe
from schemas.record import Outcome
from transforms.degrade import MadeSample


def make_unless_deadly(task: MakeTask) -> list[MadeSample | Outcome]:
    """Aborts on the first patch of any clip that starts at frame 0 of a source called deadly."""
    for row in task.rows:
        uris = task.sources[row.spans[0].source_id].uris
        if "deadly" in uris[0] and row.spans[0].start == 0 and row.patch == 0:
            os.abort()
    return make(task)


def probe_unless_deadly(entry: Entry, *, recipe: Recipe, seed: int) -> Probed | None:
    """Aborts on videos called deadly; of numbered ones on 002 only."""
    if entry.uri.endswith(("deadly.mp4", "deadly/002.mp4")) or entry.uri == "deadly":
        os.abort()
    return probe(entry, recipe, seed)
