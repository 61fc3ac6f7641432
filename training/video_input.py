"""A video file as clips to restore: windows of frames with the metadata of their own bitstream.

As many frames are held as a window takes, and those around it to which its motion vectors may
refer, whatever the video's length.
"""

import dataclasses
import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import av.container
import av.stream
import av.video
import numpy as np

from schemas.motion import MOTION_DTYPE
from schemas.record import UNKNOWN
from training.config import UserError
from training.inference import Clip, Span, TileOptions, span
from transforms.color import source_to_rgb
from transforms.motion import MAX_FUTURE, MAX_PAST, Flow, coded_flow, extract_blocks
from transforms.source_video import (
    OPEN_OPTIONS,
    SNIFFED_BYTES,
    ColorError,
    SourceFrame,
    color_of,
    demuxer_of,
    source_coding,
)

# Damaged pictures are shown, as players do.
_DECODER_OPTIONS = {
    "flags": "+output_corrupt",
    "flags2": "+export_mvs",
    "max_pixels": OPEN_OPTIONS["max_pixels"],
}
_ENDING_SILENTLY = ("matroska", "flv")
_ASSUMED_RATE = Fraction(25)  # frames per second, where a file tells no times

Packet: TypeAlias = "av.Packet[Any]"


@dataclasses.dataclass(frozen=True)
class _PacketNumber:
    """What a decoder hands on from a packet to its frame; PyAV tells objects by their identity, so
    that plain numbers, which may be one object, would not do."""

    number: int


class VideoInput:
    """An opened video: its frames in turn, and beside them the packets of its other streams.

    Args:
        path: the file.
        container: the same, opened.

    Raises:
        UserError: if it has no video that can be decoded.
    """

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path = path
        self.container = container
        self.stream = _video_stream(path, container)
        self.damaged_packets = 0
        """that could not be decoded, or were incomplete"""
        self.damaged_frames = 0
        """that were decoded all the same"""
        self.is_interlaced = False
        """whether any frame so far was"""
        self._end = 0.0  # seconds: of all packets so far
        self._others: list[Packet] = []
        self._first: av.VideoFrame | None = None
        self._last_pts: int | None = None
        # AVI tells when packets are decoded; of H.264, whose order FFmpeg does not look into, these
        # are given as the times of the frames.
        coding_times = container.format.name == "avi" and self.stream.codec_context.name == "h264"
        self._coding_times: list[int] | None = [] if coding_times else None  # a heap

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.stream.average_rate or self.stream.guessed_rate or _ASSUMED_RATE

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick of the frames' clock."""
        return self.stream.time_base or 1 / self.rate

    @property
    def frames_told(self) -> int | None:
        """How many frames there are, as the container tells or its length lets expect."""
        if self.stream.frames:
            return self.stream.frames
        if self.stream.duration:
            return round(self.stream.duration * self.time_base * self.rate)
        if self.container.duration:
            return round(self.container.duration * self.rate / av.time_base)
        return None

    @property
    def missing_seconds(self) -> float:
        """How much earlier the file ended than it says, once it is read; 0 if it does not say.

        Only of containers whose readers pass over a missing end, and that write down their length:
        of others it may be a guess.
        """
        if (
            not self.container.format.name.startswith(_ENDING_SILENTLY)
            or not self.container.duration
        ):
            return 0
        start = self.container.start_time or 0
        return max((start + self.container.duration) / av.time_base - self._end, 0)

    def take_packets(self) -> list[Packet]:
        """Packets of other streams that were passed since the last call, as they are."""
        taken, self._others = self._others, []
        return taken

    def frames(self) -> Iterator[SourceFrame]:
        """Decode the video, once.

        Yields:
            Frames with motion vectors, in presentation order, of one size, later and later.

        Raises:
            UserError: if the file cannot be read on, or the size changes.
        """
        for number, packet in enumerate(self._video_packets()):
            packet.opaque = _PacketNumber(number)
            is_damaged = packet.is_corrupt
            decoded: list[av.VideoFrame] = []
            try:
                decoded = self.stream.decode(packet)
            except MemoryError:  # FFmpeg's is also an FFmpegError
                raise
            except av.FFmpegError:
                is_damaged = True
            self.damaged_packets += is_damaged
            if self._coding_times is not None and packet.pts is not None and not is_damaged:
                heapq.heappush(self._coding_times, packet.pts)
            for frame in decoded:
                self._check(frame)
                self._set_time(frame)
                told = frame.opaque
                index = told.number if isinstance(told, _PacketNumber) else number
                yield SourceFrame(frame, index)

    def _video_packets(self) -> Iterator[Any]:
        try:
            for packet in self.container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    ticks = packet.pts + (packet.duration or 0)
                    self._end = max(self._end, float(ticks * packet.time_base))
                # The empty packets that end streams have no index of their own.
                if packet.stream.index == self.stream.index:
                    yield packet
                elif packet.dts is not None or packet.size:
                    self._others.append(packet)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise UserError(
                f"{self.path} cannot be read to its end ({error.strerror}): get a whole copy, or "
                "cut it before the damage"
            ) from error

    def _check(self, frame: av.VideoFrame) -> None:
        self._first = self._first or frame
        old, new = ((f.width, f.height) for f in (self._first, frame))
        if new != old:
            sizes = f"from {old[0]}x{old[1]} to {new[0]}x{new[1]}"
            raise UserError(f"{self.path} changes {sizes} in the middle: cut it into parts there")
        self.damaged_frames += frame.is_corrupt
        self.is_interlaced |= frame.interlaced_frame

    def _set_time(self, frame: av.VideoFrame) -> None:
        """Fill in times that are missing, and put right those that go back."""
        if self._coding_times:
            frame.pts = heapq.heappop(self._coding_times)
        if frame.pts is None:
            tick = max(round(1 / (self.rate * self.time_base)), 1)
            frame.pts = 0 if self._last_pts is None else self._last_pts + tick
        if self._last_pts is not None:
            frame.pts = max(frame.pts, self._last_pts + 1)
        self._last_pts = frame.pts


