"""RGB <-> YUV, pinned: every conversion names its matrix, range, chroma siting and scaler flags.

Left to itself, swscale takes these from tags that decoders fill unevenly, shifts chroma by half
a pixel, darkens by a level, and gives other bytes on other CPUs. Named options win over tags.
"""

import threading
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from av.filter import Graph

FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
MATRIX = "bt709"
RANGE = "tv"
CHROMA_LOCATION = "left"
TIME_BASE = Fraction(1, 25)

_TO_YUV = f"flags={FLAGS}:out_color_matrix={MATRIX}:out_range={RANGE}"
_TO_RGB = f"flags={FLAGS}:in_color_matrix={MATRIX}:in_range={RANGE}:out_range=pc"
_FROM_RGB_TO_RGB = f"flags={FLAGS}:out_range=pc"
_KEPT_GRAPHS = 16
_LIMITED_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


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


def rgb_to_yuv(frames: np.ndarray, pixel_format: str = "yuv420p") -> list[av.VideoFrame]:
    """Convert RGB to BT.709, limited range, chroma sited left; or, for gbrp, exactly.

    Args:
        frames: (T, H, W, 3) uint8, sRGB in [0, 255].
        pixel_format: FFmpeg's name.

    Returns:
        T frames ready to encode: pts is the index, the time base 1/25, no picture type is forced.

    Raises:
        ValueError: if `frames` is not such an array.
    """
    _check_clip(frames)
    converted = []
    for index, rgb in enumerate(frames):
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        frame = _convert(source, pixel_format, _TO_YUV + _chroma("out", pixel_format))
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


def _chroma(side: str, pixel_format: str) -> str:
    """The option that names the chroma siting, where there is chroma to sit."""
    is_subsampled = pixel_format.startswith(("yuv420", "yuv422", "yuvj42"))
    return f":{side}_chroma_loc={CHROMA_LOCATION}" if is_subsampled else ""


def yuv_to_rgb(frames: list[av.VideoFrame]) -> np.ndarray:
    """Convert frames of our own streams: BT.709, limited range, chroma sited left; or gbrp.

    Args:
        frames: 8-bit yuv420p, yuv422p, yuv444p or an RGB format, all of one size and format.

    Returns:
        (T, H, W, 3) uint8, sRGB in [0, 255].

    Raises:
        ValueError: if there is no frame, or a format that is none of these.
    """
    if not frames:
        raise ValueError("frames is empty: expected at least 1 frame")
    rgb = np.empty((len(frames), frames[0].height, frames[0].width, 3), np.uint8)
    for index, frame in enumerate(frames):
        name = frame.format.name
        if name not in ("yuv420p", "yuv422p", "yuv444p") and not is_rgb(frame):
            raise ValueError(f"{name = }: expected yuv420p, yuv422p, yuv444p or an RGB format")
        options = _FROM_RGB_TO_RGB if is_rgb(frame) else _TO_RGB + _chroma("in", name)
        rgb[index] = _convert(frame, "rgb24", options).to_ndarray()
    return rgb


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
