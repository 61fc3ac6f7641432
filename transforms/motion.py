"""Motion vectors: read from a decoder, given their reference distance, made dense.

Decoders export the direction of a reference, not its distance. For the MPEG formats the
distance follows from the frame types; for H.264 it is found photometrically, block by block
(the reference whose motion-compensated block is closest).
"""

import io
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from av.sidedata.sidedata import Type

from schemas.draw import CropDraw, PadDraw, ResizeDraw
from schemas.motion import MOTION_DTYPE, MV_UNITS_PER_PIXEL
from schemas.sample import FrameType, Stream
from transforms.codec import side_data_of

MAX_PAST, MAX_FUTURE = 8, 5
"""Farthest references tried, frames."""

_DISTANCE_PENALTY = 0.02  # levels a frame: prefers the nearer of references that fit alike
_CELL = 8  # decoders export no block smaller than 8x8, and all lie on that grid
_STORED_DTYPE = np.dtype("<i2")  # of every column in the member; all fields are 16 bits wide
_NUM_COLUMNS = MOTION_DTYPE.itemsize // _STORED_DTYPE.itemsize


class Coding(Protocol):
    """What has to be known of how a frame was coded; records of frames tell it."""

    @property
    def coding_index(self) -> int:
        """position in the stream"""

    @property
    def frame_type(self) -> FrameType | None:
        """I, P or B; None where it is not known"""

    @property
    def key_frame(self) -> bool:
        """nothing refers across it"""


def extract_blocks(
    frames: Sequence[av.VideoFrame],
    records: Sequence[Coding],
    codec: str,
    *,
    anchors_only: bool,
    wanted: range | None = None,
) -> np.ndarray:
    """Collect the motion vectors of a decoded stream, or of a part of it.

    Args:
        frames: decoded with side data, in presentation order.
        records: the frames' records, in the same order.
        codec: FFmpeg's name of the coded format.
        anchors_only: blocks refer to the nearest I or P frame, so there is nothing to search.
        wanted: frames whose vectors are collected; None for all. The others are there to be
            referred to: with `MAX_PAST` before and `MAX_FUTURE` behind, a part gives what the whole
            stream gives, but for runs of more B frames.

    Returns:
        (N,) array of `MOTION_DTYPE`, by frame, which is a position in `frames`; empty where the
        decoder exports no vectors. The distance is 0 where none of `frames` can be the reference.
    """
    wanted = range(len(frames)) if wanted is None else wanted
    exported = [_exported_blocks(index, frames[index]) for index in wanted]
    blocks = np.concatenate([np.empty(0, MOTION_DTYPE), *exported])
    if codec == "mpeg4":
        blocks = blocks[~_may_be_direct(blocks, records)]
    if not len(blocks):
        return blocks
    past = blocks["ref_distance"] < 0
    luma = np.stack([_luma(frame) for frame in frames])
    for side, step in ((past, -1), (~past, 1)):
        candidates = [_candidates(i, step, records, anchors_only) for i in range(len(frames))]
        blocks["ref_distance"][side] = _distances(blocks[side], candidates, luma)
    return blocks


def _exported_blocks(index: int, frame: av.VideoFrame) -> np.ndarray:
    """A frame's blocks; of the reference distance only the sign is right yet."""
    side_data = side_data_of(frame, Type.MOTION_VECTORS)
    exported: Any = np.empty(0) if side_data is None else side_data.to_ndarray()
    blocks = np.zeros(len(exported), MOTION_DTYPE)
    if not len(exported):
        return blocks
    blocks["frame"] = index
    blocks["ref_distance"] = exported["source"]
    for ours, theirs in {"x": "dst_x", "y": "dst_y", "width": "w", "height": "h"}.items():
        blocks[ours] = exported[theirs]
    for axis in ("mv_x", "mv_y"):
        pixels = exported[axis.replace("mv", "motion")] / exported["motion_scale"]
        blocks[axis] = np.rint(pixels * MV_UNITS_PER_PIXEL)
    return blocks


def _may_be_direct(blocks: np.ndarray, records: Sequence[Coding]) -> np.ndarray:
    """Blocks of B frames with zero vectors, (N,) bool.

    FFmpeg exports zero for blocks of MPEG-4's direct mode, whatever vectors it derived; a zero
    that is meant cannot be told from them.
    """
    in_b_frame = np.array([record.frame_type is FrameType.B for record in records])
    is_zero = (blocks["mv_x"] == 0) & (blocks["mv_y"] == 0)
    chosen: np.ndarray = is_zero & in_b_frame[blocks["frame"]]
    return chosen


