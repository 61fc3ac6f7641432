"""The picture of held-out scores: score against CRF, a panel for each frame type."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schemas.sample import FrameType
from training.checkpoint import write_atomically
from training.drawing import FAINT, FRAME_TYPE_COLORS, INK, RULE, Color, Sheet, text_width
from training.scoring import StreamScores, type_means

PLOT_NAME = "scores.png"

_PANEL_WIDTH, _PANEL_HEIGHT = 320, 320
_LEFT, _TOP, _GAP, _BOTTOM = 56, 64, 28, 48
_MOST_TICKS = 8
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
_DOT = 3


class _Axes:
    """Where CRFs and scores lie in a panel."""

    def __init__(self, left: int, crf_range: Sequence[float], score_range: Sequence[float]) -> None:
        self.left = left
        self._crf_range, self._score_range = crf_range, score_range

    def x(self, crf: float) -> float:
        return self.left + _PANEL_WIDTH * _part(crf, self._crf_range)

    def y(self, score: float) -> float:
        return _TOP + _PANEL_HEIGHT * (1 - _part(score, self._score_range))

    def draw(self, sheet: Sheet, kind: FrameType, with_scores: bool) -> None:
        """Rules, numbers and the title."""
        sheet.write(self.left, _TOP - 22, f"{kind.value} frames", 13, FRAME_TYPE_COLORS[kind])
        bottom = _TOP + _PANEL_HEIGHT
        for score in _ticks(self._score_range):
            y = self.y(score)
            sheet.line([(self.left, y), (self.left + _PANEL_WIDTH, y)], RULE)
            if with_scores:
                text = f"{score:g}"
                sheet.write(self.left - 8 - text_width(text, 11), y - 7, text, 11, FAINT)
        for crf in _ticks(self._crf_range):
            x, text = self.x(crf), f"{crf:g}" if crf >= 0 else ""
            sheet.line([(x, bottom), (x, bottom + 4)], FAINT)
            sheet.write(x - text_width(text, 11) / 2, bottom + 6, text, 11, FAINT)

    def plot(self, sheet: Sheet, points_K2: np.ndarray, color: Color) -> None:
        """A line through points (CRF, score), with a dot on each."""
        points = [(self.x(crf), self.y(score)) for crf, score in points_K2]
        if len(points) > 1:
            sheet.line(points, color)
        for x, y in points:
            sheet.bar(x - _DOT // 2, y - _DOT // 2, _DOT, _DOT, color)


def write_plot(run: Path, streams: Sequence[StreamScores]) -> None:
    """Write `scores.png`, a line for each clip; nothing where there are no scores."""
    lines = {kind: type_means(streams, kind) for kind in FrameType}
    points = [line for own in lines.values() for line in own.values()]
    if not points:
        return
    all_points = np.concatenate(points)
    crf_range, score_range = zip(all_points.min(0), all_points.max(0), strict=True)
    stride = _PANEL_WIDTH + _GAP
    sheet = Sheet(_LEFT + len(lines) * stride, _TOP + _PANEL_HEIGHT + _BOTTOM)
    title = "Score against CRF, held-out clips; a line for each, the mean over its frames"
    sheet.write(_LEFT, 12, title, 14, INK)
    sheet.write(_LEFT, _TOP + _PANEL_HEIGHT + 26, "left end: uncompressed (CRF -1)", 11, FAINT)
    for number, (kind, own) in enumerate(lines.items()):
        axes = _Axes(_LEFT + number * stride, crf_range, score_range)
        axes.draw(sheet, kind, with_scores=number == 0)
        for line in own.values():
            axes.plot(sheet, line, FRAME_TYPE_COLORS[kind])
    buffer = io.BytesIO()
    sheet.image.save(buffer, "PNG")
    write_atomically(run / PLOT_NAME, buffer.getvalue())


def _part(value: float, bounds: Sequence[float]) -> float:
    low, high = bounds
    return (value - low) / (high - low) if high > low else 0.5


def _ticks(bounds: Sequence[float]) -> list[float]:
    """Round numbers within bounds."""
    low, high = bounds
    step = next((x for x in _STEPS if (high - low) / x < _MOST_TICKS), _STEPS[-1])
    return [step * n for n in range(int(np.ceil(low / step)), int(high // step) + 1)]
