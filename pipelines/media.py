"""Opens media by path or URL: what a file is, and the clips of a video or of a frame folder.

Files are told by content, never by name.
"""

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import av
import numpy as np

from pipelines import cpu_limit
from pipelines.cache import local_copies
from pipelines.errors import MediaError, reason_of
from pipelines.images import read_image
from pipelines.video import (
    MAX_LEAD_FRAMES,
    iter_video_frames,
    planes_crc32,
    to_rgb,
)
from schemas.plan import Span
from schemas.source import Source, SourceKind
from transforms.source_video import SNIFFED_BYTES, demuxer_of, is_riff

MAX_FILE_BYTES = 2**42
"""Larger files are refused before they are read, since a sparse file may claim any size: 12 hours
at 800 Mbit/s."""
_SECONDS_BEFORE = (0, 1, 4, 16, 64)
_HASHED_BYTES = 2**20  # at a time
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")


def sniff(path: str) -> Literal["image", "video"] | None:
    """What a file is by its first bytes; None for anything that is neither.

    Raises:
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(SNIFFED_BYTES)
    if head.startswith(_IMAGE_STARTS) or is_riff(head, b"WEBP"):
        return "image"
    return None if demuxer_of(head) is None else "video"


def file_sha256(path: str) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_HASHED_BYTES):
            digest.update(data)
            cpu_limit.renew()
    return digest.hexdigest()


def folder_sha256(digests: Iterable[str]) -> str:
    """What identifies a frame folder, of the hashes of its files in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def read_clip(paths: Sequence[str], source: Source, span: Span) -> np.ndarray:
    """Read the frames of a span of a video or of a frame folder.

    Args:
        paths: the video, or the folder's pictures in order.
        source: what probing found out about it.
        span: which frames.

    Returns:
        (T, H, W, 3) uint8, RGB in [0, 255], upright; T is `span.count`.

    Raises:
        MediaError: as `iter_video_frames` and `read_image`, or truncated, or changed where
            the frames are not those that were probed.
    """
    clip = np.empty((span.count, source.height, source.width, 3), np.uint8)
    checksums: list[int] = []
    frames = _folder_frames if source.kind is SourceKind.FRAMES else _video_frames
    for index, (checksum, picture) in enumerate(frames(paths, source, span)):
        if picture.shape != clip.shape[1:]:
            detail = f"frame {span.start + index} is {picture.shape}, was {clip.shape[1:]}"
            raise MediaError("changed", detail)
        clip[index] = picture
        checksums.append(checksum)
    if len(checksums) < span.count:
        detail = f"{len(checksums)} of {span.count} frames from frame {span.start} on"
        raise MediaError("truncated", detail)
    if span.crc32 and checksum_of(checksums) != span.crc32:
        raise MediaError("changed", f"frames from {span.start} on are not those that were probed")
    return clip


def checksum_of(checksums: Sequence[int]) -> int:
    """One checksum of those of all frames of a span."""
    return zlib.crc32(np.array(checksums, "<u4").tobytes())


def read_photo(path: str, source: Source) -> np.ndarray:
    """Read an image source, if its file still is what was probed.

    Returns:
        (H, W, 3) uint8, as `read_image` returns it.

    Raises:
        MediaError: as `read_image`, or changed.
    """
    with local_copies([path]) as (local,):
        try:
            digest = file_sha256(local)
        except OSError as error:
            raise MediaError("unreadable", error.strerror or str(error)) from error
        if digest != source.source_id:
            raise MediaError("changed", f"{os.path.basename(path)} is not what was probed")
        return read_image(local)


def _folder_frames(
    paths: Sequence[str], source: Source, span: Span
) -> Iterator[tuple[int, np.ndarray]]:
    """(checksum, picture) of each frame."""
    for path in paths[span.start : span.start + span.count]:
        with local_copies([path]) as (local,):
            picture = read_image(local)
        cpu_limit.renew()
        yield zlib.crc32(picture.tobytes()), picture


def _video_frames(
    paths: Sequence[str], source: Source, span: Span
) -> Iterator[tuple[int, np.ndarray]]:
    """(checksum, picture) of each frame."""
    with local_copies(paths[:1]) as (path,):
        frames = _frames_after_seek(path, span) or _frames_after_count(path, span)
        try:
            for _, frame in zip(range(span.count), frames, strict=False):
                picture = to_rgb(frame, source.color_matrix, source.color_range, source.rotation)
                yield planes_crc32(frame), picture
        except MemoryError:
            raise
        except av.error.FFmpegError as error:  # of the conversion
            raise MediaError("unsupported_pixels", reason_of(error)) from error


def _frames_after_seek(path: str, span: Span) -> Iterator[av.VideoFrame] | None:
    """The frames from the span's first one on; None where seeking does not lead to it.

    Some containers lead to any frame, some a little too far, and not all that is called a key frame
    is one. So what is not found is looked for from earlier on; twice the lead is for all attempts.
    """
    lead = itertools.count()
    for seconds in _SECONDS_BEFORE:
        frames = iter_video_frames(path, span.start_pts, seconds)
        try:
            for frame in frames:
                if frame.pts is None or frame.pts > span.start_pts:
                    break
                if frame.pts == span.start_pts and planes_crc32(frame) == span.start_crc32:
                    return _chained(frame, frames)
                if next(lead) > 2 * MAX_LEAD_FRAMES:
                    return None
        except MediaError:
            continue  # without what came before, a frame may be undecodable
    return None


def _frames_after_count(path: str, span: Span) -> Iterator[av.VideoFrame]:
    if span.start > MAX_LEAD_FRAMES:
        detail = f"no key frame leads to frame {span.start}, as one did when it was probed"
        raise MediaError("changed", detail)
    for index, frame in enumerate(iter_video_frames(path)):
        if index == span.start and planes_crc32(frame) != span.start_crc32:
            raise MediaError("changed", f"frame {index} is not the one that was probed")
        if index >= span.start:
            yield frame


def _chained(first: av.VideoFrame, others: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    yield first
    yield from others
