"""Writing a restored video: encoded pictures, everything else as it was, whole or not at all."""

import dataclasses
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import av
import av.container
import av.stream
import numpy as np
from av.sidedata.sidedata import Type

from schemas.draw import ColorDraw
from training.checkpoint import written_beside
from training.config import UserError
from training.video_input import Packet, VideoInput
from transforms.codec import side_data_of
from transforms.color import rgb_to_yuv
from transforms.source_video import Color

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Containers by suffix, FFmpeg's names."""

ENCODERS = {"h264": "libx264", "hevc": "libx265"}
"""FFmpeg's encoder of each codec that can be written."""
_OPTIONS = {"h264": {}, "hevc": {"x265-params": "log-level=error"}}
_MAX_SIDE = 16384  # of x264 and x265
_PIXEL_FORMAT = "yuv420p"
_MATRIX_TAGS = {"bt709": 1, "bt601": 6}  # ITU-T H.273
_RANGE_TAGS = {"tv": 1, "pc": 2}  # FFmpeg's AVColorRange
_UNTAGGED = 2
# What a container says of itself; the new one says its own.
_OWN_METADATA = ("major_brand", "minor_version", "compatible_brands", "encoder")
_COPIED = ("audio", "subtitle", "attachment")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pictures are encoded, and what is left out."""

    codec: Literal["h264", "hevc"] = "h264"
    """the format"""
    crf: float = 16
    """the encoder's constant rate factor, 0 (best) to 51"""
    drop: Collection[str] = ()
    """kinds of streams that are left out: audio, subtitle"""


@contextmanager
def open_output(
    path: Path,
    video: VideoInput,
    first: av.VideoFrame,
    color: Color,
    scale: int,
    encoding: Encoding,
) -> Iterator["VideoWriter"]:
    """Write a video beside its place, and put it there when it is whole.

    Args:
        path: where; its suffix tells the container.
        video: what is restored; streams, times and tags are taken over.
        first: its first frame.
        color: how its frames are read; the new ones are written alike.
        scale: HR size divided by LR size.
        encoding: how.

    Raises:
        UserError: if it cannot be written.
    """
    container = FORMATS[path.suffix.lower()]
    try:
        with (
            written_beside(path) as temporary,
            av.open(os.path.abspath(temporary), "w", format=container) as out,
        ):
            writer = VideoWriter(out, path, video, first, color, scale, encoding)
            yield writer
            writer.finish()
    except MemoryError:  # FFmpeg's is also an FFmpegError
        raise
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error


class VideoWriter:
    """An output that is being written (`open_output`)."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        path: Path,
        video: VideoInput,
        first: av.VideoFrame,
        color: Color,
        scale: int,
        encoding: Encoding,
    ) -> None:
        self._container, self._time_base = container, video.time_base
        self._color = ColorDraw(
            written_matrix="bt601" if color.matrix == "bt601" else "bt709",
            written_range="pc" if color.range == "pc" else "tv",
            written_location="left",
        )
        self._tags = _color_tags(first, color, self._color)
        self._copies: dict[int, av.stream.Stream] = {}
        for stream in video.container.streams:
            if stream.index == video.stream.index:
                self._video = self._add_video(path, video, first, scale, encoding)
            elif stream.type in encoding.drop:
                continue
            elif stream.type in _COPIED:
                self._add_copy(path, stream)
            else:
                told = f"{stream.type} stream {stream.index}"
                logger.warning("%s of %s is left out", told, video.path)
        kept = {k: v for k, v in video.container.metadata.items() if k not in _OWN_METADATA}
        container.metadata.update(kept)
        container.set_chapters(video.container.chapters())
        container.start_encoding()

    def _add_video(
        self, path: Path, video: VideoInput, first: av.VideoFrame, scale: int, encoding: Encoding
    ) -> Any:
        # 4:2:0 takes even sides.
        width, height = (side * scale + side * scale % 2 for side in (first.width, first.height))
        if max(width, height) > _MAX_SIDE:
            raise UserError(
                f"{path} would be {width}x{height}, {encoding.codec} takes {_MAX_SIDE} a side at "
                "most: scale the input down first"
            )
        options = {
            "crf": f"{encoding.crf:g}",
            "flags": "+frame_duration",
            **_OPTIONS[encoding.codec],
        }
        stream: Any = self._container.add_stream(
            ENCODERS[encoding.codec], rate=video.rate, options=options
        )
        stream.width, stream.height, stream.pix_fmt = width, height, _PIXEL_FORMAT
        stream.codec_context.time_base = video.time_base
        stream.time_base = video.time_base
        if video.stream.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = video.stream.sample_aspect_ratio
        for name, value in self._tags.items():
            setattr(stream.codec_context, name, value)
        matrix = side_data_of(first, Type.DISPLAYMATRIX)
        if matrix is not None:
            stream.set_display_matrix(np.frombuffer(matrix, "<i4").tolist())
        _describe(stream, video.stream)
        return stream

    def _add_copy(self, path: Path, stream: av.stream.Stream) -> None:
        try:
            copy = self._container.add_stream_from_template(stream)
        except ValueError as error:
            if stream.type == "attachment":
                logger.warning("attachment %d does not fit into %s", stream.index, path)
                return
            codec = stream.codec_context.name if stream.codec_context else "an unknown codec"
            option = "subtitles" if stream.type == "subtitle" else stream.type
            other = "" if path.suffix.lower() == ".mkv" else "write to .mkv, or "
            raise UserError(
                f"{path} cannot hold {stream.type} stream {stream.index} ({codec}): {other}leave "
                f"it out with --drop {option}"
            ) from error
        _describe(copy, stream)
        self._copies[stream.index] = copy

    def write(self, picture: np.ndarray, pts: int, duration: int | None) -> None:
        """Encode a picture.

        Args:
            picture: (H, W, 3) uint8 RGB.
            pts: its time, ticks of the input's clock.
            duration: how long it is shown, ticks; None where that is not known.
        """
        rows, columns = (side % 2 for side in picture.shape[:2])
        if rows or columns:
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        (frame,) = rgb_to_yuv(picture[None], _PIXEL_FORMAT, self._color)
        frame.pts, frame.time_base = pts, self._time_base
        frame.duration = duration or 0
        for name, value in self._tags.items():
            setattr(frame, name, value)
        self._container.mux(self._video.encode(frame))

    def copy(self, packets: Sequence[Packet]) -> None:
        """Take over packets of other streams."""
        for packet in packets:
            if (stream := self._copies.get(packet.stream_index)) is not None:
                packet.stream = stream
                self._container.mux(packet)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._video.encode(None))


def _describe(stream: av.stream.Stream, like: av.stream.Stream) -> None:
    """Language, title, and what it is for."""
    stream.metadata.update(like.metadata)
    stream.disposition = like.disposition


def _color_tags(first: av.VideoFrame, color: Color, written: ColorDraw) -> dict[str, int]:
    """The input's tags. Matrix and range, which a larger picture would have assumed otherwise, are
    named in any case."""
    matrix = first.colorspace if first.colorspace != _UNTAGGED and color.matrix else None
    if matrix is None or color.matrix != written.written_matrix:
        matrix = _MATRIX_TAGS[written.written_matrix]
    return {
        "colorspace": int(matrix),
        "color_range": _RANGE_TAGS[written.written_range],
        "color_primaries": int(first.color_primaries),
        "color_trc": int(first.color_trc),
    }
