"""What a recipe makes of a subject: its streams, step by step."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.errors import UserError
from pipelines.make import sizes_of
from pipelines.preview.chain import Step, as_uint8, stages_of
from pipelines.preview.subject import Subject, as_for
from schemas.draw import SceneDraw
from schemas.recipe import Recipe
from transforms.codec import CodecError
from transforms.cut import SceneFrames, scene_frames
from transforms.degrade import Clip
from transforms.draw import draw_scene, draw_stream
from transforms.resize import resize_uint8

Box = tuple[float, float, float, float]
"""Top, left, height and width of a part, as shares of a picture's sides."""

DETAIL_SIDE = 256 / 3  # HR pixels of the detail: three times as large in a panel


class MadeStream(NamedTuple):
    """One stream of a recipe."""

    name: str
    steps: list[Step]
    """its own, after those that the streams share"""
    lr: np.ndarray
    """(T, h, w, 3) uint8"""
    upscaled: np.ndarray
    """(T, H, W, 3) uint8: LR in the size of HR, bicubic"""


class Outcome(NamedTuple):
    """All streams of a recipe."""

    recipe: Recipe
    """with the subject's patch"""
    frames: SceneFrames
    """what it took"""
    shared: list[Step]
    """of all streams"""
    streams: list[MadeStream]
    """those that were asked for"""


def outcome_of(
    recipe: Recipe, subject: Subject, seed: int, only: Sequence[int] | None = None
) -> Outcome:
    """Degrade a subject as a recipe says.

    Args:
        recipe: whose chain is drawn; the subject's patch and frames are taken as they are.
        subject: what is degraded.
        seed: the dataset's seed.
        only: numbers of the streams to make; None for all.

    Raises:
        UserError: if the subject does not go with the recipe, or an encoder fails.
    """
    recipe = as_for(recipe, subject)
    scene = draw_scene(recipe, seed, subject.planned, sizes_of(subject.pictures))
    frames = scene_frames(scene, subject.pictures)
    numbers = range(len(recipe.streams)) if only is None else only
    try:
        shared = stages_of(Clip(list(frames.degraded), []), scene.stages, subject.shown)
        streams = [
            _make_stream(recipe, subject, seed, scene, shared.clip, number) for number in numbers
        ]
    except CodecError as error:
        raise UserError(f"recipe {recipe.name!r} fails: {error}") from error
    return Outcome(recipe, frames, shared.steps, streams)


def _make_stream(
    recipe: Recipe, subject: Subject, seed: int, scene: SceneDraw, clip: Clip, number: int
) -> MadeStream:
    draw = draw_stream(recipe, seed, subject.planned, scene, number)
    steps, made = stages_of(clip, draw.stages, subject.shown)
    lr = np.stack([as_uint8(frame) for frame in made.frames])
    height, width = subject.plain.shape[1:3]
    upscaled = np.stack([resize_uint8(frame, height, width) for frame in lr])
    return MadeStream(recipe.streams[number].name, steps, lr, upscaled)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two uint8 arrays, dB; infinite where they are equal."""
    error = float(np.mean(np.square(one.astype(np.float32) - other.astype(np.float32))))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def busiest(picture: np.ndarray, scale: int) -> Box:
    """The square of a picture with the most edges; it begins on a whole LR pixel."""
    height, width = picture.shape[:2]
    side = min(DETAIL_SIDE, height, width)
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slopes = np.abs(cv2.Sobel(luma, -1, 1, 0)) + np.abs(cv2.Sobel(luma, -1, 0, 1))
    sums = cv2.integral(slopes)[::scale, ::scale]
    step = math.ceil(side / scale)
    inside = sums[step:, step:] - sums[:-step, step:] - sums[step:, :-step] + sums[:-step, :-step]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return top * scale / height, left * scale / width, side / height, side / width
