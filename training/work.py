"""How much there is to do for a window, on average: counted from tables, no shard is opened.

`expected_work` takes the mean over what the loader draws: the samples of an epoch, their streams,
the first frame of the window and the place of the crop. Amounts go by name; those that depend on
the codec, or on how its YUV is read, have its name behind a dot:

    windows               1
    record_bytes          of the `json` member
    read_bytes            of what is read: record, LR and motion whole, of HR the tiles
    lr_opened.CODEC       decoders opened
    lr_coded_pixels.CODEC decoded, from the last key frame before the window to its end
    lr_coded_bytes.CODEC  of the packets of those frames
    lr_frames.READING     of the window, converted to RGB
    lr_pixels.READING     of these, as many as the crop takes
    hr_tiles              touched by the crop
    hr_pixels             of these tiles
    hr_bytes              of these tiles, as if all of a sample's pixels took equally many
    flows                 windows that have motion: not pseudo-videos
    flow_pixels           of the crop, all frames
    flow_blocks           motion vectors in the window and a frame on either side
    stacked_bytes         of LR, HR and motion of the crop, which are cut out, turned and stacked
    handed_bytes          of these, what a worker hands over to the process that trains

Steps of a recipe after its last codec are not counted themselves, but whole frames are converted
for them.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from schemas.draw import CodecDraw, CropDraw, StreamDraw
from schemas.manifest import DatasetError, Manifest
from schemas.recipe import HrSettings
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    FrameRow,
    FrameType,
    LrKind,
    StreamRow,
    lr_member,
    mv_member,
)
from schemas.store import Place
from schemas.view import ANY
from training.batches import EpochPlan
from training.config import StreamSettings
from training.index import SampleIndex, read_shard_table
from transforms.color import converted_side
from transforms.tiles import tile_directory_bytes, tile_header_bytes

Work = Mapping[str, float]
"""Amounts by name."""

LOSSLESS, RGB = "lossless", "rgb"
"""Stand for the codec of a stream that has none, and for how it is read."""

# Whose frames are looked at: enough for a mean, however many there are.
_MOST_SHARDS, _MOST_WINDOWS = 64, 256  # windows of each
_STREAM_COLUMNS = [
    "key", "stream", "codec", "lr_kind", "lost_slices", "motion_blocks",
    "coded_height", "coded_width", "read_scaler", "read_range", "draw",
]  # fmt: skip
_FRAME_COLUMNS = [
    "key", "stream", "display_index", "coding_index", "frame_type", "key_frame", "packet_bytes",
]  # fmt: skip
_LR_BYTES, _HR_BYTES = 3 + 17, 3  # of a pixel in a batch; with two vectors of float32, and a mask


class Touched(NamedTuple):
    """How much of a row of tiles a crop along it touches, expected values, (N,) float64 each."""

    tiles: np.ndarray
    pixels: np.ndarray


def expected_touched(lr_sides: np.ndarray, scale: int, tile: int, crop: int) -> Touched:
    """What a crop touches of the tiles along one side, its first LR pixel being any as likely.

    Args:
        lr_sides: (N,) integers, side of each patch, LR pixels.
        scale: HR size divided by LR size.
        tile: side of a tile, HR pixels; the last one is smaller.
        crop: side of the crop, LR pixels.
    """
    sides, which = np.unique(lr_sides, return_inverse=True)
    found = np.array([_touched_of(int(side), scale, tile, crop) for side in sides]).reshape(-1, 2)
    return Touched(found[which, 0], found[which, 1])


def _touched_of(lr_side: int, scale: int, tile: int, crop: int) -> tuple[float, float]:
    start = np.arange(0, scale * lr_side, tile)
    end = np.minimum(start + tile, scale * lr_side)
    places = lr_side - crop + 1
    # A crop at LR pixel p holds HR pixels scale * p, ..., scale * (p + crop) - 1.
    first = np.maximum(start // scale - crop + 1, 0)
    last = np.minimum((end - 1) // scale, places - 1)
    share = (last - first + 1) / places
    return float(share.sum()), float((share * (end - start)).sum())


def hr_settings(manifest: Manifest) -> HrSettings:
    """How HR is stored: what the recipe says."""
    return HrSettings.model_validate(manifest.recipe.get("hr", {}))


def batch_bytes(frames: float, crop: int, scale: int) -> float:
    """Bytes of a window in a batch: LR, HR and motion.

    Args:
        frames: of the window.
        crop: side of the crop, LR pixels.
        scale: HR size divided by LR size.
    """
    return frames * crop**2 * (_LR_BYTES + scale**2 * _HR_BYTES)


def expected_work(
    dataset: Place,
    manifest: Manifest,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
    *,
    is_jpeg: bool,
    in_workers: bool,
) -> Work:
    """The mean over the windows of an epoch; of many shards, some stand for all where LR counts.

    Args:
        dataset: its folder, local or in a store.
        manifest: what it says.
        index: the samples that the plan tells of.
        plan: of the epoch.
        settings: of the stream.
        is_jpeg: HR of the split is stored as JPEG.
        in_workers: windows are made in processes of their own.

    Raises:
        DatasetError: if a table is missing, damaged, or does not tell of a sample.
    """
    hr = _hr_work(manifest, index, plan, settings, is_jpeg=is_jpeg)
    record, others = members_read(index, plan, len(manifest.streams))
    of_tile = tile_header_bytes(is_jpeg=is_jpeg)
    work = {
        "windows": 1.0,
        "record_bytes": float(record.mean()),
        "read_bytes": float(others.mean()) + hr["hr_bytes"] + hr["hr_tiles"] * of_tile,
        "stacked_bytes": batch_bytes(float(plan.num_frames.mean()), settings.crop, manifest.scale),
        **hr,
        **_lr_work(dataset, index, plan, settings, len(manifest.streams)),
    }
    if in_workers:
        work["handed_bytes"] = work["stacked_bytes"]
    return work


def members_read(
    index: SampleIndex, plan: EpochPlan, num_streams: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of the record, and of it and all else that is read whole, (M,) float64, expected."""
    record = index.member_bytes(JSON_MEMBER)
    lr = np.stack([index.member_bytes(lr_member(k)) for k in range(num_streams)], 1)
    mv = np.stack([index.member_bytes(mv_member(k)) for k in range(num_streams)], 1)
    per_stream = lr + np.where(index.is_pseudo_video[:, None], 0, mv)
    one = per_stream[plan.entry, np.maximum(plan.stream, 0)]
    stream = np.where(plan.stream == ANY, per_stream.mean(1)[plan.entry], one)
    return record[plan.entry].astype(float), record[plan.entry] + stream


