"""RGB <-> YUV, pinned: every conversion names its matrix, range, chroma siting and scaler flags.

Left to itself, swscale takes these from tags that decoders fill unevenly, shifts chroma by half
a pixel, darkens by a level, and gives other bytes on other CPUs. Named options win over tags.
Full range is made of limited range in 16 bits here, since swscale rounds chroma down on the way.
"""

import threading
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.filter import Graph

from schemas.draw import ColorDraw, ColorRange, Matrix

FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
TIME_BASE = Fraction(1, 25)

_FAST_FLAGS = "bicubic+bitexact"  # FFmpeg's default, but for bitexact: the same on every CPU
_FROM_RGB_TO_RGB = f"flags={FLAGS}:out_range=pc"
_KEPT_GRAPHS = 16
# Where two sides are even, every pair of pixels is converted alike and by its neighbourhood alone:
# swscale's bicubic kernel takes two samples of chroma on either side, a third where it is shifted.
_CHROMA_REACH = 6  # pixels
_LIMITED_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
_STREAM_FORMATS = frozenset(
    {"yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"}
)


class Converter:
    """One kept filter graph that converts frames of one size and pixel format to another format.

    Args:
        width: columns.
        height: rows.
        source_format: FFmpeg's name of the frames' pixel format.
        target_format: FFmpeg's name of the pixel format to make.
        options: arguments of FFmpeg's scale filter.
    """

    def __init__(
        self, width: int, height: int, source_format: str, target_format: str, options: str
    ) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add_buffer(
            width=width,
            height=height,
            format=av.VideoFormat(source_format, width, height),
            time_base=TIME_BASE,
        )
        scale = self._graph.add("scale", options)
        pixel_format = self._graph.add("format", f"pix_fmts={target_format}")
        self._sink = self._graph.add("buffersink")
        self._graph.link_nodes(self._source, scale, pixel_format, self._sink).configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Convert one frame."""
        self._source.push(frame)
        converted = self._sink.pull()
        assert isinstance(converted, av.VideoFrame)
        return converted


@lru_cache(maxsize=_KEPT_GRAPHS)
def _kept_converter(
    thread: int, width: int, height: int, source_format: str, target_format: str, options: str
) -> Converter:
    return Converter(width, height, source_format, target_format, options)


def _convert(frame: av.VideoFrame, target_format: str, options: str) -> av.VideoFrame:
    # A graph holds the frame between push and pull, so two threads must not share one.
    thread = threading.get_ident()
    size = (frame.width, frame.height)
    return _kept_converter(thread, *size, frame.format.name, target_format, options)(frame)


def rgb_to_yuv(
    frames: np.ndarray, pixel_format: str = "yuv420p", color: ColorDraw | None = None
) -> list[av.VideoFrame]:
    """Convert RGB as `color.written_*` says; or, for gbrp, exactly.

    Args:
        frames: (T, H, W, 3) uint8, sRGB in [0, 255].
        pixel_format: FFmpeg's name.
        color: the conversion; None for BT.709, limited range, chroma sited left.

    Returns:
        T frames ready to encode: pts is the index, the time base 1/25, no picture type is forced.

    Raises:
        ValueError: if `frames` is not such an array.
    """
    _check_clip(frames)
    color = color or ColorDraw()
    flags = FLAGS if color.scaler == "exact" else _FAST_FLAGS
    full = color.written_range == "pc" and color.scaler == "exact" and pixel_format != "gbrp"
    target = _deep(pixel_format) if full else pixel_format
    target_range = "tv" if full else color.written_range
    options = f"flags={flags}:out_color_matrix={color.written_matrix}:out_range={target_range}"
    options += _chroma("out", pixel_format, color.written_location)
    converted = []
    for index, rgb in enumerate(frames):
        frame = _convert(_rgb_frame(rgb), target, options)
        if full:
            frame = _limited_to_full(frame, pixel_format)
        frame.pts = index
        frame.time_base = TIME_BASE
        frame.pict_type = 0
        converted.append(frame)
    return converted


def _check_clip(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(
            f"{frames.shape = }, {frames.dtype = }: expected (T, H, W, 3) uint8, T at least 1"
        )


def _rgb_frame(rgb: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")


def _chroma(side: str, pixel_format: str, location: str) -> str:
    """The option that names the chroma siting, where there is chroma to sit."""
    is_subsampled = pixel_format.startswith(("yuv420", "yuv422"))
    return f":{side}_chroma_loc={location}" if is_subsampled else ""


class Area(NamedTuple):
    """A rectangle of a picture."""

    top: int
    """first row"""
    left: int
    """first column"""
    height: int
    """rows"""
    width: int
    """columns"""

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def yuv_to_rgb(
    frames: Sequence[av.VideoFrame], color: ColorDraw | None = None, area: Area | None = None
) -> np.ndarray:
    """Convert frames of our own streams as `color.read_*` says; RGB frames pass exactly.

    Args:
        frames: 4:2:0, 4:2:2 or 4:4:4 of 8 or 10 bits, or an RGB format, all of one size and
            format. What they are tagged with plays no part.
        color: the conversion; None for BT.709, limited range, chroma sited left.
        area: what to convert, (H, W) pixels inside the frames; None for all. Its pixels are those
            of the whole.

    Returns:
        (T, H, W, 3) uint8, sRGB in [0, 255].

    Raises:
        ValueError: if there is no frame, or a format that is none of these.
    """
    if not frames:
        raise ValueError("frames is empty: expected at least 1 frame")
    color = color or ColorDraw()
    area = area or Area(0, 0, frames[0].height, frames[0].width)
    rgb = np.empty((len(frames), area.height, area.width, 3), np.uint8)
    for index, frame in enumerate(frames):
        name = _stream_format(frame)
        if name not in _STREAM_FORMATS and not is_rgb(frame):
            raise ValueError(
                f"name = {frame.format.name!r}: expected one of {sorted(_STREAM_FORMATS)} or RGB"
            )
        if is_rgb(frame):
            rgb[index] = _rgb_of(frame, area)
        else:
            rgb[index] = _read_area(frame, color, area)
    return rgb


def _rgb_of(frame: av.VideoFrame, area: Area) -> np.ndarray:
    if frame.format.name == "gbrp":
        green, blue, red = (plane[area.slices] for plane in _planes(frame))
        return cv2.merge([red, green, blue])
    return _convert(frame, "rgb24", _FROM_RGB_TO_RGB).to_ndarray()[area.slices]


def _read_area(frame: av.VideoFrame, color: ColorDraw, area: Area) -> np.ndarray:
    outer = _with_margins(area, frame.height, frame.width)
    read = _read_fast if color.scaler == "fast" else _read_exactly
    inner = area._replace(top=area.top - outer.top, left=area.left - outer.left)
    return read(_cut(frame, outer), color)[inner.slices]


def _with_margins(area: Area, height: int, width: int) -> Area:
    """What has to be converted of a picture for the pixels of an area to be right.

    Its size depends on the sizes of area and picture alone, since graphs are kept by size.
    """
    top, rows = _widened(area.top, area.height, height)
    left, columns = _widened(area.left, area.width, width)
    return Area(top, left, rows, columns)


def _widened(first: int, count: int, side: int) -> tuple[int, int]:
    widened = converted_side(count, side)
    return min(max(first // 2 * 2 - _CHROMA_REACH, 0), side - widened), widened


def converted_side(count: int, side: int) -> int:
    """Pixels along a side of a YUV picture that are converted for `count` of them to be right."""
    if side % 2:  # swscale stretches chroma over the whole of an odd side
        return side
    return min(-(-count // 2) * 2 + 2 + 2 * _CHROMA_REACH, side)


def _cut(frame: av.VideoFrame, area: Area) -> av.VideoFrame:
    """A part of a frame; its sides are even where chroma is subsampled, or those of the frame."""
    if (area.height, area.width) == (frame.height, frame.width):
        return frame
    luma, *chroma = _planes(frame)
    down, across = (-(-a // b) for a, b in zip(luma.shape, chroma[0].shape, strict=True))
    top, left = area.top // down, area.left // across
    subsampled = Area(top, left, -(-area.height // down), -(-area.width // across))
    planes = [luma[area.slices], *(plane[subsampled.slices] for plane in chroma)]
    return _frame_of(planes, frame.format.name)


def _stream_format(frame: av.VideoFrame) -> str:
    """The pixel format's name; the yuvj formats are the others, tagged as full range."""
    return frame.format.name.replace("yuvj", "yuv")


