"""Decodes a clip from end to end and keeps some numbers per frame: what probing decides by."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from pipelines import cpu_limit
from pipelines.errors import MediaError, reason_of
from pipelines.images import ImageHeader, read_image, read_image_header
from pipelines.media import sniff
from pipelines.scenes import Watch
from pipelines.video import (
    color_of,
    frame_rotation,
    iter_video_frames,
    planes_crc32,
    read_video_header,
)

MAX_FRAMES = 2**21
"""Longer videos are refused: 23 hours at 25 frames a second."""
MAX_VIDEO_PIXELS = 2**43
"""Videos of more pixels in all frames together are refused: 12 hours of 3840x2160 at 25."""
_VFR_SPREAD = 0.1  # of the median distance between frames
_COARSE_CLOCK = 4  # ticks a frame up to which a tick more or less is no rounding


@dataclass(kw_only=True)
class Survey:
    """What there is to know of a clip."""

    watch: Watch
    """what its frames look like"""
    facts: dict[str, Any]
    """fields of its source"""
    times: list[int | None] = field(default_factory=list)
    """presentation time of each frame, None where it has none"""
    checksums: list[int] = field(default_factory=list)
    """of each frame's planes, or pixels"""
    leads: list[int] = field(default_factory=list)
    """frames to be decoded before each, from the key frame on; 0 for pictures"""
    damage: MediaError | None = None
    """of the first frame that could not be read, where others could"""


def survey_video(path: str) -> Survey:
    """Decode a video.

    Raises:
        MediaError: as `iter_video_frames` and `color_of`.
    """
    try:
        return _survey_frames(path)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:  # of the filters; the decoder's are MediaErrors
        raise MediaError("unsupported_pixels", reason_of(error)) from error


def _survey_frames(path: str) -> Survey:
    header = read_video_header(path)
    survey = None
    is_interlaced = False
    for frame in iter_video_frames(path):
        survey = survey or Survey(watch=Watch(frame), facts=_first_frame_facts(frame))
        survey.watch.add(frame)
        survey.leads.append(_lead(frame, survey))
        survey.times.append(frame.pts)
        survey.checksums.append(planes_crc32(frame))
        _check_length(frame, len(survey.times))
        is_interlaced = is_interlaced or frame.interlaced_frame
    if survey is None:
        raise MediaError("corrupt", "no frame could be decoded")
    survey.facts |= {
        "fps": header.fps,
        "codec": header.codec,
        "num_frames": len(survey.times),
        "interlaced": is_interlaced,
        "variable_frame_rate": _is_uneven(survey.times),
    }
    return survey


def _lead(frame: av.VideoFrame, survey: Survey) -> int:
    """Frames without a time of their own cannot be sought; they are reached from the first one."""
    before = survey.times[-1] if survey.times else None
    if frame.pts is None or (before is not None and frame.pts <= before):
        return len(survey.times)
    return 0 if frame.key_frame or not survey.leads else survey.leads[-1] + 1


def _check_length(frame: av.VideoFrame, num_frames: int) -> None:
    """A small file may hold frames for years, and each of them is progress."""
    most = min(MAX_FRAMES, MAX_VIDEO_PIXELS // (frame.width * frame.height))
    if num_frames > most:
        detail = f"more than {most} frames of {frame.width}x{frame.height}"
        raise MediaError("too_long", detail)


def _first_frame_facts(frame: av.VideoFrame) -> dict[str, Any]:
    color = color_of(frame)
    rotation = frame_rotation(frame)
    size = (frame.width, frame.height)
    width, height = size if rotation % 180 == 0 else size[::-1]
    return {
        "width": width,
        "height": height,
        "pixel_format": frame.format.name,
        "color_matrix": color.matrix,
        "color_range": color.range,
        "color_from": color.origin,
        "rotation": rotation,
    }


def _is_uneven(times: list[int | None]) -> bool:
    known = [time for time in times if time is not None]
    distances = np.diff(known)
    if len(known) < len(times) or len(distances) < 2:
        return False
    median = float(np.median(distances))
    rounding = 1 if median > _COARSE_CLOCK else 0
    return float(np.ptp(distances)) > max(_VFR_SPREAD * median, rounding)


def survey_folder(paths: Sequence[str]) -> Survey | None:
    """Decode the pictures of a folder.

    Damage does not end it: one broken file must not take a folder of photos with it.

    Args:
        paths: numbered files, in order.

    Returns:
        None where they are no clip: not all pictures, not all of one size, or most neighbours
        with nothing in common.
    """
    if not all(_is_image(path) for path in paths):
        return None
    survey = damage = None
    for path in paths:
        try:
            header, pixels = read_image_header(path), read_image(path)
        except MediaError as error:
            damage = damage or MediaError(error.reason, f"{os.path.basename(path)}: {error.detail}")
            continue
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
        survey = survey or Survey(watch=Watch(frame), facts=_folder_facts(frame, header))
        if (frame.width, frame.height) != (survey.facts["width"], survey.facts["height"]):
            return None
        survey.watch.add(frame)
        survey.times.append(None)
        survey.leads.append(0)
        survey.checksums.append(zlib.crc32(pixels.tobytes()))
        cpu_limit.renew()
        if survey.watch.num_unrelated * 2 > len(paths) - 1:
            return None
    if survey is not None:
        survey.facts["num_frames"] = len(paths)
        survey.damage = damage
    return survey


def _is_image(path: str) -> bool:
    try:
        return sniff(path) == "image"
    except OSError:
        return False  # probed by itself, it becomes a row that says so


def _folder_facts(frame: av.VideoFrame, header: ImageHeader) -> dict[str, Any]:
    return {
        "width": frame.width,
        "height": frame.height,
        "codec": header.format.lower(),
        "pixel_format": header.mode,
        "rotation": header.rotation,
    }