def _hr_work(
    manifest: Manifest,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
    *,
    is_jpeg: bool,
) -> Work:
    scale, tile = manifest.scale, hr_settings(manifest).tile
    rows = expected_touched(index.lr_height, scale, tile, settings.crop)
    columns = expected_touched(index.lr_width, scale, tile, settings.crop)
    tiles, pixels = rows.tiles * columns.tiles, rows.pixels * columns.pixels  # drawn apart
    stored = _num_tiles(index.lr_height * scale, tile) * _num_tiles(index.lr_width * scale, tile)
    directory = tile_directory_bytes(index.num_frames * stored, is_jpeg=is_jpeg)
    frame_pixels = index.lr_height * index.lr_width * scale**2
    bytes_of_pixel = (index.member_bytes(HR_MEMBER) - directory) / index.num_frames / frame_pixels
    frames, entry = plan.num_frames, plan.entry
    return {
        "hr_tiles": float((frames * tiles[entry]).mean()),
        "hr_pixels": float((frames * pixels[entry]).mean()),
        "hr_bytes": float((frames * (pixels * bytes_of_pixel)[entry]).mean()),
    }


def _num_tiles(sides: np.ndarray, tile: int) -> np.ndarray:
    return -(-sides // tile)


def _lr_work(
    dataset: Place,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
    num_streams: int,
) -> Work:
    shard = index.shard[plan.entry]
    total, windows = defaultdict[str, float](float), 0
    for number in _spread(np.unique(shard), _MOST_SHARDS):
        positions = np.flatnonzero(shard == number)
        looked_at = _spread(positions, _MOST_WINDOWS)
        part = EpochPlan(*(column[looked_at] for column in plan))
        coded = _read_coded(dataset, index, int(number), part, num_streams)
        for name, amount in _coded_work(index, part, coded, settings.crop).items():
            total[name] += amount * len(positions) / len(looked_at)
        windows += len(positions)
    return {name: amount / windows for name, amount in total.items()}


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """So many of some values at most, evenly spaced among them."""
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]