def _luma(frame: av.VideoFrame) -> np.ndarray:
    # The first plane is luma, or green where frames are stored as RGB.
    plane, bits = frame.planes[0], frame.format.components[0].bits
    rows = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
    luma = rows.reshape(plane.height, -1)[:, : plane.width].astype(np.float32)
    return luma if bits == 8 else luma / np.float32(2 ** (bits - 8))


def _candidates(index: int, step: int, records: Sequence[Coding], anchors_only: bool) -> list[int]:
    """Signed distances at which blocks of frame `index` may find their reference, nearest first."""
    first, end = (0, len(records)) if anchors_only else _gop(index, records)
    others = range(index - 1, first - 1, -1) if step < 0 else range(index + 1, end)
    coded_before = [i for i in others if records[i].coding_index < records[index].coding_index]
    if anchors_only:
        coded_before = [i for i in coded_before if records[i].frame_type != FrameType.B][:1]
    reach = MAX_PAST if step < 0 else MAX_FUTURE
    tried = [i - index for i in coded_before if abs(i - index) <= reach or anchors_only]
    # In a long run of B frames even the nearest may lie beyond the reach.
    return tried or [i - index for i in coded_before[:1]]


def _gop(index: int, records: Sequence[Coding]) -> tuple[int, int]:
    """First frame and end of a closed group of pictures: H.264 does not refer across its IDR."""
    first = next((i for i in range(index, -1, -1) if records[i].key_frame), 0)
    following = range(index + 1, len(records))
    return first, next((i for i in following if records[i].key_frame), len(records))


def _distances(blocks: np.ndarray, candidates: Sequence[list[int]], luma: np.ndarray) -> np.ndarray:
    """Signed distance to the best reference of each block, (N,) int."""
    best = np.array([(c or [0])[0] for c in candidates])[blocks["frame"]]
    is_open = np.array([len(c) > 1 for c in candidates])[blocks["frame"]]
    shapes = blocks["height"].astype(int) << 16 | blocks["width"]
    for shape in np.unique(shapes[is_open]):
        chosen = np.flatnonzero(is_open & (shapes == shape))
        best[chosen] = _search(blocks[chosen], candidates, luma)
    return best


def _search(blocks: np.ndarray, candidates: Sequence[list[int]], luma: np.ndarray) -> np.ndarray:
    """Try the candidates of blocks of one size; signed distance of the closest, (N,) int."""
    height, width = int(blocks["height"][0]), int(blocks["width"][0])
    time = blocks["frame"].astype(int)
    top, left = blocks["y"].astype(int) - height // 2, blocks["x"].astype(int) - width // 2
    actual = _windows(luma, time, top, left, height, width)
    down, below = np.divmod(blocks["mv_y"].astype(int), MV_UNITS_PER_PIXEL)
    right, beside = np.divmod(blocks["mv_x"].astype(int), MV_UNITS_PER_PIXEL)
    top, left = top + down, left + right
    best, least_error = np.zeros(len(blocks), int), np.full(len(blocks), np.inf, np.float32)
    for distance in sorted({d for c in candidates for d in c}, key=abs):
        allowed = np.array([distance in c for c in candidates])
        t = np.flatnonzero(allowed[time])  # the blocks that are tried
        window = _windows(luma, time[t] + distance, top[t], left[t], height + 1, width + 1)
        rows = _blend(window[:, :-1], window[:, 1:], below[t])
        predicted = _blend(rows[:, :, :-1], rows[:, :, 1:], beside[t])
        error = np.abs(predicted - actual[t]).mean(axis=(1, 2))
        error += _DISTANCE_PENALTY * abs(distance)
        better = error < least_error[t]
        best[t[better]] = distance
        least_error[t[better]] = error[better]
    return best


