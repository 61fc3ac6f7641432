"""A picture of results: of each clip the same crop, as it should be and as methods restored it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from training.drawing import FAINT, Sheet, enlarged, text_width
from training.evaluating.degradation import SCALE
from training.metrics import psnr_y

CROP = 128
"""Side of a crop, HR pixels; less where the picture is smaller."""
MOST_ROWS = 64
"""Rows of a sheet; those that follow are left out, which it tells."""

_MARGIN, _GAP, _LABELS, _NAME = 12, 6, 18, 110


class Place(NamedTuple):
    """Where a crop is cut out of a clip."""

    frame: int
    top: int
    left: int
    height: int
    width: int

    def cut(self, clip: np.ndarray, scale: int = 1) -> np.ndarray:
        """The crop of a (T, H, W, 3) clip whose sides are `scale` times smaller; a copy."""
        rows = slice(self.top // scale, (self.top + self.height) // scale)
        columns = slice(self.left // scale, (self.left + self.width) // scale)
        return clip[self.frame, rows, columns].copy()


class SheetRow(NamedTuple):
    """The crops of one clip under one condition."""

    clip: str
    condition: str
    frame: int
    hr: np.ndarray
    """(H, W, 3) uint8"""
    lr: np.ndarray
    """(h, w, 3) uint8, as coded"""
    restored: Mapping[str, np.ndarray]
    """by method, (H, W, 3) uint8"""


def busiest_place(hr: np.ndarray) -> Place:
    """The crop with most detail in the middle frame of a clip, on the grid of LR pixels."""
    frame = len(hr) // 2
    gray = cv2.cvtColor(hr[frame], cv2.COLOR_RGB2GRAY).astype(np.float32)
    down, across = np.gradient(gray)
    detail = cv2.resize(
        np.hypot(down, across),
        (gray.shape[1] // SCALE, gray.shape[0] // SCALE),
        interpolation=cv2.INTER_AREA,
    )
    height, width = (min(CROP // SCALE, side) for side in detail.shape)
    sums = cv2.boxFilter(
        detail, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE
    )
    inside = sums[: detail.shape[0] - height + 1, : detail.shape[1] - width + 1]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return Place(frame, SCALE * int(top), SCALE * int(left), SCALE * height, SCALE * width)


def draw_sheet(rows: Sequence[SheetRow], methods: Sequence[str]) -> Image.Image:
    """Columns: HR, LR as coded (its pixels repeated), then each method with its PSNR of Y."""
    shown = rows[:MOST_ROWS]
    height = max(row.hr.shape[0] for row in shown)
    width = max(*(row.hr.shape[1] for row in shown), *(text_width(name) for name in methods))
    names = max(_NAME, *(text_width(x) for row in shown for x in (row.clip, row.condition)))
    left = _MARGIN + names + _GAP
    row_height = height + _LABELS + _GAP
    sheet = Sheet(
        left + (2 + len(methods)) * (width + _GAP) + _MARGIN,
        2 * _MARGIN + _LABELS + len(shown) * row_height + (_LABELS if len(rows) > MOST_ROWS else 0),
    )
    for column, title in enumerate(["HR", "LR as coded", *methods]):
        sheet.write(left + column * (width + _GAP), _MARGIN, title)
    for number, row in enumerate(shown):
        _draw_row(sheet, row, methods, (left, _MARGIN + _LABELS + number * row_height), width)
    if len(rows) > MOST_ROWS:
        told = f"{len(rows) - MOST_ROWS} more rows are left out"
        sheet.write(_MARGIN, sheet.image.height - _MARGIN - _LABELS, told, color=FAINT)
    return sheet.image


def _draw_row(
    sheet: Sheet, row: SheetRow, methods: Sequence[str], corner: tuple[int, int], width: int
) -> None:
    x, y = corner
    sheet.write(_MARGIN, y, row.clip)
    sheet.write(_MARGIN, y + _LABELS, row.condition)
    sheet.write(_MARGIN, y + 2 * _LABELS, f"frame {row.frame}", color=FAINT)
    pictures = [row.hr, enlarged(row.lr, SCALE), *(row.restored[name] for name in methods)]
    for column, picture in enumerate(pictures):
        sheet.paste(picture, x + column * (width + _GAP), y)
        if column >= 2:
            told = f"{_crop_psnr(picture, row.hr):.2f} dB"
            at = (x + column * (width + _GAP), y + row.hr.shape[0] + 1)
            sheet.write(*at, told, color=FAINT)


def _crop_psnr(picture: np.ndarray, hr: np.ndarray) -> float:
    """PSNR of Y over the crop alone."""
    x, target = (torch.from_numpy(a).movedim(-1, 0)[None].double() for a in (picture, hr))
    return float(psnr_y(x, target))
