"""What a recipe does to one image or clip: a picture of every stage, and a film.

    python -m pipelines.preview --recipe streaming holiday.jpg --output preview.png
    python -m pipelines.preview --recipe streaming film.mp4 --compare vcisr cavsr

The draws are those of synthesis: the same seed, input and recipe degrade the same patch or clip
in the same way.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import EXIT_OK, run_command
from pipelines.drawing import Pen
from pipelines.errors import UserError
from pipelines.job import check_recipe
from pipelines.preview.comparison import draw_comparison
from pipelines.preview.film import Panel, timing, write_film
from pipelines.preview.outcome import Outcome, outcome_of
from pipelines.preview.sheet import draw_sheet
from pipelines.preview.subject import Subject, describe, find_subject
from schemas.recipe_files import load_recipe, shipped_recipes
from schemas.sample import SampleKind

_PROGRAM = "python -m pipelines.preview"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run_command("preview", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    try:
        preview(options)
    except OSError as error:
        raise UserError(str(error)) from error
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Show what a recipe does to an image or a clip: a picture with a row for each "
        "stage that was drawn, and a film of HR beside each stream, upscaled.",
        epilog=f"Shipped recipes: {', '.join(shipped_recipes())}.",
    )
    parser.add_argument(
        "input", metavar="INPUT", help="an image, a video, or a folder of numbered frames"
    )
    parser.add_argument(
        "--recipe", required=True, help="a shipped recipe's name, or a TOML or YAML file"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("preview.png"),
        metavar="PNG",
        help="the picture to write; the film's name is the same, with .mp4. Default: preview.png",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        default=[],
        metavar="RECIPE",
        help="show the last stream of these recipes side by side instead, made from the patch and "
        "frames of --recipe; put INPUT before it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws; default 0")
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="K",
        help="which of the input's clips or packs, counted from 0; default 0",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=0,
        metavar="N",
        help="take only the first N frames; default: as many as synthesis would",
    )
    parser.add_argument("--no-video", action="store_true", help="write the picture only")
    return parser


def preview(options: argparse.Namespace) -> None:
    """Write the picture and the film that the options ask for.

    Raises:
        UserError: if the user's mistake shows.
        RecipeError: if there is no such recipe.
        OSError: if a file cannot be written.
    """
    _check(options)
    recipes = [load_recipe(name) for name in dict.fromkeys([options.recipe, *options.compare])]
    for recipe in recipes:
        check_recipe(recipe)
    _say(f"reading {options.input}")
    subject = find_subject(options.input, recipes[0], options.seed, options.sample, options.frames)
    outcomes = []
    for recipe in recipes:
        _say(f"degrading as {recipe.name} does")
        only = [len(recipe.streams) - 1] if options.compare else None
        outcomes.append(outcome_of(recipe, subject, options.seed, only))
    about = describe(subject, options.seed)
    if options.compare:
        _save(draw_comparison(outcomes, subject, about), options.output)
    else:
        _save(draw_sheet(outcomes[0], subject, about), options.output)
    if not options.no_video:
        _write_film(_film_path(options), outcomes, subject)


def _film_path(options: argparse.Namespace) -> Path:
    path: Path = options.output.with_suffix(".mp4")
    return path


def _save(pen: Pen, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pen.image.save(path, "PNG")
    sys.stdout.write(f"{path}: {pen.image.width} x {pen.image.height} pixels\n")


def _check(options: argparse.Namespace) -> None:
    if options.output.suffix.lower() != ".png":
        raise UserError(f"--output is {options.output}: name it .png, as it is written")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}, and must be 0 or more")
    written = [options.output, *([] if options.no_video else [_film_path(options)])]
    source = Path(options.input).resolve()
    for path in written:
        if path.resolve() == source or source in path.resolve().parents:
            raise UserError(f"{path} would be written into the input: choose another --output")
    if options.frames < 0:
        raise UserError(f"--frames is {options.frames}: ask for one frame or more")


def _write_film(path: Path, outcomes: Sequence[Outcome], subject: Subject) -> None:
    is_alone = len(outcomes) == 1
    panels = [Panel("HR", outcomes[0].frames.hr if is_alone else subject.plain)]
    for outcome in outcomes:
        for stream in outcome.streams:
            label = stream.name if is_alone else f"{outcome.recipe.name}: {stream.name}"
            panels.append(Panel(label, stream.upscaled))
    is_pack = subject.planned.kind is SampleKind.PSEUDO_VIDEO
    when = timing(len(subject.plain), subject.fps, is_pack)
    write_film(path, panels, when)
    count = len(subject.plain) * when.hold * when.loops
    again = f"; the clip is shown {when.loops} times" if when.loops > 1 else ""
    sys.stdout.write(f"{path}: {count} frames, {when.fps} a second{again}\n")


def _say(message: str) -> None:
    sys.stderr.write(f"pipelines.preview: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
