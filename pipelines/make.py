"""Making planned samples. Runs in a worker process: here media is opened and encoded."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipelines import cpu_limit
from pipelines.errors import MediaError
from pipelines.failures import failed
from pipelines.media import read_clip, read_photo
from schemas.draw import SceneDraw, StreamDraw
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import Outcome, Status
from schemas.sample import SampleKind
from schemas.source import Source
from transforms.codec import CodecError
from transforms.cut import Pictures, pre_downscale, scene_frames
from transforms.degrade import MadeSample, make_sample
from transforms.draw import draw_scene, draw_stream
from transforms.pixels import luma_std


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeTask:
    """Samples that share their frames, and all that it takes to make them."""

    recipe: Recipe
    seed: int
    rows: list[PlannedSample]
    """samples of the same spans"""
    sources: Mapping[str, Source]
    """their sources, by id"""
    paths: Mapping[str, list[str]]
    """where each source lies on this machine"""

    def alone(self) -> "Iterator[MakeTask]":
        """The same work, one sample at a time."""
        for row in self.rows:
            yield dataclasses.replace(self, rows=[row])


def make(task: MakeTask) -> list[MadeSample | Outcome]:
    """Make samples, one outcome a row; bad data becomes an Outcome that says why."""
    try:
        pictures = read_pictures(task)
    except MediaError as error:
        return [failed("read", error.reason, error.detail)] * len(task.rows)
    outcomes = []
    for row in task.rows:
        cpu_limit.renew()
        outcomes.append(_make_one(task, row, pictures))
    return outcomes


def read_pictures(task: MakeTask) -> Pictures:
    """Read whatever the task's samples are cut out of.

    Raises:
        MediaError: if a source cannot be read, or is not what was probed.
    """
    pictures: dict[tuple[str, int], np.ndarray] = {}
    is_clip = task.rows[0].kind is SampleKind.CLIP
    for span in task.rows[0].spans:
        source, paths = task.sources[span.source_id], task.paths[span.source_id]
        frames = read_clip(paths, source, span) if is_clip else [read_photo(paths[0], source)]
        for index, frame in enumerate(frames, start=span.start if is_clip else 0):
            pictures[span.source_id, index] = pre_downscale(frame, task.recipe)
    return pictures


def _make_one(task: MakeTask, row: PlannedSample, pictures: Pictures) -> MadeSample | Outcome:
    recipe, seed = task.recipe, task.seed
    scene = draw_scene(recipe, seed, row, sizes_of(pictures))
    plain, hr, degraded = scene_frames(scene, pictures)
    # A fade begins or ends flat; a flat scene is flat in the middle, too.
    std = max(luma_std(plain[t]) for t in (0, len(plain) // 2, len(plain) - 1))
    if row.kind is not SampleKind.PSEUDO_VIDEO and std < recipe.hr.min_std:
        detail = f"luma std {std:.2f} is below min_std {recipe.hr.min_std:g}"
        return Outcome(status=Status.FILTERED, stage="read", reason="flat", detail=detail)
    streams = [draw_stream(recipe, seed, row, scene, k) for k in range(len(recipe.streams))]
    return make_drawn(task, row, scene, streams, hr, degraded)


def make_drawn(
    task: MakeTask,
    row: PlannedSample,
    scene: SceneDraw,
    streams: Sequence[StreamDraw],
    hr: np.ndarray,
    degraded: np.ndarray,
) -> MadeSample | Outcome:
    """Make a sample of given draws.

    Args:
        task: the work that the row belongs to.
        row: the sample.
        scene: what its streams share.
        streams: what each adds.
        hr: (T, H, W, 3) uint8 RGB, what is stored.
        degraded: what is degraded, like `hr`.
    """
    fps = task.sources[row.spans[0].source_id].fps
    try:
        return make_sample(task.recipe, task.seed, row, scene, streams, hr, fps, hr_input=degraded)
    except CodecError as error:
        return failed("encode", error.reason, error.detail)


def sizes_of(pictures: Pictures) -> dict[str, tuple[int, int]]:
    """Source -> (height, width) of its pictures."""
    return {source_id: (p.shape[0], p.shape[1]) for (source_id, _), p in pictures.items()}
