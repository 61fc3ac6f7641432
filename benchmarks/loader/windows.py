"""Which windows are read, and how a window comes from a sample's members in memory.

What runs in other interpreters imports this, so that only torch and what `transforms` needs may be
imported here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from benchmarks.stopwatch import cpu_seconds
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, lr_member, mv_member
from training.augment import AUGMENTATIONS
from training.batch import Batch, Window, collate
from transforms.decode import decode_hr, decode_lr
from transforms.motion import Flow, dense_flow, lr_size, read_blocks

Members = Mapping[str, bytes]
"""a sample's members, by extension"""


class Request(NamedTuple):
    """A window to be read."""

    key: str
    """the sample"""
    stream: int
    """the LR stream, 0-based"""
    start: int
    """first frame"""
    num_frames: int
    """of the window"""
    top: int
    """first row, LR pixels"""
    left: int
    """first column, LR pixels"""
    side: int
    """of the square crop, LR pixels"""


Epochs = Sequence[Sequence[Request]]
"""What is read, in order; in each epoch every sample once."""


class Reading(NamedTuple):
    """What it took to read all requests."""

    windows: int
    seconds: float
    cpu_seconds: float
    """of the process, all threads"""


class Pixels(NamedTuple):
    """The pictures of a window before they are turned."""

    lr: np.ndarray
    """(T, side, side, 3) uint8 RGB"""
    hr: np.ndarray
    """(T, scale * side, scale * side, 3) uint8 RGB"""


def parse_sample(members: Members) -> Sample:
    """The sample's record."""
    return Sample.model_validate(json.loads(members[JSON_MEMBER]))


def decode_pixels(sample: Sample, members: Members, request: Request) -> Pixels:
    """Decode what a window takes, and no more."""
    lr_bytes = members[lr_member(request.stream)]
    lr = decode_lr(sample.streams[request.stream], lr_bytes, request.start, request.num_frames)
    hr = decode_hr(
        sample,
        members[HR_MEMBER],
        start=request.start,
        count=request.num_frames,
        top=sample.scale * request.top,
        left=sample.scale * request.left,
        height=sample.scale * request.side,
        width=sample.scale * request.side,
    )
    return Pixels(_crop(lr, request), hr)


def decode_motion(sample: Sample, members: Members, request: Request) -> Flow:
    """The dense motion of a window."""
    stream = sample.streams[request.stream]
    blocks = read_blocks(members[mv_member(request.stream)])
    flow = dense_flow(blocks, stream, *lr_size(stream), request.start, request.num_frames)
    return Flow(*(_crop(x, request) for x in flow))


def _crop(x: np.ndarray, request: Request) -> np.ndarray:
    bottom, right = request.top + request.side, request.left + request.side
    return x[:, request.top : bottom, request.left : right]


def decode_window(members: Members, request: Request) -> Window:
    """What our reader makes of a window of a clip, before it is turned."""
    sample = parse_sample(members)
    stream = sample.streams[request.stream]
    frames = stream.frames[request.start : request.start + request.num_frames]
    return Window(
        key=sample.key,
        stream_name=stream.name,
        kind=sample.kind,
        **decode_pixels(sample, members, request)._asdict(),
        flow=decode_motion(sample, members, request),
        frame_type=np.array([frame.frame_type.code for frame in frames], np.int64),
        qp=np.array([frame.qp_mean for frame in frames], np.float32),
        crf=stream.crf,
    )


def batches(windows: Iterable[Window], batch_size: int) -> Iterator[Batch]:
    """Turn windows at random, and stack them as our reader does."""
    rng, waiting = np.random.default_rng(0), list[Window]()
    for window in windows:
        waiting.append(_turned(window, rng))
        if len(waiting) == batch_size:
            yield collate(waiting)
            waiting = []
    if waiting:
        yield collate(waiting)


def _turned(window: Window, rng: np.random.Generator) -> Window:
    for augmentation in AUGMENTATIONS:
        if rng.random() < 0.5:
            window = augmentation(window)
    return window


def digest(pictures: Iterable[tuple[str, Pixels]]) -> str:
    """SHA-256 of the pictures of an epoch, whatever the order of the samples."""
    hashed = [
        (key, hashlib.sha256(pixels.lr.tobytes() + pixels.hr.tobytes()).hexdigest())
        for key, pixels in pictures
    ]
    return hashlib.sha256(json.dumps(sorted(hashed)).encode()).hexdigest()


def timed(read: Callable[[], int]) -> Reading:
    """Time what reads windows and returns how many they were."""
    started, cpu_started = time.perf_counter(), cpu_seconds()
    windows = read()
    return Reading(windows, time.perf_counter() - started, cpu_seconds() - cpu_started)


def use_one_thread() -> None:
    """Let this process use one thread, in all libraries that would start more."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
