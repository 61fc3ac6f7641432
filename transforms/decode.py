"""The reference decoder: the one way from stored members to pixels.

Synthesis measures and hashes what this returns, so whoever trains on a dataset sees the same
pixels to the bit.
"""

from collections.abc import Sequence

import av
import numpy as np

from schemas.draw import ColorDraw, CropDraw, PostStep
from schemas.record import UNKNOWN
from schemas.sample import Frame, LrKind, Sample, Stream
from transforms.bitstream import MACROBLOCK, quantiser_map
from transforms.codec import CodecError, CodedFrame, decode, decode_with_side_data
from transforms.color import Area, yuv_to_rgb
from transforms.frame_stages import apply_frame_stages
from transforms.motion import coded_positions, lr_size
from transforms.pixels import to_float, to_uint8
from transforms.tiles import Parts, decode_tile, tile_file


def decode_lr(
    stream: Stream,
    member: bytes,
    start: int = 0,
    count: int | None = None,
    top: int = 0,
    left: int = 0,
    height: int | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Decode a window of LR frames, and no more of the stream than that takes.

    Args:
        stream: the stream's record.
        member: its `lr<k>.nut` member.
        start: first frame, in presentation order.
        count: number of frames; None for all that follow.
        top: first row of the LR frames.
        left: first column of the LR frames.
        height: rows; None for all that follow.
        width: columns; None for all that follow.

    Returns:
        (count, height, width, 3) uint8 RGB.

    Raises:
        ValueError: if the window reaches beyond the stream.
        CodecError: if the bytes do not decode, or to other frames than the record says.
    """
    count = _checked_count(start, count, len(stream.frames))
    lr_height, lr_width = lr_size(stream)
    height = _checked_count(top, height, lr_height)
    width = _checked_count(left, width, lr_width)
    frames, color = _decoded(stream, member, start, count), _read_color(stream)
    area = Area(top, left, height, width)
    crops = [step for step in stream.post_steps if isinstance(step, CropDraw)]
    if len(crops) == len(stream.post_steps):
        first_row, first_column = sum(crop.top for crop in crops), sum(crop.left for crop in crops)
        return yuv_to_rgb(
            frames, color, area._replace(top=top + first_row, left=left + first_column)
        )
    # Other steps act on whole frames: noise is drawn for all of one, kernels reach far.
    whole = apply_post_steps(yuv_to_rgb(frames, color), stream.post_steps, start)
    return np.ascontiguousarray(whole[(slice(None), *area.slices)])


def _decoded(stream: Stream, member: bytes, start: int, count: int) -> list[av.VideoFrame]:
    """A window of the frames that the codec gives, before their conversion."""
    if stream.lost_slices:
        # What a gap shows depends on all that the decoder saw before, and on memory that it takes
        # for frames: it gets the same only while none of them is released.
        packets = _packets(stream.frames, member)
        frames = list(decode(packets, stream.codec))[start : start + count]
    else:
        packets = _packets_of_window(stream.frames, member, start, count)
        frames = list(decode(packets, stream.codec, window=range(start, start + count)))
    size = (stream.coded_height, stream.coded_width)
    if len(frames) != count or any((f.height, f.width) != size for f in frames):
        found = sorted({f"{f.width}x{f.height}" for f in frames})
        told = f"{len(frames)} frames of {found}, not {count} of {size[1]}x{size[0]}"
        raise CodecError("frames_lost", f"{stream.codec}: {told}")
    return frames


def _read_color(stream: Stream) -> ColorDraw:
    if stream.lr_kind is LrKind.LOSSLESS:
        return ColorDraw()  # RGB needs none
    return ColorDraw.model_validate(
        {
            "read_matrix": stream.read_matrix,
            "read_range": stream.read_range,
            "read_location": stream.read_location,
            "scaler": stream.read_scaler,
        }
    )


def _packets(frames: Sequence[Frame], member: bytes) -> list[CodedFrame]:
    """Packets in coding order."""
    in_order = sorted(frames, key=lambda frame: frame.coding_index)
    return [
        CodedFrame(member[f.packet_position : f.packet_position + f.packet_bytes], f.display_index)
        for f in in_order
    ]


def _packets_of_window(
    frames: list[Frame], member: bytes, start: int, count: int
) -> list[CodedFrame]:
    """From the last key frame at or before a window to the last packet of it, in coding order."""
    last = max(frame.coding_index for frame in frames[start : start + count])
    keys = [f.coding_index for f in frames if f.key_frame and f.display_index <= start]
    first = max(keys, default=0)
    return _packets([f for f in frames if first <= f.coding_index <= last], member)


def apply_post_steps(frames: np.ndarray, steps: Sequence[PostStep], start: int = 0) -> np.ndarray:
    """What comes after the codec.

    Args:
        frames: (T, h, w, 3) uint8 RGB.
        steps: in order; pixels are rounded to 8 bits after the last one only.
        start: display index of the first frame, which picks per-frame values and noise.

    Returns:
        (T, height, width, 3) uint8 RGB.
    """
    if all(isinstance(step, CropDraw) for step in steps):
        for step in steps:
            assert isinstance(step, CropDraw)
            rows = slice(step.top, step.top + step.height)
            frames = frames[:, rows, step.left : step.left + step.width]
        return np.ascontiguousarray(frames)
    return np.stack(
        [
            to_uint8(apply_frame_stages(to_float(frame), steps, index))
            for index, frame in enumerate(frames, start)
        ]
    )


def decode_quantisers(
    stream: Stream, member: bytes, start: int = 0, count: int | None = None
) -> np.ndarray:
    """The quantiser under every LR pixel, in the codec's own scale.

    Args:
        stream: the stream's record.
        member: its `lr<k>.nut` member.
        start: first frame, in presentation order.
        count: number of frames; None for all that follow.

    Returns:
        (count, h, w) float32; -1 where the decoder does not tell.

    Raises:
        ValueError: if the window reaches beyond the stream.
        CodecError: if the bytes do not decode.
    """
    count = _checked_count(start, count, len(stream.frames))
    packets = _packets(stream.frames, member)
    frames = decode_with_side_data(packets, stream.codec)[start : start + count]
    size = lr_size(stream)
    rows, columns, _ = coded_positions(stream, *size)
    records = stream.frames[start : start + count]
    maps = [
        None if record.damaged else quantiser_map(frame)
        for record, frame in zip(records, frames, strict=True)
    ]
    unknown = np.full(size, UNKNOWN, np.float32)
    cells = np.ix_(rows // MACROBLOCK, columns // MACROBLOCK)
    return np.stack([unknown if qp is None else qp[cells] for qp in maps])


def decode_hr(
    sample: Sample,
    member: Parts,
    start: int = 0,
    count: int | None = None,
    top: int = 0,
    left: int = 0,
    height: int | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Decode a window of HR frames, and only the tiles that it touches.

    Args:
        sample: the sample's record.
        member: its `hr.zip` member, or what gives parts of it; only those tiles are taken.
        start: first frame.
        count: number of frames; None for all that follow.
        top: first row of the HR patch.
        left: first column of the HR patch.
        height: rows; None for all that follow.
        width: columns; None for all that follow.

    Returns:
        (count, height, width, 3) uint8 RGB; exact, unless the record has `hr_jpeg`.

    Raises:
        ShardError: if a tile is not what was written.
        ValueError: if the window reaches beyond the patch, or its tiles do not cover it, are not of
            the kind and size that the record says, or do not decode.
    """
    count = _checked_count(start, count, sample.num_frames)
    height = _checked_count(top, height, sample.hr_height)
    width = _checked_count(left, width, sample.hr_width)
    parts = []
    for tile in sample.hr_tiles:
        if not start <= tile.frame < start + count:
            continue
        # The part of the tile inside the window, in coordinates of the patch.
        row, row_end = max(top, tile.top), min(top + height, tile.top + tile.height)
        column, column_end = max(left, tile.left), min(left + width, tile.left + tile.width)
        if row < row_end and column < column_end:
            parts.append((tile, slice(row, row_end), slice(column, column_end)))
    covered = sum((r.stop - r.start) * (c.stop - c.start) for _, r, c in parts)
    if covered != count * height * width:
        raise ValueError(f"the tiles cover {covered} pixels, not {count} x {height} x {width}")
    # Checked before memory is taken.
    files = [tile_file(tile, member, sample.hr_jpeg) for tile, _, _ in parts]
    window = np.empty((count, height, width, 3), np.uint8)
    for (tile, rows, columns), data in zip(parts, files, strict=True):
        inner = decode_tile(data)[_shifted(rows, tile.top), _shifted(columns, tile.left)]
        window[tile.frame - start, _shifted(rows, top), _shifted(columns, left)] = inner
    return window


def _shifted(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _checked_count(start: int, count: int | None, size: int) -> int:
    count = size - start if count is None else count
    if start < 0 or count < 1 or start + count > size:
        raise ValueError(f"window {start = }, {count = } does not fit into {size}")
    return count
