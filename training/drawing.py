"""What pictures of batches are drawn with: text on white paper, and colours for motion."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from schemas.sample import FrameType

Color = tuple[int, int, int]

FRAME_TYPE_COLORS: dict[FrameType, Color] = {
    FrameType.I: (213, 94, 0),
    FrameType.P: (0, 114, 178),
    FrameType.B: (0, 158, 115),
}
"""Vermilion, blue and green of Okabe and Ito, which colour-blind people tell apart."""

PAPER: Color = (255, 255, 255)
INK: Color = (24, 26, 30)
FAINT: Color = (105, 110, 118)
RULE: Color = (214, 217, 222)
UNKNOWN_MOTION = 128
"""Gray of what has no vector."""

_HUES = 180  # OpenCV's turn of hue in 8 bits


class Sheet:
    """A white picture to put others and lines of text on."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def write(self, x: float, y: float, text: str, size: int = 12, color: Color = INK) -> None:
        """Write one line from its top left."""
        self._draw.text((x, y), text, color, ImageFont.load_default(size))

    def bar(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Fill a rectangle."""
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), color)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: int = 1) -> None:
        """Join points, (x, y) each, by straight lines."""
        self._draw.line(list(points), color, width, joint="curve")

    def paste(self, pixels: np.ndarray, x: int, y: int) -> None:
        """Put down an (H, W, 3) uint8 picture, within a fine line."""
        height, width = pixels.shape[:2]
        self._draw.rectangle((x - 1, y - 1, x + width, y + height), outline=RULE)
        self.image.paste(Image.fromarray(pixels), (x, y))


def text_width(text: str, size: int = 12) -> int:
    """Pixels that a line takes up."""
    return math.ceil(ImageFont.load_default(size).getlength(text))


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """An (H, W, ...) array, each pixel repeated `factor` times each way."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def flow_picture(flow: np.ndarray, is_known: np.ndarray, largest: float) -> np.ndarray:
    """Motion as colour: the hue is the direction, white is none, gray is not known.

    Args:
        flow: (H, W, 2) float32, (x, y).
        is_known: (H, W) bool.
        largest: the length that has full colour.

    Returns:
        (H, W, 3) uint8 RGB: red to the right, then clockwise as displayed yellow-green, cyan to
        the left, violet.
    """
    angle = np.arctan2(flow[..., 1], flow[..., 0])  # y goes down: clockwise
    hue = np.floor(angle % (2 * np.pi) / (2 * np.pi) * _HUES) % _HUES
    length = np.hypot(flow[..., 0], flow[..., 1]) / max(largest, 1e-6)
    saturation = np.rint(255 * np.minimum(length, 1))
    hsv = np.stack([hue, saturation, np.full_like(hue, 255)], -1).astype(np.uint8)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.where(is_known[..., None], rgb, np.uint8(UNKNOWN_MOTION))


def flow_legend(side: int) -> np.ndarray:
    """(side, side, 3) uint8: a disc whose every point has the colour of the motion towards it."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    flow = np.stack([x, y], -1).astype(np.float32)
    inside = np.hypot(x, y) <= side / 2
    disc = flow_picture(flow, inside, side / 2)
    return np.where(inside[..., None], disc, np.uint8(255))
