"""Metadata of a clip as the official CAVSR loaders read it, one npz a clip.

They read two arrays:

- `size`: (t, h, w) of the LR clip.
- `mvs`: (N, 10) integers, a row a block: framenum (1-based, presentation order), source (1: from
  the future, else from the past), block width and height, src_x, src_y, dst_x, dst_y (dst is the
  block's centre), scale, frame type (0 I, 1 P, 2 B). Their vector is (src - dst) / scale.

What the release's own numbers are is not published. With FFmpeg's export as it is (src - dst in
whole pixels, truncated, and its motion_scale of 4) that division makes vectors four times too
short. So here every choice of units comes out in pixels after the division:

- `official`: src - dst in quarter pixels and scale 4. The loaders find the vectors exactly.
- `pixels`: src - dst in pixels and scale 1, for readers that do not divide. Cells must be integers
  (the loaders use them as indices), so most of the fractions are rounded off.

Pixels are LR pixels: what a stream does after its codec (a crop, a resize) is applied to blocks
and vectors. Vectors are those of the codec, to a reference that may be several frames away; the
release ignores the distance.

Frame types come to those loaders by rows alone: a frame that no row names is taken for P, the
first one for I. So a frame without vectors (an I frame in mid-clip, or any frame of a codec that
exports none) gets a row of a block of size zero, which paints nothing.

For other readers the file holds more, exact: with a row for each of `mvs`, `vectors` ((N, 2)
float32, pixels) and `ref_distance` (frames, signed; 0 where there is no block); with a row for
each frame, `frame_types`, `qp_mean` and `packet_bytes`.
"""

import io

import numpy as np

from pipelines.export.tree import MvUnits
from schemas.motion import MV_UNITS_PER_PIXEL
from schemas.sample import Stream
from transforms.motion import coded_positions

COLUMNS = (
    "framenum", "source", "block_width", "block_height", "src_x", "src_y", "dst_x", "dst_y",
    "scale", "frame_type",
)  # fmt: skip
_SCALES = {MvUnits.OFFICIAL: MV_UNITS_PER_PIXEL, MvUnits.PIXELS: 1}


def metadata_npz(
    stream: Stream,
    blocks: np.ndarray,
    size: tuple[int, int],
    start: int,
    count: int,
    units: MvUnits,
) -> bytes:
    """The npz of a window of frames.

    Args:
        stream: the stream's record.
        blocks: all its vectors, (N,) of `MOTION_DTYPE`, by frame.
        size: rows and columns of the LR picture.
        start: first frame.
        count: frames.
        units: of src - dst.
    """
    time = blocks["frame"].astype(int) - start
    blocks = blocks[(time >= 0) & (time < count)]
    frames = stream.frames[start : start + count]
    rows, columns, per_coded_pixel = coded_positions(stream, *size)
    top, height = _lr_interval(blocks["y"], blocks["height"], rows)
    left, width = _lr_interval(blocks["x"], blocks["width"], columns)
    coded = np.stack([blocks["mv_x"], blocks["mv_y"]], axis=1) / MV_UNITS_PER_PIXEL
    seen = (height > 0) & (width > 0)  # the others lie where the picture was cropped away
    vectors = (coded * per_coded_pixel)[seen]
    table = np.zeros((int(seen.sum()), len(COLUMNS)), np.int64)
    table[:, 0] = blocks["frame"][seen].astype(int) - start + 1
    table[:, 1] = np.sign(blocks["ref_distance"][seen])
    table[:, 2], table[:, 3] = width[seen], height[seen]
    # Loaders cut dst -+ size / 2 down to integers; rounding up here makes odd sizes come out right.
    table[:, 6], table[:, 7] = (left + (width + 1) // 2)[seen], (top + (height + 1) // 2)[seen]
    table[:, 4:6] = table[:, 6:8] + np.rint(vectors * _SCALES[units])
    unnamed = np.setdiff1d(np.arange(count) + 1, table[:, 0])
    table = np.concatenate([table, _empty_rows(unnamed)])
    table[:, 8] = _SCALES[units]
    frame_types = np.array([frame.frame_type.code for frame in frames], np.uint8)
    table[:, 9] = frame_types[table[:, 0] - 1]
    distance = np.concatenate([blocks["ref_distance"][seen], np.zeros(len(unnamed), np.int16)])
    vectors = np.concatenate([vectors, np.zeros((len(unnamed), 2))])
    by_frame = np.argsort(table[:, 0], kind="stable")  # a loader stops at the window's end
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        size=np.array([count, *size]),
        mvs=table[by_frame],
        vectors=vectors[by_frame].astype(np.float32),
        ref_distance=distance[by_frame],
        frame_types=frame_types,
        qp_mean=np.array([frame.qp_mean for frame in frames], np.float32),
        packet_bytes=np.array([frame.packet_bytes for frame in frames], np.int64),
    )
    return buffer.getvalue()


def _lr_interval(
    centre: np.ndarray, size: np.ndarray, coded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First LR row (or column) of each block and how many it has there.

    Args:
        centre: of blocks, coded pixels.
        size: of blocks, coded pixels.
        coded: the coded row under each LR row, ascending.
    """
    first = centre.astype(int) - size.astype(int) // 2
    begin, end = np.searchsorted(coded, first), np.searchsorted(coded, first + size.astype(int))
    return begin, end - begin


def _empty_rows(framenums: np.ndarray) -> np.ndarray:
    """Rows that say a frame's type and nothing else."""
    rows = np.zeros((len(framenums), len(COLUMNS)), np.int64)
    rows[:, 0], rows[:, 1] = framenums, -1
    return rows
