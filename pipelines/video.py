"""Videos by local path: their frames as FFmpeg decodes them, and how to read their colours.

What may be opened and how colours are read is told by `transforms.source_video`. Rotation tags of
quarter turns are applied. Frames are taken one by one as decoded; timestamps only serve to find a
frame again.
"""

import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import av.container
import av.stream
import av.video
import numpy as np

from pipelines import cpu_limit
from pipelines.errors import MediaError, reason_of
from pipelines.images import MAX_PIXELS
from transforms import source_video
from transforms.color import source_to_rgb
from transforms.source_video import (
    OPEN_OPTIONS,
    SNIFFED_BYTES,
    Color,
    ColorError,
    demuxer_of,
)

# explode: fail on what a decoder would conceal, since concealed frames are not the video's.
_DECODER_OPTIONS = {"err_detect": "crccheck+explode", "max_pixels": str(MAX_PIXELS)}

MAX_LEAD_FRAMES = 2**12
"""How many frames may be decoded to get at the first one of a clip, so that all clips of a video
cost no more than a multiple of it."""
_FORGIVEN_PACKETS = 16  # after a seek, until there is a frame: what they refer to was passed over


@dataclass(frozen=True, kw_only=True)
class VideoHeader:
    """What a video's container says."""

    codec: str
    """FFmpeg's name of the coded format"""
    fps: float
    """average frame rate, 0 where it is not known"""


def read_video_header(path: str) -> VideoHeader:
    """Read what a video's container says.

    Raises:
        MediaError: unreadable, corrupt, not_media, undecodable or too_large.
    """
    with _opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        return VideoHeader(codec=stream.codec_context.name, fps=float(rate))


@contextmanager
def _opened(path: str) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    try:
        demuxer = _read_demuxer(path)
        # An absolute path is never taken for a protocol, whatever its name.
        with av.open(
            os.path.abspath(path),
            format=demuxer or None,
            options=OPEN_OPTIONS,
            metadata_errors="replace",
        ) as container:
            yield container, _video_stream(container)
    except (FileNotFoundError, PermissionError) as error:  # FFmpeg's are kinds of these
        raise MediaError("unreadable", reason_of(error)) from error
    except MemoryError:  # FFmpeg's is also an FFmpegError
        raise
    except av.error.FFmpegError as error:
        raise MediaError("corrupt", reason_of(error)) from error
    except OSError as error:  # of the file itself
        raise MediaError("unreadable", reason_of(error)) from error


def _read_demuxer(path: str) -> str:
    with open(path, "rb") as file:
        demuxer = demuxer_of(file.read(SNIFFED_BYTES))
    if demuxer is None:
        raise MediaError("not_media", "no video by its first bytes")
    return demuxer


def _video_stream(container: av.container.InputContainer) -> av.video.VideoStream:
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise MediaError("not_media", f"{container.format.name} without a video stream")
    stream = streams[0]
    if stream.codec_context is None:  # damage or a format that FFmpeg cannot decode
        raise MediaError("undecodable", f"{container.format.name} with video of an unknown form")
    if stream.width * stream.height > MAX_PIXELS:
        detail = f"{stream.width}x{stream.height} pixels, at most {MAX_PIXELS} in all"
        raise MediaError("too_large", detail)
    stream.codec_context.options = dict(_DECODER_OPTIONS)
    stream.codec_context.thread_count = 1
    return stream


def iter_video_frames(
    path: str, start_pts: int | None = None, seconds_before: float = 0
) -> Iterator[av.VideoFrame]:
    """Decode a video's first picture stream. Each frame is progress (`pipelines.cpu_limit`).

    Args:
        path: the file.
        start_pts: begin at a key frame near this time, in the stream's time base; wherever the
            container leads to, which may be too late.
        seconds_before: begin so much earlier.

    Yields:
        Frames as decoded, in presentation order, all of one size and pixel format.

    Raises:
        MediaError: unreadable, corrupt, not_media, undecodable, too_large, or format_changes
            midway.
    """
    first, num_forgiven = None, 0
    with _opened(path) as (container, stream):
        packets = container.demux(stream)
        if start_pts is not None:
            before = round(seconds_before / (stream.time_base or 1))
            container.seek(start_pts - before, stream=stream)
            packets, num_forgiven = _from_key_frame(packets), _FORGIVEN_PACKETS
        for packet in packets:
            if packet.is_corrupt:
                raise MediaError("corrupt", f"packet at {packet.pts} is incomplete")
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if first is not None or not num_forgiven:
                    raise
                num_forgiven -= 1
                continue
            for frame in frames:
                cpu_limit.renew()
                _check_frame(frame, first or frame)
                first = first or frame
                yield frame


def _from_key_frame(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """What can be decoded after a seek, which may lead anywhere.

    The pictures that follow a key frame and are shown before it (of an open GOP) refer to what
    came earlier.
    """
    near = itertools.islice(packets, MAX_LEAD_FRAMES)
    key = next((packet for packet in near if packet.is_keyframe), None)
    if key is None:
        return
    yield key
    for packet in packets:
        if packet.pts is None or key.pts is None or packet.pts >= key.pts:
            yield packet


def _check_frame(frame: av.VideoFrame, first: av.VideoFrame) -> None:
    if frame.is_corrupt:
        raise MediaError("corrupt", f"frame at {frame.pts} is damaged")
    old = (first.width, first.height, first.format.name)
    new = (frame.width, frame.height, frame.format.name)
    if new != old:
        raise MediaError("format_changes", f"from {old} to {new} at {frame.pts}")


def color_of(frame: av.VideoFrame) -> Color:
    """How to read a video (`transforms.source_video.color_of`).

    Raises:
        MediaError: hdr, wide_gamut or unsupported_matrix.
    """
    try:
        return source_video.color_of(frame)
    except ColorError as error:
        raise MediaError(error.reason, error.detail) from error


def to_rgb(frame: av.VideoFrame, matrix: str, color_range: str, rotation: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame, turned by `rotation` degrees counter-clockwise."""
    return np.rot90(source_to_rgb(frame, matrix, color_range), rotation // 90)


def frame_rotation(frame: av.VideoFrame) -> int:
    """Degrees counter-clockwise by which to turn a frame: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def planes_crc32(frame: av.VideoFrame) -> int:
    """zlib.crc32 of what is visible of a frame's planes, row by row."""
    if any(plane.line_size < 0 for plane in frame.planes):  # stored bottom up
        return zlib.crc32(source_to_rgb(frame, "bt601", "tv").tobytes())
    crc = 0
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
        visible = rows.reshape(plane.height, plane.line_size)[:, : _row_bytes(frame, index)]
        crc = zlib.crc32(visible.tobytes(), crc)
    return crc


def _row_bytes(frame: av.VideoFrame, index: int) -> int:
    components = [part for part in frame.format.components if part.plane == index]
    if len({part.plane for part in frame.format.components}) == 1:
        bits = frame.format.padded_bits_per_pixel if components else 0
        return (frame.width * bits + 7) // 8
    return sum(part.width * ((part.bits + 7) // 8) for part in components)
