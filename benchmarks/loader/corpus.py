"""What is read: clips of one size and length, datasets made from them, exports of these."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.planned import plan_inputs
from benchmarks.running import run_quietly
from pipelines.export.__main__ import main as export
from pipelines.export.tree import EXPORT_NAME
from pipelines.make import MakeTask, read_pictures, sizes_of
from pipelines.synthesize.__main__ import main as synthesize
from schemas.manifest import read_manifest
from schemas.recipe import Recipe
from schemas.sample import SampleKind
from transforms.cut import cut_frames
from transforms.draw import draw_scene

_SEED = 0
_NO_SCENE_CUT = 100  # the clips were cut at them before
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class Size(NamedTuple):
    """Of a picture, pixels."""

    height: int
    width: int


WHOLE = Size(0, 0)
"""The patch size that stands for whole frames."""


class Clips(NamedTuple):
    """Sources that were made."""

    number: int
    enlarged: int
    """how many were smaller than asked"""


def write_clips(
    folder: Path, inputs: Sequence[str], recipe: Recipe, num_clips: int, num_frames: int, size: Size
) -> Clips:
    """Write clips of the videos among the inputs, a folder of PNG frames each.

    Args:
        folder: where to.
        inputs: videos, folders of frames, or folders of these.
        recipe: decides with which scale frames must go.
        num_clips: at most, spread evenly over all that there are.
        num_frames: of each.
        size: of the frames; others are enlarged or reduced to cover it, and cut in the middle.
    """
    found = _changed(recipe, WHOLE, num_frames)
    samples, sources, paths = plan_inputs(inputs, found, _SEED)
    clips = [row for row in samples if row.kind is SampleKind.CLIP]
    rows = [row for row in clips if row.spans[0].count >= num_frames]
    if not rows:
        raise SystemExit(f"no video among the inputs has {num_frames} frames without a cut")
    chosen = [
        rows[index] for index in np.linspace(0, len(rows) - 1, min(num_clips, len(rows)), dtype=int)
    ]
    enlarged = 0
    for number, row in enumerate(chosen):
        task = MakeTask(recipe=found, seed=_SEED, rows=[row], sources=sources, paths=paths)
        pictures = read_pictures(task)
        scene = draw_scene(found, _SEED, row, sizes_of(pictures))
        frames = cut_frames(scene, pictures)[:num_frames]
        enlarged += frames.shape[1] < size.height or frames.shape[2] < size.width
        _write_frames(folder / f"clip-{number:03d}", [_fitted(frame, size) for frame in frames])
    return Clips(len(chosen), enlarged)


def _changed(recipe: Recipe, patch: Size, num_frames: int) -> Recipe:
    """The recipe with samples of a size, from every clip of so many frames."""
    hr = {"patch_height": patch.height, "patch_width": patch.width, "min_std": 0.0}
    clips = {"frames": num_frames, "patches": 2}
    return recipe.model_copy(
        update={
            "validation_fraction": 0.0,
            "hr": recipe.hr.model_copy(update=hr),
            "clips": recipe.clips.model_copy(update=clips),
        }
    )


def _fitted(frame: np.ndarray, size: Size) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = max(size.height / height, size.width / width)
    covering = (max(size.width, round(factor * width)), max(size.height, round(factor * height)))
    if covering != (width, height):
        how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
        frame = cv2.resize(frame, covering, interpolation=how)
    top, left = (covering[1] - size.height) // 2, (covering[0] - size.width) // 2
    return frame[top : top + size.height, left : left + size.width]


def _write_frames(folder: Path, frames: Sequence[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        path = str(folder / f"{number:08d}.png")
        if not cv2.imwrite(path, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _PNG_OPTIONS):
            raise SystemExit(f"{path} cannot be written")


def first_frames(clips: Path, folder: Path, num_frames: int) -> None:
    """The first frames of each clip, as clips of their own."""
    for clip in sorted(clips.iterdir()):
        (folder / clip.name).mkdir(parents=True)
        for frame in sorted(clip.iterdir())[:num_frames]:
            os.link(frame, folder / clip.name / frame.name)


def make_dataset(
    output: Path, clips: Path, recipe: Recipe, patch: Size, num_frames: int, workers: int
) -> Path:
    """Synthesise clips, one sample of each patch, all in the train split.

    Args:
        output: the dataset's folder; new.
        clips: folders of frames.
        recipe: of streams and degradation.
        patch: of a sample, at most two a clip; WHOLE takes whole frames.
        num_frames: of every clip.
        workers: processes.
    """
    changed = _changed(recipe, patch, num_frames)
    whole_clips = changed.clips.model_copy(update={"scene_cut_score": _NO_SCENE_CUT})
    hr = changed.hr.model_copy(update={"max_bar_share": 1.0})
    changed = changed.model_copy(update={"clips": whole_clips, "hr": hr})
    file = output.with_suffix(".yaml")  # JSON is YAML
    file.write_text(changed.model_dump_json(exclude_none=True))
    arguments = [f"--input={clips}", f"--output={output}", f"--recipe={file}"]
    run_quietly(synthesize, [*arguments, f"--workers={workers}"])
    return output


def export_folders(output: Path, dataset: Path, layout: str, workers: int) -> list[str]:
    """Export a dataset as folders; returns the folder of each LR stream, by its number."""
    arguments = [str(dataset), f"--output={output}", f"--layout={layout}", f"--workers={workers}"]
    run_quietly(export, arguments)
    settings: dict[str, Any] = json.loads((output / EXPORT_NAME).read_bytes())["settings"]
    return [settings["folders"][name] for name in read_manifest(dataset).streams]