class _Coded(NamedTuple):
    """The streams of a shard's samples, numbered by sample and stream; S of them, F frames."""

    entries: np.ndarray
    """(S / num_streams,) the samples, ascending"""
    num_streams: int
    codec: np.ndarray
    """(S,) str"""
    reading: np.ndarray
    """(S,) str"""
    is_whole: np.ndarray
    """(S,) bool: can only be decoded from the first frame to the last"""
    height: np.ndarray
    """(S,) of a coded picture, pixels"""
    width: np.ndarray
    """(S,) likewise"""
    is_cropped_only: np.ndarray
    """(S,) bool: nothing but crops comes after the codec"""
    motion_blocks: np.ndarray
    """(S,)"""
    begin: np.ndarray
    """(S,) its first frame among all, which are in presentation order"""
    coding: np.ndarray
    """(F + 1,) place of each frame in coding order; one more at the end"""
    key_packet: np.ndarray
    """(F,) in coding order, the last key frame that is not shown after this frame"""
    needed_before: np.ndarray
    """(F + 1, 2) packets and their bytes before, in coding order: of frames that others refer to"""
    spare_before: np.ndarray
    """(F + 1, 2) the same of all others, in presentation order"""


def _read_coded(
    dataset: Place, index: SampleIndex, shard: int, plan: EpochPlan, num_streams: int
) -> _Coded:
    name = index.shards[shard]
    entries = np.unique(plan.entry)
    keys = index.keys_of(entries)
    streams = read_shard_table(dataset, "streams", name, StreamRow, _STREAM_COLUMNS)
    streams, number = _of_samples(streams, keys, num_streams)
    frames = read_shard_table(dataset, "frames", name, FrameRow, _FRAME_COLUMNS)
    frames, owner = _of_samples(frames, keys, num_streams)
    length = np.bincount(owner, minlength=len(entries) * num_streams)
    told = np.repeat(index.num_frames[entries], num_streams)
    is_complete = np.array_equal(np.sort(number), np.arange(len(told)))
    if not is_complete or not np.array_equal(length, told):
        raise DatasetError(
            f"{dataset}: the tables of shard {name} do not tell of all streams and frames of its "
            "samples: copy the dataset again"
        )
    streams = streams.take(pa.array(np.argsort(number)))
    is_lossless = _text(streams, "lr_kind") == LrKind.LOSSLESS.value
    scaler, levels = _text(streams, "read_scaler"), _text(streams, "read_range")
    reading = np.where(scaler == "", RGB, np.char.add(np.char.add(scaler, "-"), levels))
    return _Coded(
        entries=entries,
        num_streams=num_streams,
        codec=np.where(is_lossless, LOSSLESS, _text(streams, "codec")),
        reading=np.where(is_lossless, RGB, reading),
        is_whole=_numbers(streams, "lost_slices") > 0,
        height=_numbers(streams, "coded_height"),
        width=_numbers(streams, "coded_width"),
        is_cropped_only=_cropped_only(dataset, name, streams),
        motion_blocks=_numbers(streams, "motion_blocks"),
        begin=np.cumsum(length) - length,
        **_frame_columns(frames, owner, length),
    )


