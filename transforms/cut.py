"""From pictures to the frames of a scene: rectangles cut out, or what a virtual camera sees."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from schemas.draw import SceneDraw, SharpenDraw
from schemas.recipe import Recipe
from transforms.camera import Rectangle, seen, view_frame
from transforms.draw import hr_size
from transforms.pixels import to_float, to_uint8
from transforms.resize import resize_uint8
from transforms.sharpen import margin, sharpen

Pictures = Mapping[tuple[str, int], np.ndarray]
"""(source, frame) -> (H, W, 3) uint8 RGB, after pre-downscale."""

USM = SharpenDraw(amount=[0.5], sigma=8.0, threshold=10)
"""Unsharp masking as Real-ESRGAN's targets have it."""


def pre_downscale(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Shrink a picture, (H, W, 3) uint8, as the recipe asks."""
    size = hr_size(recipe, picture.shape[0], picture.shape[1])
    return picture if size == picture.shape[:2] else resize_uint8(picture, *size)


class SceneFrames(NamedTuple):
    """The frames of a scene, (T, H, W, 3) uint8 each."""

    plain: np.ndarray
    """as the sources have them"""
    hr: np.ndarray
    """what is stored"""
    degraded: np.ndarray
    """what the chain starts from"""


def scene_frames(scene: SceneDraw, pictures: Pictures) -> SceneFrames:
    """Cut out the frames of a scene, sharpened where its draw says so."""
    plain = cut_frames(scene, pictures)
    hr = plain if scene.sharpen == "off" else cut_frames(scene, pictures, USM)
    return SceneFrames(plain, hr, hr if scene.sharpen == "target_and_input" else plain)


def cut_frames(scene: SceneDraw, pictures: Pictures, mask: SharpenDraw | None = None) -> np.ndarray:
    """Cut out the frames of a scene.

    Args:
        scene: says where.
        pictures: its sources.
        mask: sharpen first.

    Returns:
        (T, H, W, 3) uint8.
    """
    if scene.views:
        picture = pictures[scene.origins[0].source_id, scene.origins[0].frame]
        return _look(scene, picture, mask)
    frames = np.empty((len(scene.origins), scene.height, scene.width, 3), np.uint8)
    for index, origin in enumerate(scene.origins):
        area = Rectangle(
            origin.top, origin.left, origin.top + scene.height, origin.left + scene.width
        )
        frames[index] = _cut(pictures[origin.source_id, origin.frame], area, mask)
    return frames


def _look(scene: SceneDraw, picture: np.ndarray, mask: SharpenDraw | None) -> np.ndarray:
    """(T, H, W, 3) uint8: what the camera sees of the picture, or of the sharpened picture.

    Sharpened before the camera looks, not after: what is seen twice is sharpened alike, so that
    the target, too, moves exactly as the views say.
    """
    size = (scene.height, scene.width)
    area = _inside(seen(scene.views, *size), picture)
    part = _cut(picture, area, mask)
    moved = (
        view.model_copy(update={"y": view.y - area.top, "x": view.x - area.left})
        for view in scene.views
    )
    return np.stack([view_frame(part, view, *size) for view in moved])


def _cut(picture: np.ndarray, area: Rectangle, mask: SharpenDraw | None) -> np.ndarray:
    """The pixels of an area inside a picture, of the picture or of the sharpened picture."""
    if mask is None:
        return picture[area.top : area.bottom, area.left : area.right]
    reach = margin(mask.sigma)
    outer = _inside(
        Rectangle(area.top - reach, area.left - reach, area.bottom + reach, area.right + reach),
        picture,
    )
    part = picture[outer.top : outer.bottom, outer.left : outer.right]
    sharp = to_uint8(sharpen(to_float(part), mask, 0))
    return sharp[
        area.top - outer.top : area.bottom - outer.top,
        area.left - outer.left : area.right - outer.left,
    ]


def _inside(area: Rectangle, picture: np.ndarray) -> Rectangle:
    height, width = picture.shape[:2]
    return Rectangle(
        max(area.top, 0), max(area.left, 0), min(area.bottom, height), min(area.right, width)
    )
