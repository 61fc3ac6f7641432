"""A picture of one recipe: a row for each step of its chains, with what was drawn beside it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import ImageFont

from pipelines.drawing import (
    FAINT,
    FRAME_TYPE_COLORS,
    INK,
    PAPER,
    RULE,
    Pen,
    blank,
    fitted,
    sampled,
)
from pipelines.preview.chain import Step
from pipelines.preview.outcome import Box, MadeStream, Outcome, busiest, psnr
from pipelines.preview.subject import Subject
from pipelines.preview.words import lines, name
from schemas.draw import BlurDraw
from schemas.sample import FrameType
from transforms.blur import blur_kernel, kernel_at
from transforms.resize import resize_uint8

SIDE = 256  # of the pictures, pixels
_TEXT = 430  # width of the text beside them
_MARGIN, _GAP, _TEXT_GAP = 24, 12, 18
WIDTH = 2 * _MARGIN + 2 * SIDE + _GAP + _TEXT_GAP + _TEXT
HEADER_HEIGHT, HEADING_HEIGHT = 84, 40
ROW_HEIGHT = SIDE + 14
"""Of most rows; those with much text are higher."""
_KERNEL = 112  # side of a blur kernel's picture
_TITLE_SIZE, _TEXT_SIZE, _LINE, _LINES_TOP = 17, 14, 19, 24
_BAR_HEIGHT = 20
_LEAST_CELL = 8  # pixels; a frame's letter needs that much
_NEGATIVE = np.array(FRAME_TYPE_COLORS[FrameType.I], np.float32)


class Row(NamedTuple):
    """A step as it is drawn."""

    title: str
    lines: list[str]
    picture: np.ndarray
    """(h, w, 3) uint8, the whole frame"""
    kernel: np.ndarray | None = None
    """taps of a blur"""
    frame_types: str = ""
    """of a codec"""
    scores: str = ""
    """how near the frame is to HR, and to the step before"""


class Section(NamedTuple):
    """Rows under a heading."""

    heading: str
    detail: str
    """follows the heading, in grey"""
    rows: list[Row]


def draw_sheet(outcome: Outcome, subject: Subject, about: str) -> Pen:
    """Draw all steps of a recipe.

    Args:
        outcome: what the recipe made.
        subject: of what.
        about: a line on the subject.
    """
    sections = [section for section in _sections(outcome, subject) if section.rows]
    heights = [_row_height(row) for section in sections for row in section.rows]
    height = HEADER_HEIGHT + len(sections) * HEADING_HEIGHT + sum(heights)
    pen = blank(WIDTH, height)
    box = busiest(outcome.frames.hr[subject.shown], outcome.recipe.scale)
    _draw_header(pen, outcome, about)
    top, is_first = HEADER_HEIGHT, True
    for section in sections:
        _draw_heading(pen, section, top)
        top += HEADING_HEIGHT
        for row in section.rows:
            _draw_row(pen, row, box, top)
            if is_first:
                mark_detail(pen, outcome.frames.hr[subject.shown], box, (top, _MARGIN))
            top, is_first = top + _row_height(row), False
    return pen


def _sections(outcome: Outcome, subject: Subject) -> Iterator[Section]:
    shown, frames = subject.shown, outcome.frames
    hr, before = frames.hr[shown], frames.degraded[shown]
    count = len(outcome.streams)
    shared = "and what all streams share" if count > 1 and outcome.shared else ""
    first = Row("HR", _hr_lines(outcome), hr)
    yield Section("input", shared, [first, *_rows(outcome.shared, hr, before, shown)])
    before = outcome.shared[-1].picture if outcome.shared else before
    for number, stream in enumerate(outcome.streams):
        rows = [*_rows(stream.steps, hr, before, shown), _last_row(outcome, stream, shown)]
        of = f"{number + 1} of {count} streams" if count > 1 else ""
        yield Section(f"stream {stream.name}", of, rows)


def _hr_lines(outcome: Outcome) -> list[str]:
    height, width = outcome.frames.hr.shape[1:3]
    sharpened = {
        "off": [],
        "target": ["sharpened; the chain starts from the original"],
        "target_and_input": ["sharpened; the chain starts from it"],
    }[outcome.recipe.hr.sharpen]
    return [f"{width} x {height} pixels", *sharpened]


def _rows(steps: list[Step], hr: np.ndarray, before: np.ndarray, shown: int) -> Iterator[Row]:
    for step in steps:
        stage, generation = step.stages[0], step.generation
        height, width = before.shape[:2]
        yield Row(
            name(step, shown),
            lines(step, (height, width), shown),
            step.picture,
            blur_kernel(kernel_at(stage, shown)) if isinstance(stage, BlurDraw) else None,
            generation.frame_types if generation else "",
            f"PSNR {_decibels(step.picture, hr)} to HR, "
            f"{_decibels(before, step.picture)} to the step before",
        )
        before = step.picture


def _last_row(outcome: Outcome, stream: MadeStream, shown: int) -> Row:
    generations = [step.generation for step in stream.steps if step.generation]
    height, width = stream.lr.shape[1:3]
    one = f"{_decibels(stream.upscaled[shown], outcome.frames.hr[shown])} to HR"
    return Row(
        f"LR of {stream.name}",
        [
            f"{width} x {height} pixels, here upscaled by {outcome.recipe.scale} (bicubic)",
            f"stored as {generations[-1].codec}" if generations else "stored losslessly",
        ],
        stream.upscaled[shown],
        scores=f"PSNR {one}, {_decibels(stream.upscaled, outcome.frames.hr)} over all frames",
    )


def _decibels(picture: np.ndarray, wanted: np.ndarray) -> str:
    """PSNR after scaling a picture, if need be, to the size of the other one."""
    if picture.shape != wanted.shape:
        picture = resize_uint8(picture, *wanted.shape[:2])
    decibels = psnr(picture, wanted)
    return "equal" if decibels == float("inf") else f"{decibels:.2f} dB"


def _draw_header(pen: Pen, outcome: Outcome, about: str) -> None:
    end = pen.write(_MARGIN, 14, outcome.recipe.name, 22)
    pen.write(end + 14, 21, about, 14, FAINT, WIDTH - end - 14 - _MARGIN)
    x = pen.write(_MARGIN, 52, "whole frame; 3x detail, marked in HR", 14, FAINT) + 24
    for frame_type, color in FRAME_TYPE_COLORS.items():
        pen.draw.rectangle((x, 52, x + 13, 65), color)
        x = pen.write(x + 19, 51, f"{frame_type} frame", 14) + 16


def _draw_heading(pen: Pen, section: Section, top: int) -> None:
    pen.draw.line((_MARGIN, top, WIDTH - _MARGIN, top), RULE)
    end = pen.write(_MARGIN, top + 9, section.heading, 17)
    pen.write(end + 12, top + 11, section.detail, 14, FAINT)


def _row_height(row: Row) -> int:
    """What the pictures need, or more where there is much to say."""
    below = _BAR_HEIGHT if row.frame_types else 0 if row.kernel is None else _KERNEL
    text = _LINES_TOP + len(row.lines) * _LINE + below + 2 * _LINE
    return max(ROW_HEIGHT, text + _GAP)


def _draw_row(pen: Pen, row: Row, box: Box, top: int) -> None:
    pen.paste(fitted(row.picture, SIDE), _MARGIN, top)
    left = _MARGIN + SIDE + _GAP
    pen.paste(sampled(row.picture, box, (SIDE, SIDE)), left, top)
    left += SIDE + _TEXT_GAP
    pen.write(left, top - 2, row.title, _TITLE_SIZE, INK, _TEXT)
    y = top + _LINES_TOP
    for line in row.lines:
        pen.write(left, y, line, _TEXT_SIZE, FAINT, _TEXT)
        y += _LINE
    if row.frame_types:
        _draw_frame_types(pen, row.frame_types, left, y + 3)
    if row.kernel is not None:
        pen.paste(_kernel_picture(row.kernel), left, y + 6)
        pen.draw.rectangle((left - 1, y + 5, left + _KERNEL, y + 6 + _KERNEL), outline=RULE)
    pen.write(left, top + _row_height(row) - 31, row.scores, _TEXT_SIZE, INK, _TEXT)


def mark_detail(pen: Pen, hr: np.ndarray, box: Box, corner: tuple[int, int]) -> None:
    """Mark where the detail is, in the whole frame at (top, left)."""
    height, width = fitted(hr, SIDE).shape[:2]
    top, left = corner[0] + box[0] * height, corner[1] + box[1] * width
    pen.mark(left, top, box[3] * width, box[2] * height)


def _draw_frame_types(pen: Pen, frame_types: str, left: int, top: int) -> None:
    cell = min(_BAR_HEIGHT, _TEXT / len(frame_types))
    for index, letter in enumerate(frame_types):
        x = left + round(index * cell)
        end = max(x, left + round((index + 1) * cell) - (2 if cell >= _LEAST_CELL else 1))
        pen.draw.rectangle((x, top, end, top + _BAR_HEIGHT), FRAME_TYPE_COLORS[FrameType(letter)])
        if cell >= _LEAST_CELL:
            offset = (end - x + 1 - ImageFont.load_default(10).getlength(letter)) / 2
            pen.write(x + offset, top + 4, letter, 10, PAPER)


def _kernel_picture(taps: np.ndarray) -> np.ndarray:
    """(side, side, 3) uint8: roots of the taps from white to black, negative ones to vermilion."""
    share = np.sqrt(np.abs(taps) / np.abs(taps).max())[:, :, None]
    full = np.where(taps[:, :, None] < 0, _NEGATIVE, np.array(INK, np.float32))
    pixels = np.rint(np.array(PAPER) * (1 - share) + full * share).astype(np.uint8)
    return sampled(pixels, (0, 0, 1, 1), (_KERNEL, _KERNEL))
