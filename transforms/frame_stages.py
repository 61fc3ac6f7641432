"""The stages that act on each frame by itself, applied in the order they were drawn."""

from collections.abc import Sequence

import cv2
import numpy as np

from schemas.draw import (
    BlurDraw,
    CropDraw,
    FrameStageDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    SharpenDraw,
    StillDraw,
    at,
)
from transforms.blur import blur
from transforms.noise import noise
from transforms.resize import resize
from transforms.sharpen import sharpen
from transforms.still import still


def apply_frame_stages(
    image: np.ndarray, stages: Sequence[FrameStageDraw], frame: int
) -> np.ndarray:
    """Apply stages to one frame.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1].
        stages: what was drawn, in order.
        frame: display index, which picks per-frame values.

    Returns:
        (H, W, 3) float32 RGB, of the size that the stages make. Only a blur, if it is the last
        stage, may leave [0, 1].
    """
    for index, stage in enumerate(stages):
        image = _apply(image, stage, frame)
        if isinstance(stage, ResizeDraw) and not _wraps(stages[index + 1 : index + 2]):
            image = np.clip(image, 0, 1)
    return image


def _wraps(following: Sequence[FrameStageDraw]) -> bool:
    """Whether the next stage makes something of values outside the range."""
    return any(isinstance(stage, StillDraw) and stage.truncate for stage in following)


def _apply(image: np.ndarray, stage: FrameStageDraw, frame: int) -> np.ndarray:
    match stage:
        case BlurDraw():
            return blur(image, stage, frame)
        case ResizeDraw():
            return _resized(image, stage, frame)
        case NoiseDraw():
            return noise(image, stage, frame)
        case StillDraw():
            return still(image, stage, frame)
        case SharpenDraw():
            return sharpen(image, stage, frame)
        case PadDraw():
            return _padded(image, stage)
        case CropDraw():
            rows = slice(stage.top, stage.top + stage.height)
            columns = slice(stage.left, stage.left + stage.width)
            return np.ascontiguousarray(image[rows, columns])


def _resized(image: np.ndarray, draw: ResizeDraw, frame: int) -> np.ndarray:
    size = at(draw.height, frame), at(draw.width, frame)
    factor = at(draw.factor, frame) if draw.factor else 0.0
    return resize(image, *size, draw.kernel, sigma=draw.sigma, factor=factor)


def _padded(image: np.ndarray, draw: PadDraw) -> np.ndarray:
    height, width = image.shape[:2]
    below, right = draw.height - height - draw.top, draw.width - width - draw.left
    margins = (draw.top, below, draw.left, right)
    return cv2.copyMakeBorder(np.ascontiguousarray(image), *margins, cv2.BORDER_REPLICATE)