def _read_exactly(frame: av.VideoFrame, color: ColorDraw) -> np.ndarray:
    name = _stream_format(frame)
    if color.read_range == "pc":
        frame = _full_to_limited(frame)
    elif frame.format.name != name:
        frame = _frame_of(_planes(frame), name)  # swscale would not let us call it limited
    return _read_with(frame, FLAGS, color, "tv", name)


def _read_with(
    frame: av.VideoFrame, flags: str, color: ColorDraw, color_range: ColorRange, name: str
) -> np.ndarray:
    options = f"flags={flags}:in_color_matrix={color.read_matrix}:in_range={color_range}"
    options += ":out_range=pc" + _chroma("in", name, color.read_location)
    return _convert(frame, "rgb24", options).to_ndarray()


# --- Full range -----------------------------------------------------------------------------


class _Span(NamedTuple):
    """Affine map from limited range in 16 bits to full range in 8: out = (in - zero) * gain."""

    zero: float
    gain: float
    offset: float


_DEPTH = 16
_SPANS = (
    _Span(16 * 256, 255 / (219 * 256), 0),  # luma
    _Span(128 * 256, 255 / (224 * 256), 128),  # chroma, twice
    _Span(128 * 256, 255 / (224 * 256), 128),
)


def _deep(pixel_format: str) -> str:
    """The 16-bit format with the same subsampling."""
    return f"{pixel_format.removesuffix('10le')}{_DEPTH}le"


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Views of Y, U and V without padding."""
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width])
    return planes


def _frame_of(planes: Sequence[np.ndarray], pixel_format: str) -> av.VideoFrame:
    """A new frame with these Y, U and V planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for target, source in zip(_planes(frame), planes, strict=True):
        target[:] = source
    return frame


