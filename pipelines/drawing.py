"""What pictures of datasets and recipes are drawn with: colours, lines of text, enlarged pixels."""

import math

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


class Pen:
    """An image, and what writes on it."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 13,
        color: Color = INK,
        width: float = math.inf,
        right: bool = False,
    ) -> float:
        """Write one line, shortened to the width; returns where it ends."""
        font = ImageFont.load_default(size)
        whole = text
        while text and self.draw.textlength(text, font) > width:
            whole = whole[:-1]
            text = f"{whole}..."
        self.draw.text((x, y), text, color, font, anchor="ra" if right else "la")
        return x + self.draw.textlength(text, font)

    def mark(self, left: float, top: float, width: float, height: float) -> None:
        """Frame a part of a picture: white within black is seen on bright and dark ones."""
        right, bottom = left + width - 1, top + height - 1
        self.draw.rectangle((left, top, right, bottom), outline=INK, width=3)
        self.draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=PAPER, width=1)

    def paste(self, pixels: np.ndarray, x: int, y: int) -> None:
        """Put down an (H, W, 3) uint8 picture."""
        self.image.paste(Image.fromarray(pixels), (x, y))


def blank(width: int, height: int) -> Pen:
    """A pen on white paper."""
    return Pen(Image.new("RGB", (width, height), PAPER))


def wrapped(text: str, size: int, width: float) -> list[str]:
    """The lines of a text that is broken between words; a long word has a line of its own."""
    font = ImageFont.load_default(size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture whose longer side is `side` pixels: enlarged by repeating pixels, or averaged."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    if factor < 1:
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    return sampled(picture, (0, 0, 1, 1), size)


def sampled(
    picture: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """A part of a picture, each pixel a copy of the one that it lies on.

    Args:
        picture: (h, w, 3) of any size.
        box: top, left, height and width of the part, as shares of the picture's sides; so it
            stays the same part while the picture is resampled.
        size: rows and columns wanted.
    """
    rows, columns = (
        np.floor((first + (np.arange(count) + 0.5) / count * share) * side).astype(int)
        for first, share, count, side in zip(box[:2], box[2:], size, picture.shape[:2], strict=True)
    )
    return picture[rows.clip(0, len(picture) - 1)][:, columns.clip(0, picture.shape[1] - 1)]