def _cropped_only(dataset: Place, shard: str, streams: pa.Table) -> np.ndarray:
    """Which streams have nothing but crops after their codec, (S,) bool."""
    try:
        draws = [StreamDraw.model_validate_json(draw.as_py()) for draw in streams.column("draw")]
    except ValidationError as error:
        raise DatasetError(
            f"{dataset}: table streams of shard {shard} tells of no draw ({error}): copy the "
            "dataset again"
        ) from error

    def is_cropped_only(draw: StreamDraw) -> bool:
        after = itertools.takewhile(lambda s: not isinstance(s, CodecDraw), reversed(draw.stages))
        return all(isinstance(step, CropDraw) for step in after)

    return np.array([is_cropped_only(draw) for draw in draws])


def _frame_columns(
    frames: pa.Table, owner: np.ndarray, length: np.ndarray
) -> dict[str, np.ndarray]:
    order = np.lexsort((_numbers(frames, "display_index"), owner))
    frames, owner = frames.take(pa.array(order)), owner[order]
    coding, sizes = _numbers(frames, "coding_index"), _numbers(frames, "packet_bytes")
    # Streams lie one behind the other, so that a running maximum must start anew in each.
    base = owner * (length.max(initial=0) + 1)
    is_key = frames.column("key_frame").to_numpy()
    key_packet = np.maximum.accumulate(np.where(is_key, coding, 0) + base) - base
    in_coding_order = np.lexsort((coding, owner))
    is_spare = np.empty(len(order), bool)
    is_b = _text(frames, "frame_type") == FrameType.B.value
    is_spare[in_coding_order] = unreferenced(is_b[in_coding_order], in_coding_order)
    packets = np.stack([np.ones_like(sizes), sizes], axis=1)
    spare = packets * is_spare[:, None]
    return {
        "coding": np.append(coding, 0),
        "key_packet": key_packet,
        "needed_before": _sums_before((packets - spare)[in_coding_order]),
        "spare_before": _sums_before(spare),
    }


def _sums_before(rows: np.ndarray) -> np.ndarray:
    return np.pad(np.cumsum(rows, axis=0), ((1, 0), (0, 0)))


def unreferenced(is_b: np.ndarray, display: np.ndarray) -> np.ndarray:
    """Which frames no other frame refers to, as far as their order tells: (F,) bool.

    A B frame that others refer to is coded before they are, one of which is shown before it.

    Args:
        is_b: (F,) bool, B frames, in coding order.
        display: (F,) when each is shown.
    """
    is_followed_by_earlier = np.append(is_b[1:] & (display[1:] < display[:-1]), False)
    return is_b & ~is_followed_by_earlier


def _of_samples(
    rows: pa.Table, keys: pa.ChunkedArray, num_streams: int
) -> tuple[pa.Table, np.ndarray]:
    """The rows that tell of some samples, and the number of the stream that each tells of."""
    sample = pc.index_in(rows.column("key"), value_set=keys.combine_chunks())
    rows, sample = rows.filter(pc.is_valid(sample)), sample.filter(pc.is_valid(sample))
    return rows, sample.to_numpy().astype(np.int64) * num_streams + _numbers(rows, "stream")


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return rows.column(name).to_numpy().astype(np.int64)


def _text(rows: pa.Table, name: str) -> np.ndarray:
    return rows.column(name).cast(pa.string()).to_numpy().astype(str)


class _Windows(NamedTuple):
    """Every window that may be drawn, (W,) each."""

    stream: np.ndarray
    """number among `_Coded`"""
    start: np.ndarray
    """first frame"""
    num_frames: np.ndarray
    """T"""
    times: np.ndarray
    """how often it is expected"""


