"""Motion fields made otherwise: none, as CAVSR's released loader, and without distances.

The loader's faults are kept: whole pixels, no distance to the reference, the last row and column
left out. What its column `scale` holds is not known: FFmpeg's motion_scale, 4 for H.264, or 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.motion import MV_UNITS_PER_PIXEL
from schemas.sample import FrameType, Stream
from transforms import motion
from transforms.motion import Flow


def released_flow(scale: int) -> Callable[..., Flow]:
    """A function like `transforms.motion.dense_flow`, with the released loader's fields.

    Args:
        scale: what its column `scale` is taken to hold, 4 or 1.
    """

    def dense_flow(
        blocks: np.ndarray,
        stream: Stream,
        height: int,
        width: int,
        start: int,
        count: int,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> Flow:
        forward, backward = _maps(blocks, len(stream.frames), height, width, scale)
        for t, frame in enumerate(stream.frames[:-1]):
            if frame.frame_type is not FrameType.B:
                forward[t] = -backward[t + 1]
        previous, following = np.zeros_like(forward), np.zeros_like(forward)
        previous[1:], following[:-1] = -forward[:-1], -backward[1:]
        cut = (slice(start, start + count), rows, columns)
        known = np.full(previous[cut].shape[:3], 3, np.uint8)
        return Flow(previous[cut], following[cut], known)

    return dense_flow


def anchor_flow(blocks: np.ndarray, stream: Stream, *more: Any, **windows: Any) -> Flow:
    """`transforms.motion.dense_flow` of vectors whose reference is taken to be the nearest I or P
    frame on its side, as where distances are not recovered."""
    anchors = np.flatnonzero([frame.frame_type is not FrameType.B for frame in stream.frames])
    frame, is_future = blocks["frame"].astype(int), blocks["ref_distance"] > 0
    before = anchors[(np.searchsorted(anchors, frame) - 1).clip(0)]
    after = anchors[np.searchsorted(anchors, frame, side="right").clip(max=len(anchors) - 1)]
    distance = np.where(is_future, after, before) - frame
    moved = blocks.copy()
    moved["ref_distance"] = np.where(distance == 0, blocks["ref_distance"], distance)
    return motion.dense_flow(moved, stream, *more, **windows)


def no_flow(
    blocks: np.ndarray,
    stream: Stream,
    height: int,
    width: int,
    start: int,
    count: int,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Flow:
    """A function like `transforms.motion.dense_flow` that knows no motion."""
    vectors = np.zeros((count, height, width, 2), np.float32)[:, rows, columns]
    return Flow(vectors, vectors.copy(), np.zeros(vectors.shape[:3], np.uint8))


def _maps(
    blocks: np.ndarray, num_frames: int, height: int, width: int, scale: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors into the future and into the past as they are, (T, h, w, 2) each."""
    forward = np.zeros((num_frames, height, width, 2), np.float32)
    backward = np.zeros_like(forward)
    for block in blocks:
        field = forward if block["ref_distance"] > 0 else backward
        top, left = (
            int(block[c]) - int(block[s]) // 2 for c, s in (("y", "height"), ("x", "width"))
        )
        bottom = min(top + int(block["height"]), height - 1)
        right = min(left + int(block["width"]), width - 1)
        moved = [int(int(block[axis]) / MV_UNITS_PER_PIXEL) for axis in ("mv_x", "mv_y")]
        field[block["frame"], max(top, 0) : bottom, max(left, 0) : right] = np.divide(moved, scale)
    return forward, backward