def _limited_to_full(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """From limited range in 16 bits to full range in the 8 or 10 of a pixel format."""
    bits = 10 if pixel_format.endswith("10le") else 8
    scale = 2 ** (bits - 8)
    # Full range ends at 1023 of 10 bits, not at 4 * 255; neutral chroma is 4 * 128 all the same.
    stretch = (2**bits - 1) / (255 * scale)
    planes = []
    for plane, span in zip(_planes(frame), _SPANS, strict=True):
        full = (plane.astype(np.float32) - span.zero) * np.float32(span.gain * stretch)
        levels = np.rint((full + np.float32(span.offset)) * np.float32(scale))
        planes.append(np.clip(levels, 0, 2**bits - 1))
    return _frame_of(planes, pixel_format)


def _full_to_limited(frame: av.VideoFrame) -> av.VideoFrame:
    """From full range in 8 or 10 bits to limited range in 16."""
    bits = frame.format.components[0].bits
    scale = 2 ** (bits - 8)
    stretch = (2**bits - 1) / (255 * scale)
    planes = []
    for plane, span in zip(_planes(frame), _SPANS, strict=True):
        full = plane.astype(np.float32) / np.float32(scale) - np.float32(span.offset)
        levels = np.rint(full / np.float32(span.gain * stretch) + np.float32(span.zero))
        planes.append(np.clip(levels, 0, 2**_DEPTH - 1))
    return _frame_of(planes, _deep(_stream_format(frame)))


# --- FFmpeg's default -------------------------------------------------------------------------


class _FastCoefficients(NamedTuple):
    """Of swscale's tables (ff_yuv2rgb_coeffs), in units of 1/65536."""

    red_of_v: int
    blue_of_u: int
    green_of_u: int
    green_of_v: int


_FAST_TABLES: dict[Matrix, _FastCoefficients] = {
    "bt709": _FastCoefficients(117489, 138438, -13975, -34925),
    "bt601": _FastCoefficients(104597, 132201, -25675, -53279),
}


def _read_fast(frame: av.VideoFrame, color: ColorDraw) -> np.ndarray:
    """What FFmpeg returns where nobody names flags.

    8-bit subsampled YUV takes a shortcut of its own: chroma is repeated, not interpolated, and
    two products are rounded down, which costs a level. Its assembly and its C code differ by
    another level, so the assembly's arithmetic is repeated here, on every CPU alike. All else
    goes the general way.
    """
    name = _stream_format(frame)
    if name not in ("yuv420p", "yuv422p"):
        return _read_with(frame, _FAST_FLAGS, color, color.read_range, name)
    y, u, v = (plane.astype(np.int32) for plane in _planes(frame))
    table = _FAST_TABLES[color.read_matrix]
    is_limited = color.read_range == "tv"
    luma_gain = (1 << 16) * 255 // 219 if is_limited else 1 << 16
    luma = (((y - 16 * is_limited) << 3) * _rounded(luma_gain)) >> 16

    def product(chroma: np.ndarray, factor: int) -> np.ndarray:
        gain = factor if is_limited else int(factor * 224 / 255)  # towards 0, as in C
        return (((chroma - 128) << 3) * _rounded(gain)) >> 16

    colours = (
        product(v, table.red_of_v),
        product(u, table.green_of_u) + product(v, table.green_of_v),
        product(u, table.blue_of_u),
    )
    return np.stack([_clipped(luma + _repeated(c, luma.shape)) for c in colours], axis=-1)


def _rounded(factor: int) -> int:
    """A factor in units of 1/65536 as the assembly has it, of 1/8192."""
    return ((factor << 13) + (1 << 15)) >> 16


def _repeated(chroma: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape
    rows = chroma if len(chroma) == height else np.repeat(chroma, 2, axis=0)[:height]
    return np.repeat(rows, 2, axis=1)[:, :width]


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


# --- Foreign video ----------------------------------------------------------------------------


def is_gray(frame: av.VideoFrame) -> bool:
    """Whether the frame has luma alone."""
    return len(frame.format.components) == 1 and not is_rgb(frame)


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the frame has no YUV matrix; palettes, which hold RGB, included."""
    return frame.format.is_rgb or frame.format.has_palette or frame.format.is_bayer


def source_to_rgb(frame: av.VideoFrame, matrix: str, color_range: str) -> np.ndarray:
    """Convert a frame of foreign video, whatever its tags say of matrix and range.

    Chroma is taken to sit where the frame's tag says. An alpha channel is dropped.

    Args:
        frame: any pixel format that swscale reads, more than 8 bits included.
        matrix: of the frame, FFmpeg's name such as bt601; empty for RGB.
        color_range: of the frame, tv or pc; empty for RGB.

    Returns:
        (H, W, 3) uint8, RGB in [0, 255].
    """
    if is_rgb(frame):
        return _convert(frame, "rgb24", _FROM_RGB_TO_RGB).to_ndarray()
    if is_gray(frame):
        # swscale takes every grey format for full range, even where the option says otherwise.
        luma = _convert(frame, "gray", f"flags={FLAGS}").to_ndarray()
        full = _LIMITED_TO_FULL[luma] if color_range == "tv" else luma
        return np.repeat(full[:, :, None], 3, axis=2)
    options = f"flags={FLAGS}:in_color_matrix={matrix}:in_range={color_range}:out_range=pc"
    return _convert(frame, "rgb24", options).to_ndarray()
