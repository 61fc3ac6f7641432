"""A short film: HR and what became of it, side by side."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from pipelines.drawing import INK, PAPER, blank
from transforms.color import rgb_to_yuv

_LEAST_SECONDS = 3
_LEAST_FPS, _MOST_FPS = 10, 25
_PACK_FPS, _PACK_HOLD = 10, 5  # unrelated patches: two a second
_LABEL_HEIGHT, _GAP = 26, 4
_SMALL_SIDE = 384  # smaller pictures are enlarged, as long as they stay below
_MAX_COLUMNS, _MAX_WIDTH = 4, 1920
_OPTIONS = {"crf": "17", "preset": "veryfast"}
_BT709, _LIMITED = 1, 1  # FFmpeg's numbers for what `rgb_to_yuv` makes


class Panel(NamedTuple):
    """A part of the film."""

    label: str
    frames: np.ndarray
    """(T, H, W, 3) uint8, as many and as large as those of the others"""


class Timing(NamedTuple):
    """How a clip is shown."""

    fps: int
    hold: int
    """frames of the film for each of the clip"""
    loops: int
    """how often the clip is shown, one time after the other"""


def timing(num_frames: int, fps: float, is_pack: bool) -> Timing:
    """Show a clip at its own speed, but unrelated patches slowly; and long enough to look at it.

    Args:
        num_frames: of the clip.
        fps: of its source, 0 where it has none.
        is_pack: the frames have nothing to do with each other.
    """
    rate = _PACK_FPS if is_pack else round(min(max(fps or _MOST_FPS, _LEAST_FPS), _MOST_FPS))
    hold = _PACK_HOLD if is_pack else 1
    return Timing(rate, hold, math.ceil(_LEAST_SECONDS * rate / (num_frames * hold)))


def write_film(path: Path, panels: Sequence[Panel], when: Timing) -> None:
    """Write the panels as an MP4 file, with H.264 that every player takes."""
    pictures = list(rgb_to_yuv(np.stack(list(_pictures(panels)))))
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=when.fps, options=_OPTIONS)
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 2  # by default the bytes depend on the cores
        stream.codec_context.time_base = Fraction(1, when.fps)
        stream.codec_context.color_range, stream.codec_context.colorspace = _LIMITED, _BT709
        stream.codec_context.color_primaries = stream.codec_context.color_trc = _BT709
        for index, picture in enumerate(_shown(pictures, when)):
            picture.pts = index
            picture.time_base = Fraction(1, when.fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _shown(pictures: list[av.VideoFrame], when: Timing) -> Iterator[av.VideoFrame]:
    for _ in range(when.loops):
        for picture in pictures:
            yield from [picture] * when.hold


def _pictures(panels: Sequence[Panel]) -> Iterator[np.ndarray]:
    """Each frame of the film, (H, W, 3) uint8, with even sides."""
    _, height, width, _ = panels[0].frames.shape
    zoom = max(1, _SMALL_SIDE // max(height, width))
    height, width = height * zoom, width * zoom
    columns = min(len(panels), _MAX_COLUMNS, max(1, _MAX_WIDTH // width))
    rows = -(-len(panels) // columns)
    total = (rows * (height + _LABEL_HEIGHT), columns * (width + _GAP) - _GAP)
    pen = blank(total[1] + total[1] % 2, total[0] + total[0] % 2)
    pen.draw.rectangle((0, 0, *pen.image.size), INK)
    places = [divmod(number, columns) for number in range(len(panels))]
    corners = [(row * (height + _LABEL_HEIGHT), column * (width + _GAP)) for row, column in places]
    for panel, (top, left) in zip(panels, corners, strict=True):
        pen.write(left + 6, top + 5, panel.label, 15, PAPER, width - 12)
    for index in range(len(panels[0].frames)):
        for panel, (top, left) in zip(panels, corners, strict=True):
            enlarged = panel.frames[index].repeat(zoom, axis=0).repeat(zoom, axis=1)
            pen.paste(enlarged, left, top + _LABEL_HEIGHT)
        yield np.asarray(pen.image).copy()