@contextmanager
def open_video(path: Path) -> Iterator[VideoInput]:
    """Open a video by its content.

    Raises:
        UserError: if it is none, or none that can be decoded.
    """
    with _opened(path) as container:
        yield VideoInput(path, container)


def demuxer_at(path: Path) -> str:
    """FFmpeg's demuxer for a file, by its first bytes; empty where FFmpeg must find out.

    Raises:
        UserError: if it is no video, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            demuxer = demuxer_of(file.read(SNIFFED_BYTES))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    if demuxer is None:
        raise UserError(f"{path} is neither a picture nor a video, by its first bytes")
    return demuxer


def _opened(path: Path) -> av.container.InputContainer:
    demuxer = demuxer_at(path)
    try:
        # An absolute path is never taken for a protocol, whatever its name.
        return av.open(
            os.path.abspath(path),
            format=demuxer or None,
            options=OPEN_OPTIONS,
            metadata_errors="replace",
        )
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise UserError(f"{path} is no video that can be opened ({error.strerror})") from error


def _video_stream(
    path: Path, container: av.container.InputContainer
) -> av.video.stream.VideoStream:
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise UserError(f"{path} has no video stream")
    stream = streams[0]
    if stream.codec_context is None:  # damage, or a format that FFmpeg cannot decode
        raise UserError(f"{path} holds video of a form that cannot be decoded")
    stream.codec_context.options = dict(_DECODER_OPTIONS)
    stream.codec_context.copy_opaque = True
    stream.codec_context.thread_count = 1
    return stream


class Window(NamedTuple):
    """A part of a video, to be restored at once."""

    clip: Clip
    kept: slice
    """frames of the clip whose results are kept"""
    times: Sequence[tuple[int, int | None]]
    """(pts, duration) of the frames that are kept, ticks"""


class WindowReader:
    """Cuts a video into windows that overlap.

    Args:
        video: opened, and not read yet.
        options: how long windows and overlaps are.

    Raises:
        UserError: if there is no frame, or its colours cannot be read.
    """

    def __init__(self, video: VideoInput, options: TileOptions) -> None:
        self._options = options
        self._codec = video.stream.codec_context.name
        self._coming = video.frames()
        self._start = 0  # number of the first frame at hand
        self._frames: list[SourceFrame] = []
        self._blocks: list[np.ndarray] = []  # of each of these frames, as far as they are known
        self._read_until(1)
        if not self._frames:
            raise UserError(f"{video.path} holds no picture that can be decoded")
        self.first = self._frames[0].picture
        """the first frame"""
        try:
            self.color = color_of(self.first)
            """how all frames are read"""
        except ColorError as error:
            raise UserError(
                f"{video.path} cannot be restored ({error.detail}): convert it to BT.709 first"
            ) from error

    def __iter__(self) -> Iterator[Window]:
        size, overlap = self._options.frames, self._options.overlap_frames
        start = 0
        while True:
            # A frame behind the window lends its motion, and that one refers to others.
            self._read_until(start + size + 1 + MAX_FUTURE)
            part = span(start, self._stop, size, overlap)
            yield self._window(part)
            if part.stop == self._stop:
                return
            start += size - 2 * overlap
            self._drop_until(start - 1 - MAX_PAST)

    @property
    def _stop(self) -> int:
        """Number of the frame behind those at hand."""
        return self._start + len(self._frames)

    def _read_until(self, stop: int) -> None:
        while self._stop < stop and (frame := next(self._coming, None)) is not None:
            self._frames.append(frame)

    def _drop_until(self, start: int) -> None:
        count = max(start - self._start, 0)
        del self._frames[:count], self._blocks[:count]
        self._start += count

    def _window(self, part: Span) -> Window:
        first = part.start - self._start
        seen = slice(first, part.stop - self._start)
        self._extract_until(seen.stop + 1)
        codes = [coding.code for coding in source_coding(self._frames)[seen]]
        known = any(code != UNKNOWN for code in codes)
        pictures = [frame.picture for frame in self._frames[seen]]
        read = [source_to_rgb(x, self.color.matrix, self.color.range) for x in pictures]
        clip = Clip(
            lr=np.stack(read),
            frame_type=np.array(codes, np.int64) if known else None,
            flow=self._flow(first, len(codes)),
        )
        times = [(x.pts or 0, x.duration) for x in pictures[part.inner]]
        return Window(clip, part.inner, times)

    def _extract_until(self, stop: int) -> None:
        """Find the vectors of the frames at hand up to position `stop`."""
        wanted = range(len(self._blocks), min(stop, len(self._frames)))
        blocks = extract_blocks(
            [frame.picture for frame in self._frames],
            source_coding(self._frames),
            self._codec,
            # Of the decoders that export vectors, all others belong to codecs that refer to none
            # but the nearest I or P frames.
            anchors_only=self._codec != "h264",
            wanted=wanted,
        )
        blocks = blocks[blocks["ref_distance"] != 0]
        for index in wanted:
            # The decoder makes some up for gaps.
            of_frame = (blocks["frame"] == index) & (not self._frames[index].picture.is_corrupt)
            self._blocks.append(blocks[of_frame])

    def _flow(self, first: int, count: int) -> Flow | None:
        """Motion of frames at hand; None where nothing is known of any."""
        numbered = [np.empty(0, MOTION_DTYPE)]
        for index, blocks in enumerate(self._blocks):
            if first - 1 <= index <= first + count and len(blocks):
                numbered.append(blocks.copy())
                numbered[-1]["frame"] = index
        if len(numbered) == 1:
            return None
        height, width = self.first.height, self.first.width
        return coded_flow(np.concatenate(numbered), height, width, first, count)
