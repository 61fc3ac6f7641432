"""Looks at every frame of a clip once: where scenes change, and whether there are black bars."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

_THUMBNAIL_SIDE = 320  # pixels of the longer side; cuts show as well there, and it is fast
_SCALE_FLAGS = "area+accurate_rnd+bitexact"
_BLACK_LEVEL = 16  # full-range luma up to which a row or column counts as black
_BAR_SPREAD = 4  # most levels between the pixels of a row in a bar: dark scenery varies more
_LIKENESS_SIDE = 8  # so few pixels that motion hardly matters
_UNRELATED_CORRELATION = 0.5
_FLAT_NORM = 1e-3


class Watch:
    """Collects what a clip's frames say, one by one; keeps some numbers per frame, no pixels.

    Args:
        frame: any frame of the clip; all have its size and pixel format.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self._source, self._sink, self._graph = _thumbnail_graph(frame)
        self._scores: list[float] = []
        self._differences: list[float] = []
        self._extremes: list[tuple[np.ndarray, np.ndarray]] | None = None
        self._previous: np.ndarray | None = None
        self.num_unrelated = 0
        """pairs of neighbours that have nothing in common, as in a folder of numbered photos"""

    def add(self, frame: av.VideoFrame) -> None:
        """Look at the next frame."""
        self._source.push(frame)
        small = self._sink.pull()
        assert isinstance(small, av.VideoFrame)
        self._scores.append(float(small.metadata["lavfi.scd.score"]))
        self._differences.append(float(small.metadata["lavfi.scd.mafd"]))
        luma = small.to_ndarray()
        self._compare(luma)
        self._find_bars(luma)

    def _compare(self, luma: np.ndarray) -> None:
        side = (_LIKENESS_SIDE, _LIKENESS_SIDE)
        pattern = cv2.resize(luma, side, interpolation=cv2.INTER_AREA).astype(np.float64)
        pattern -= pattern.mean()
        norm = np.linalg.norm(pattern)
        pattern = pattern / norm if norm > _FLAT_NORM else np.zeros_like(pattern)
        if self._previous is not None and pattern.any() and self._previous.any():
            self.num_unrelated += bool((pattern * self._previous).sum() < _UNRELATED_CORRELATION)
        self._previous = pattern

    def _find_bars(self, luma: np.ndarray) -> None:
        lines = _extremes(luma)
        if self._extremes is not None:
            lines = [
                (np.maximum(brightest, old_brightest), np.minimum(darkest, old_darkest))
                for (brightest, darkest), (old_brightest, old_darkest) in zip(
                    lines, self._extremes, strict=True
                )
            ]
        self._extremes = lines

    def cut_scores(self) -> list[float]:
        """FFmpeg's scdet score of each frame, 0 to 100.

        The score is how much a frame differs from the one before, or, if that is less, how much
        that difference differs from the one before it. The second frame has no such difference,
        so it is held against the next one: even motion is no cut.
        """
        scores = list(self._scores)
        if len(scores) > 2:
            second, third = self._differences[1:3]
            scores[1] = min(second, abs(third - second))
        return scores

    def bar_share(self) -> float:
        """Share of rows or of columns, whichever is more, in black bars; 1 if all is black."""
        assert self._extremes is not None, "no frame was added"
        return max(_bar_share(*lines) for lines in self._extremes)


def _thumbnail_graph(
    frame: av.VideoFrame,
) -> tuple[FilterContext, FilterContext, Graph]:
    graph = Graph()
    graph.threads = 1
    factor = min(1.0, _THUMBNAIL_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * factor)) for side in (frame.width, frame.height))
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    scale = graph.add("scale", f"w={width}:h={height}:flags={_SCALE_FLAGS}:out_range=pc")
    gray = graph.add("format", "pix_fmts=gray")
    detect, sink = graph.add("scdet"), graph.add("buffersink")
    graph.link_nodes(source, scale, gray, detect, sink).configure()
    return source, sink, graph


def bar_share(luma: np.ndarray) -> float:
    """Share of rows or of columns, whichever is more, in black bars of a picture.

    Args:
        luma: (H, W) uint8, full range.
    """
    return max(_bar_share(*lines) for lines in _extremes(luma))


def _extremes(luma: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The brightest and the darkest pixel of every row, and of every column."""
    return [(luma.max(axis=axis), luma.min(axis=axis)) for axis in (1, 0)]


def _bar_share(brightest: np.ndarray, darkest: np.ndarray) -> float:
    """Share of lines that are evenly black, up to the first and from the last that is not."""
    is_bar = (brightest <= _BLACK_LEVEL) & (brightest - darkest <= _BAR_SPREAD)
    picture = np.flatnonzero(~is_bar)
    if not len(picture):
        return 1.0
    return 1 - float(picture[-1] - picture[0] + 1) / len(brightest)


def cut(
    scores: list[float], cut_score: float, clip_frames: int, min_frames: int
) -> list[tuple[int, int]]:
    """Cut a video into clips of one scene each.

    Args:
        scores: of each frame, see `Watch.cut_scores`.
        cut_score: score from which on a frame starts a new scene.
        clip_frames: frames of a clip, at least, where its scene has as many.
        min_frames: shorter scenes are left out, unless the video is shorter as a whole: then all
            of its scenes are taken.

    Returns:
        (start, count) of each clip. Clips of a scene have nearly equal lengths and lose no frame.
    """
    num_frames = len(scores)
    if num_frames < min_frames:
        min_frames = 1
    starts = [0, *(i for i in range(1, num_frames) if scores[i] >= cut_score), num_frames]
    scenes = [(a, b) for a, b in pairwise(starts) if b - a >= min_frames]
    return [clip for scene in scenes for clip in _cut_scene(*scene, clip_frames)]


def _cut_scene(start: int, end: int, clip_frames: int) -> list[tuple[int, int]]:
    num_clips = max(1, (end - start) // clip_frames)
    edges = [start + (end - start) * i // num_clips for i in range(num_clips + 1)]
    return [(a, b - a) for a, b in pairwise(edges)]