def _windows(
    images: np.ndarray, time: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Cut (N, height, width) out of (T, h, w) images, whose border pixels go on outside."""
    _, rows, columns = images.shape
    y = (top[:, None] + np.arange(height)).clip(0, rows - 1)
    x = (left[:, None] + np.arange(width)).clip(0, columns - 1)
    first_of_row = (time[:, None] * rows + y) * columns
    return images.ravel().take(first_of_row[:, :, None] + x[:, None, :])


def _blend(first: np.ndarray, second: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Between two (N, a, b) arrays, at `part` (N,) units of a motion vector from the first."""
    weight = (part / MV_UNITS_PER_PIXEL).astype(np.float32)[:, None, None]
    blended: np.ndarray = first + (second - first) * weight
    return blended


def write_blocks(blocks: np.ndarray) -> bytes:
    """The `mv<k>.npy` member of a stream: (N, 8) int16, a column for each field of `MOTION_DTYPE`.

    A plain array, since readers that make tables of what they find know no structured ones.
    """
    buffer = io.BytesIO()
    columns = np.ascontiguousarray(blocks).view(_STORED_DTYPE)
    np.save(buffer, columns.reshape(len(blocks), _NUM_COLUMNS), allow_pickle=False)
    return buffer.getvalue()


def read_blocks(member: bytes) -> np.ndarray:
    """The motion vectors of a stream, (N,) of `MOTION_DTYPE`, from its `mv<k>.npy` member.

    They are the member's own bytes, not a copy, and cannot be written to.

    Raises:
        ValueError: if the member holds something else.
    """
    # Of so many bytes only one header can be: none is parsed, which may be anybody's.
    start = _NPY_HEADER_BYTES
    num_rows, rest = divmod(len(member) - start, MOTION_DTYPE.itemsize)
    if num_rows < 0 or rest or member[:start] != _npy_header(num_rows):
        raise ValueError("the member holds no motion vectors")
    return np.frombuffer(member, MOTION_DTYPE, offset=start)


def _npy_header(num_rows: int) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": _STORED_DTYPE.str, "fortran_order": False, "shape": (num_rows, _NUM_COLUMNS)}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


_NPY_HEADER_BYTES = len(_npy_header(0))


class Flow(NamedTuple):
    """Dense motion of a window of frames, (x, y) in LR pixels per frame."""

    previous: np.ndarray
    """(T, h, w, 2) float32: I_t(p) ~ I_t-1(p + previous_t(p)); 0 where unknown"""
    next: np.ndarray
    """(T, h, w, 2) float32: I_t(p) ~ I_t+1(p + next_t(p)); 0 where unknown"""
    valid: np.ndarray
    """(T, h, w) uint8: bit 0 (1) where `previous` is known, bit 1 (2) where `next` is"""


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
    """Spread block vectors over LR pixels, divided by their reference distance.

    Towards the previous frame, a pixel takes its block's vector into the past; else the
    opposite of its vector into the future; else, since motion goes on, what the previous frame
    has there. Towards the next frame the same holds, mirrored.

    Args:
        blocks: all vectors of the stream, (N,) of `MOTION_DTYPE`, by frame.
        stream: its record.
        height: LR rows.
        width: LR columns.
        start: first frame wanted.
        count: frames wanted.
        rows: LR rows wanted.
        columns: LR columns wanted.

    Returns:
        The motion of the rows and columns wanted.
    """
    coded_rows, coded_columns, scale = coded_positions(stream, height, width)
    return _dense(blocks, coded_rows[rows], coded_columns[columns], scale, start, count)


def coded_flow(blocks: np.ndarray, height: int, width: int, start: int, count: int) -> Flow:
    """`dense_flow` where LR pixels are those of the coded picture.

    Args:
        blocks: vectors, (N,) of `MOTION_DTYPE`, by frame; of one frame more on either side.
        height: rows.
        width: columns.
        start: first frame wanted.
        count: frames wanted.
    """
    return _dense(blocks, np.arange(height), np.arange(width), np.ones(2, np.float32), start, count)


def _dense(
    blocks: np.ndarray,
    coded_rows: np.ndarray,
    coded_columns: np.ndarray,
    scale: np.ndarray,
    start: int,
    count: int,
) -> Flow:
    """Motion at rows and columns of the coded picture, times `scale` (x, y)."""
    row, column = coded_rows // _CELL, coded_columns // _CELL
    grid = _Grid(row.min(), column.min(), np.ptp(row) + 1, np.ptp(column) + 1)
    # One frame more on either side, for pixels that take over their neighbour's motion.
    (past, future), (has_past, has_future) = _rasterise(blocks, grid, start - 1, count + 2)
    inner = slice(1, count + 1)
    previous, has_previous = _first_known(
        (past[inner], has_past[inner]),
        (-future[inner], has_future[inner]),
        (past[:count], has_past[:count]),
    )
    following, has_following = _first_known(
        (future[inner], has_future[inner]),
        (-past[inner], has_past[inner]),
        (-past[2:], has_past[2:]),
    )
    valid = has_previous.astype(np.uint8) | (has_following.astype(np.uint8) << 1)

    def spread(cells: np.ndarray) -> np.ndarray:
        return cells.take(column - grid.left, axis=2).take(row - grid.top, axis=1)

    return Flow(spread(previous * scale), spread(following * scale), spread(valid))


class _Grid(NamedTuple):
    """A rectangle of cells of the coded picture."""

    top: int
    left: int
    height: int
    width: int


def _first_known(*sources: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    flow, known = sources[0][0].copy(), sources[0][1].copy()
    for other, other_known in sources[1:]:
        taken = other_known & ~known
        flow[taken] = other[taken]
        known |= other_known
    return flow, known


def _rasterise(
    blocks: np.ndarray, grid: _Grid, start: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What blocks tell of a grid: of references in the past, then of those in the future.

    Returns:
        Velocity (2, count, rows, columns, 2) in coded pixels per frame, and where it is known.
    """
    frames = blocks["frame"]  # sorted; bisection reads a few of them
    blocks = blocks[bisect_left(frames, start) : bisect_left(frames, start + count)]
    distance = blocks["ref_distance"].astype(np.float32)
    picture = blocks["frame"].astype(int) - start + count * (distance >= 0)
    mv = np.stack([blocks["mv_x"], blocks["mv_y"]], axis=1).astype(np.float32)
    per_frame = mv / (MV_UNITS_PER_PIXEL * np.abs(distance)[:, None])
    top, height = _covered(blocks["y"], blocks["height"], grid.top, grid.height)
    left, width = _covered(blocks["x"], blocks["width"], grid.left, grid.width)
    # Blocks by the cells that they cover; where blocks overlap, the last one stays.
    num_cells = height * width
    block = np.repeat(np.arange(len(blocks)), num_cells)
    place = np.arange(len(block)) - (np.cumsum(num_cells) - num_cells)[block]  # inside its block
    down, across = np.divmod(place, width[block])
    row = (picture * grid.height + top)[block] + down
    cell = row * grid.width + left[block] + across
    shape = (2, count, grid.height, grid.width)
    velocity, known = np.zeros((*shape, 2), np.float32), np.zeros(shape, bool)
    velocity.reshape(-1, 2)[cell] = per_frame[block]
    known.reshape(-1)[cell] = True
    return velocity, known


def _covered(
    centre: np.ndarray, size: np.ndarray, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` cells in a line blocks cover: the first, and how many; (N,) int each."""
    begin = (centre.astype(int) - size // 2) // _CELL - first
    end = begin + -(-size.astype(int) // _CELL)
    begin = begin.clip(0)
    return begin, (end.clip(max=count) - begin).clip(0)


def coded_positions(
    stream: Stream, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where LR pixels come from in the coded picture, back through the post steps.

    Args:
        stream: the record.
        height: LR rows.
        width: LR columns.

    Returns:
        (height,) row and (width,) column of the coded picture under each LR row and column, and
        (2,) LR pixels per coded pixel, (x, y).
    """
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    scale = np.ones(2, np.float32)
    for step, old in zip(stream.post_steps[::-1], _sizes(stream)[-2::-1], strict=True):
        if isinstance(step, ResizeDraw):
            new = (step.height[0], step.width[0])
            rows, columns = rows * old[0] / new[0], columns * old[1] / new[1]
            scale *= (new[1] / old[1], new[0] / old[0])
        elif isinstance(step, CropDraw):
            rows, columns = rows + step.top, columns + step.left
        elif isinstance(step, PadDraw):
            rows, columns = rows - step.top, columns - step.left
    last = (stream.coded_height - 1, stream.coded_width - 1)
    return (
        np.clip(np.floor(rows), 0, last[0]).astype(int),
        np.clip(np.floor(columns), 0, last[1]).astype(int),
        scale,
    )


def lr_size(stream: Stream) -> tuple[int, int]:
    """(height, width) of the LR frames, after the post steps."""
    return _sizes(stream)[-1]


def _sizes(stream: Stream) -> list[tuple[int, int]]:
    """(height, width) of the coded picture and after each post step, of the first frame."""
    sizes = [(stream.coded_height, stream.coded_width)]
    for step in stream.post_steps:
        if isinstance(step, ResizeDraw):
            sizes.append((step.height[0], step.width[0]))
        elif isinstance(step, CropDraw | PadDraw):
            sizes.append((step.height, step.width))
        else:
            sizes.append(sizes[-1])
    return sizes
