"""Probing one file with a recipe for small patches."""

from pathlib import Path
from typing import Any

from pipelines.corpus import Entry
from pipelines.probe import Probed, files_of, probe
from schemas.recipe import Recipe

PATCH = 32


def recipe(**parts: dict[str, Any]) -> Recipe:
    """A recipe with 32x32 patches, changed as given."""
    hr = {"patch_height": PATCH, "patch_width": PATCH, **parts.pop("hr", {})}
    downscale = {"op": "downscale"}
    fields = {"name": "test", "shared": [downscale], "streams": [{"name": "clean"}]}
    return Recipe.model_validate(fields | {"hr": hr} | parts)


def probe_one(path: Path, **parts: dict[str, Any]) -> Probed:
    """What probing finds out about a file."""
    entry = Entry(uri=path.name, paths=(str(path),), is_folder=False)
    probed = probe(entry, recipe(**parts), seed=0)
    assert probed is not None
    return probed


def probe_all(entry: Entry, **parts: dict[str, Any]) -> list[Probed]:
    """What probing finds out about an entry, file by file where it is a folder but no clip."""
    probed = probe(entry, recipe(**parts), seed=0)
    if probed is not None:
        return [probed]
    return [item for file in files_of(entry) for item in probe_all(file, **parts)]
