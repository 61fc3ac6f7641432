"""A picture of several recipes: what each makes of the same patch, side by side."""

from collections.abc import Sequence

from pipelines.drawing import FAINT, INK, Pen, blank, fitted, sampled, wrapped
from pipelines.preview.outcome import Box, Outcome, busiest, psnr
from pipelines.preview.sheet import SIDE, mark_detail
from pipelines.preview.subject import Subject
from pipelines.preview.words import summary

MAX_COLUMNS = 7
_MARGIN, _GAP = 24, 14
HEADER_HEIGHT = 62
TITLE_HEIGHT, _CAPTION_HEIGHT = 44, 34
BLOCK_HEIGHT = TITLE_HEIGHT + 2 * SIDE + 6 + _CAPTION_HEIGHT
_SUMMARY_SIZE, _LINE = 13, 18
_MIN_COLUMNS = 3  # the header needs as much room


def draw_comparison(outcomes: Sequence[Outcome], subject: Subject, about: str) -> Pen:
    """Draw HR and the last stream of each recipe, then what was drawn for each.

    Args:
        outcomes: what the recipes made.
        subject: of what.
        about: a line on the subject.
    """
    count = len(outcomes) + 1
    blocks = -(-count // MAX_COLUMNS)
    columns = -(-count // blocks)  # evenly filled
    width = column_left(max(columns, _MIN_COLUMNS)) - _GAP + _MARGIN
    summaries = [_summary_lines(outcome, subject, width) for outcome in outcomes]
    text_height = sum(_LINE * len(lines) + 8 for lines in summaries) + _MARGIN
    pen = blank(width, HEADER_HEIGHT + blocks * BLOCK_HEIGHT + text_height)
    _draw_header(pen, about)
    box = busiest(subject.plain[subject.shown], subject.recipe.scale)
    _draw_hr(pen, subject, box)
    for number, outcome in enumerate(outcomes, start=1):
        row, column = divmod(number, columns)
        _draw_outcome(pen, outcome, subject, box, (row, column))
    _write_summaries(pen, outcomes, summaries, HEADER_HEIGHT + blocks * BLOCK_HEIGHT)
    return pen


def column_left(column: int) -> int:
    """First pixel column of a recipe's pictures."""
    return _MARGIN + column * (SIDE + _GAP)


def _draw_header(pen: Pen, about: str) -> None:
    pen.write(_MARGIN, 12, about, 16, INK, pen.image.width - 2 * _MARGIN)
    text = (
        "above: LR, each pixel enlarged; below: 3x detail, marked in HR, of LR upscaled (bicubic)"
    )
    pen.write(_MARGIN, 36, text, 13, FAINT, pen.image.width - 2 * _MARGIN)


def _draw_hr(pen: Pen, subject: Subject, box: Box) -> None:
    hr = subject.plain[subject.shown]
    pen.write(column_left(0), HEADER_HEIGHT, "HR", 15)
    pen.write(column_left(0), HEADER_HEIGHT + 20, f"{hr.shape[1]} x {hr.shape[0]}", 12, FAINT)
    top = HEADER_HEIGHT + TITLE_HEIGHT
    pen.paste(fitted(hr, SIDE), column_left(0), top)
    mark_detail(pen, hr, box, (top, column_left(0)))
    pen.paste(sampled(hr, box, (SIDE, SIDE)), column_left(0), top + SIDE + 6)


def _draw_outcome(
    pen: Pen, outcome: Outcome, subject: Subject, box: Box, place: tuple[int, int]
) -> None:
    stream, shown = outcome.streams[-1], subject.shown
    x, y = column_left(place[1]), HEADER_HEIGHT + place[0] * BLOCK_HEIGHT
    count = len(outcome.recipe.streams)
    of = f", stream {stream.name}, last of {count}" if count > 1 else ""
    height, width = stream.lr.shape[1:3]
    pen.write(x, y, outcome.recipe.name, 15, INK, SIDE)
    pen.write(x, y + 20, f"{width} x {height}{of}", 12, FAINT, SIDE)
    y += TITLE_HEIGHT
    pen.paste(fitted(stream.lr[shown], SIDE), x, y)
    pen.paste(sampled(stream.upscaled[shown], box, (SIDE, SIDE)), x, y + SIDE + 6)
    score = psnr(stream.upscaled[shown], subject.plain[shown])
    pen.write(x, y + 2 * SIDE + 10, f"PSNR {score:.2f} dB", 12, FAINT, SIDE)


def _summary_lines(outcome: Outcome, subject: Subject, width: int) -> list[str]:
    steps = [*outcome.shared, *outcome.streams[-1].steps]
    text = f"{outcome.recipe.name}: {summary(steps, subject.shown)}"
    return wrapped(text, _SUMMARY_SIZE, width - 2 * _MARGIN)


def _write_summaries(
    pen: Pen, outcomes: Sequence[Outcome], summaries: Sequence[list[str]], top: int
) -> None:
    y = top
    for lines in summaries:
        for line in lines:
            pen.write(_MARGIN, y, line, _SUMMARY_SIZE)
            y += _LINE
        y += 8
