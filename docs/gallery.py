"""Writes the pictures under docs/gallery from the demo media: `python -m docs.gallery`.

They show what recipes did when the pictures were made; no test holds them to it, since a chance
draw is no specification.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from pipelines.demo import demo_inputs
from pipelines.drawing import Pen
from pipelines.preview.comparison import draw_comparison
from pipelines.preview.outcome import outcome_of
from pipelines.preview.sheet import draw_sheet
from pipelines.preview.subject import Subject, describe, find_subject
from schemas.recipe_files import load_recipe, shipped_recipes

FOLDER = Path(__file__).with_name("gallery")

_QUALITY = 85
_CREDITS = {
    "astronaut.png": "NASA, public domain",
    "bigbuckbunny.mp4": "(c) 2008 Blender Foundation, www.bigbuckbunny.org, CC-BY-3.0",
}


class _Look(NamedTuple):
    """What a picture shows of the demo media; seeds are chosen for chains that show much."""

    recipe: str
    """whose patch and frames they are"""
    name: str
    """of the demo input"""
    sample: int
    seed: int
    frames: int


_BUNNY = _Look("vcisr", "bigbuckbunny.mp4", 3, 10, 32)
_OVERVIEWS = {
    "photo": _Look("streaming", "astronaut.png", 0, 5, 16),
    "video": _BUNNY,
}
_SHEETS = {
    "streaming": _Look("streaming", "astronaut.png", 0, 12, 32),
    "vcisr": _BUNNY,
}


def main() -> int:
    """Write all pictures; returns the exit status."""
    FOLDER.mkdir(exist_ok=True)
    for name, look in _OVERVIEWS.items():
        _save(_comparison(look), f"overview-{name}")
    for name, look in _SHEETS.items():
        _save(_sheet(look), f"stages-{name}")
    return 0


def _comparison(look: _Look) -> Pen:
    shown = [name for name in shipped_recipes() if not name.endswith("-strict")]
    shown.sort(key=lambda name: name != look.recipe)
    recipes = [load_recipe(name) for name in shown]
    subject = _subject(look)
    outcomes = [outcome_of(r, subject, look.seed, [len(r.streams) - 1]) for r in recipes]
    return draw_comparison(outcomes, subject, _about(subject, look))


def _sheet(look: _Look) -> Pen:
    subject = _subject(look)
    outcome = outcome_of(subject.recipe, subject, look.seed)
    return draw_sheet(outcome, subject, _about(subject, look))


def _subject(look: _Look) -> Subject:
    path = next(path for path in demo_inputs() if Path(path).name == look.name)
    return find_subject(path, load_recipe(look.recipe), look.seed, look.sample, look.frames)


def _about(subject: Subject, look: _Look) -> str:
    return f"{describe(subject, look.seed)}; {_CREDITS[look.name]}"


def _save(pen: Pen, name: str) -> None:
    path = FOLDER / f"{name}.webp"
    pen.image.save(path, "WEBP", quality=_QUALITY, method=6)
    sys.stdout.write(f"{path}: {pen.image.width} x {pen.image.height} pixels\n")


if __name__ == "__main__":
    sys.exit(main())