def _coded_work(index: SampleIndex, plan: EpochPlan, coded: _Coded, crop: int) -> Work:
    """Of all windows of a part of the plan together."""
    windows = _windows(index, plan, coded)
    stream, count, times = windows.stream, windows.num_frames, windows.times
    length = np.repeat(index.num_frames[coded.entries], coded.num_streams)[stream]
    packets, coded_bytes = _decoded(windows, length, coded)
    pixels = (coded.height * coded.width)[stream]
    is_still = index.is_pseudo_video[coded.entries][stream // coded.num_streams]
    moving = times * ~is_still
    blocks = coded.motion_blocks[stream] * np.minimum((count + 2) / length, 1)
    codec, reading = coded.codec[stream], coded.reading[stream]
    return {
        **_by_name("lr_opened", codec, times),
        **_by_name("lr_coded_pixels", codec, times * packets * pixels),
        **_by_name("lr_coded_bytes", codec, times * coded_bytes),
        **_by_name("lr_frames", reading, times * count),
        **_by_name("lr_pixels", reading, times * count * _converted(coded, crop)[stream]),
        "flows": float(moving.sum()),
        "flow_pixels": float((moving * count).sum()) * crop**2,
        "flow_blocks": float((moving * blocks).sum()),
    }


def _converted(coded: _Coded, crop: int) -> np.ndarray:
    """Pixels of a frame of each stream that become RGB, (S,) integers."""
    part = _converted_sides(coded.height, crop) * _converted_sides(coded.width, crop)
    yuv = np.where(coded.is_cropped_only, part, coded.height * coded.width)
    return np.where(coded.reading == RGB, crop**2, yuv)


def _converted_sides(sides: np.ndarray, crop: int) -> np.ndarray:
    found, which = np.unique(sides, return_inverse=True)
    return np.array([converted_side(crop, int(side)) for side in found])[which]


def _windows(index: SampleIndex, plan: EpochPlan, coded: _Coded) -> _Windows:
    sample = np.searchsorted(coded.entries, plan.entry)
    is_any_stream, is_any_start = plan.stream == ANY, plan.frame == ANY
    num_streams = np.where(is_any_stream, coded.num_streams, 1)
    last_start = index.num_frames[plan.entry] - plan.num_frames
    num_starts = np.where(is_any_start, last_start + 1, 1)
    numbers = num_streams * num_starts
    item = np.repeat(np.arange(len(numbers)), numbers)
    turn = np.arange(len(item)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    stream, start = np.divmod(turn, num_starts[item])
    centred = np.clip(plan.frame - plan.num_frames // 2, 0, last_start)
    stream = np.where(is_any_stream[item], stream, plan.stream[item])
    return _Windows(
        stream=sample[item] * coded.num_streams + stream,
        start=np.where(is_any_start[item], start, centred[item]),
        num_frames=plan.num_frames[item],
        times=1 / numbers[item],
    )


def _decoded(windows: _Windows, length: np.ndarray, coded: _Coded) -> tuple[np.ndarray, np.ndarray]:
    """Packets that each window takes, and their bytes."""
    is_whole, begin = coded.is_whole[windows.stream], coded.begin[windows.stream]
    first = begin + np.where(is_whole, 0, windows.start)
    end = begin + np.where(is_whole, length, windows.start + windows.num_frames)
    bounds = np.stack([first, end], axis=1).reshape(-1)
    last_packet = begin + np.maximum.reduceat(coded.coding, bounds)[::2]
    first_packet = begin + coded.key_packet[first]
    needed = coded.needed_before[last_packet + 1] - coded.needed_before[first_packet]
    # Of those that no other frame refers to, the decoder leaves out what is not in the window.
    taken = needed + coded.spare_before[end] - coded.spare_before[first]
    return taken[:, 0], taken[:, 1]


def _by_name(prefix: str, names: np.ndarray, amounts: np.ndarray) -> dict[str, float]:
    found, which = np.unique(names, return_inverse=True)
    sums = np.bincount(which, weights=amounts, minlength=len(found))
    return {f"{prefix}.{name}": float(total) for name, total in zip(found, sums, strict=True)}
