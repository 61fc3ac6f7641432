"""How much there is to do for a window, on average: counted from tables, no shard is opened.

`expected_work` takes the mean over what the loader draws: the samples of an epoch, their streams,
the first frame of the window and the place of the crop. Amounts go by name; those that depend on
the codec, or on how its YUV is read, have its name behind a dot:

    windows               1
    record_bytes          of the `json` member
    read_bytes            of all members that are read
    lr_opened.CODEC       decoders opened
    lr_coded_pixels.CODEC decoded, from the last key frame before the window to its end
    lr_coded_bytes.CODEC  of the packets of those frames
    lr_pixels.READING     of the window, converted to RGB, whole pictures
    hr_tiles              touched by the crop
    hr_pixels             of these tiles
    hr_bytes              of these tiles, as if all of a sample's pixels took equally many
    flows                 windows that have motion: not pseudo-videos
    flow_pixels           of the window, whole LR pictures
    flow_blocks           motion vectors in the window and a frame on either side
    cropped_pixels        LR and HR of the crop, which are cut out, turned and stacked
    handed_pixels         of these, what a worker hands over to the process that trains

What a recipe does after its last codec is not counted, since no table tells it.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import DatasetError, Manifest
from schemas.recipe import HrSettings
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    FrameRow,
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

Work = Mapping[str, float]
"""Amounts by name."""

LOSSLESS, RGB = "lossless", "rgb"
"""Stand for the codec of a stream that has none, and for how it is read."""

# Whose frames are looked at: enough for a mean, however many there are.
_MOST_SHARDS, _MOST_WINDOWS = 64, 256  # windows of each
_STREAM_COLUMNS = [
    "key", "stream", "codec", "lr_kind", "b_frames", "lost_slices", "motion_blocks",
    "coded_height", "coded_width", "read_scaler", "read_range",
]  # fmt: skip
_FRAME_COLUMNS = ["key", "stream", "display_index", "coding_index", "key_frame", "packet_bytes"]


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


def tile_side(manifest: Manifest) -> int:
    """Side of the tiles in which HR is stored, pixels: what the recipe says."""
    settings = manifest.recipe.get("hr", {})
    return HrSettings.model_validate(settings).tile


def expected_work(
    dataset: Place,
    manifest: Manifest,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
    *,
    in_workers: bool,
) -> Work:
    """The mean over the windows of an epoch; of many shards, some stand for all where LR counts.

    Args:
        dataset: its folder, local or in a store.
        manifest: what it says.
        index: the samples that the plan tells of.
        plan: of the epoch.
        settings: of the stream.
        in_workers: windows are made in processes of their own.

    Raises:
        DatasetError: if a table is missing, damaged, or does not tell of a sample.
    """
    work = defaultdict[str, float](float)
    work["windows"] = 1.0
    _add_members(work, manifest, index, plan)
    _add_hr(work, manifest, index, plan, settings)
    hr_pixels_per_lr_pixel = manifest.scale**2
    area = settings.crop**2 * (1 + hr_pixels_per_lr_pixel)
    work["cropped_pixels"] = float(plan.num_frames.mean()) * area
    if in_workers:
        work["handed_pixels"] = work["cropped_pixels"]
    _add_lr(work, dataset, index, plan, len(manifest.streams))
    return dict(work)


def members_read(
    index: SampleIndex, plan: EpochPlan, num_streams: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of the record and of all members that a window takes, (M,) float64 each, expected."""
    record = index.member_bytes(JSON_MEMBER)
    lr = np.stack([index.member_bytes(lr_member(k)) for k in range(num_streams)], 1)
    mv = np.stack([index.member_bytes(mv_member(k)) for k in range(num_streams)], 1)
    per_stream = lr + np.where(index.is_pseudo_video[:, None], 0, mv)
    one = per_stream[plan.entry, np.maximum(plan.stream, 0)]
    stream = np.where(plan.stream == ANY, per_stream.mean(1)[plan.entry], one)
    hr = index.member_bytes(HR_MEMBER)
    return record[plan.entry].astype(float), record[plan.entry] + hr[plan.entry] + stream


def _add_members(
    work: dict[str, float], manifest: Manifest, index: SampleIndex, plan: EpochPlan
) -> None:
    record, read = members_read(index, plan, len(manifest.streams))
    work["record_bytes"] = float(record.mean())
    work["read_bytes"] = float(read.mean())


def _add_hr(
    work: dict[str, float],
    manifest: Manifest,
    index: SampleIndex,
    plan: EpochPlan,
    settings: StreamSettings,
) -> None:
    scale, tile = manifest.scale, tile_side(manifest)
    rows = expected_touched(index.lr_height, scale, tile, settings.crop)
    columns = expected_touched(index.lr_width, scale, tile, settings.crop)
    pixels = rows.pixels * columns.pixels  # of a frame; rows and columns are drawn apart
    stored = index.num_frames * index.lr_height * index.lr_width * scale**2
    bytes_of_pixel = index.member_bytes(HR_MEMBER) / stored
    frames, entry = plan.num_frames, plan.entry
    work["hr_tiles"] = float((frames * (rows.tiles * columns.tiles)[entry]).mean())
    work["hr_pixels"] = float((frames * pixels[entry]).mean())
    work["hr_bytes"] = float((frames * (pixels * bytes_of_pixel)[entry]).mean())


def _add_lr(
    work: dict[str, float], dataset: Place, index: SampleIndex, plan: EpochPlan, num_streams: int
) -> None:
    shard = index.shard[plan.entry]
    total, windows = defaultdict[str, float](float), 0
    for number in _spread(np.unique(shard), _MOST_SHARDS):
        positions = np.flatnonzero(shard == number)
        looked_at = _spread(positions, _MOST_WINDOWS)
        part = EpochPlan(*(column[looked_at] for column in plan))
        coded = _read_coded(dataset, index, int(number), part, num_streams)
        for name, amount in _coded_work(index, part, coded).items():
            total[name] += amount * len(positions) / len(looked_at)
        windows += len(positions)
    for name, amount in total.items():
        work[name] += amount / windows


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
    pixels: np.ndarray
    """(S,) of a coded picture"""
    motion_blocks: np.ndarray
    """(S,)"""
    begin: np.ndarray
    """(S,) its first frame among all, which are in presentation order"""
    delay: np.ndarray
    """(S,) packets that the decoder holds back"""
    key_packet: np.ndarray
    """(F,) in coding order, the last key frame that is not shown after this frame"""
    bytes_before: np.ndarray
    """(F + 1,) bytes of all packets before, in coding order"""


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
    columns = _frame_columns(frames, owner, length)
    columns["delay"] = np.maximum(columns["delay"], _told_delay(streams))
    return _Coded(
        entries=entries,
        num_streams=num_streams,
        codec=np.where(is_lossless, LOSSLESS, _text(streams, "codec")),
        reading=np.where(is_lossless, RGB, reading),
        is_whole=_numbers(streams, "lost_slices") > 0,
        pixels=_numbers(streams, "coded_height") * _numbers(streams, "coded_width"),
        motion_blocks=_numbers(streams, "motion_blocks"),
        begin=np.cumsum(length) - length,
        **columns,
    )


def _told_delay(streams: pa.Table) -> np.ndarray:
    """Packets that a decoder holds back since the header says so, whether or not it is needed.

    One where there may be B frames, two where these may refer to each other: x264 and x265 do.
    """
    has_pyramid = np.isin(_text(streams, "codec"), ["h264", "hevc"])
    return np.minimum(_numbers(streams, "b_frames"), np.where(has_pyramid, 2, 1))


def _frame_columns(
    frames: pa.Table, owner: np.ndarray, length: np.ndarray
) -> dict[str, np.ndarray]:
    begin = np.cumsum(length) - length
    display, coding = _numbers(frames, "display_index"), _numbers(frames, "coding_index")
    order = np.lexsort((display, owner))
    owner, display, coding = owner[order], display[order], coding[order]
    is_key = frames.column("key_frame").to_numpy()[order]
    # Streams lie one behind the other, so that a running maximum must start anew in each.
    base = owner * (length.max(initial=0) + 1)
    key_packet = np.maximum.accumulate(np.where(is_key, coding, 0) + base) - base
    size = np.zeros(len(order), np.int64)
    size[begin[owner] + coding] = _numbers(frames, "packet_bytes")[order]
    return {
        "delay": np.maximum.reduceat(coding - display, begin),
        "key_packet": key_packet,
        "bytes_before": np.concatenate([[0], np.cumsum(size)]),
    }


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


def _coded_work(index: SampleIndex, plan: EpochPlan, coded: _Coded) -> Work:
    """Of all windows of a part of the plan together."""
    windows = _windows(index, plan, coded)
    stream, count, times = windows.stream, windows.num_frames, windows.times
    length = np.repeat(index.num_frames[coded.entries], coded.num_streams)[stream]
    packets, coded_bytes = _decoded(windows, length, coded)
    pixels = coded.pixels[stream]
    lr_sizes = (index.lr_height * index.lr_width)[coded.entries][stream // coded.num_streams]
    is_still = index.is_pseudo_video[coded.entries][stream // coded.num_streams]
    moving = times * ~is_still
    blocks = coded.motion_blocks[stream] * np.minimum((count + 2) / length, 1)
    return {
        **_by_name("lr_opened", coded.codec[stream], times),
        **_by_name("lr_coded_pixels", coded.codec[stream], times * packets * pixels),
        **_by_name("lr_coded_bytes", coded.codec[stream], times * coded_bytes),
        **_by_name("lr_pixels", coded.reading[stream], times * count * pixels),
        "flows": float(moving.sum()),
        "flow_pixels": float((moving * count * lr_sizes).sum()),
        "flow_blocks": float((moving * blocks).sum()),
    }


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
    stream, begin = windows.stream, coded.begin[windows.stream]
    is_whole = coded.is_whole[stream]
    first = np.where(is_whole, 0, coded.key_packet[begin + windows.start])
    shown = windows.start + windows.num_frames - 1 + coded.delay[stream]
    last = np.where(is_whole, length - 1, np.minimum(shown, length - 1))
    sizes = coded.bytes_before[begin + last + 1] - coded.bytes_before[begin + first]
    return last - first + 1, sizes


def _by_name(prefix: str, names: np.ndarray, amounts: np.ndarray) -> dict[str, float]:
    found, which = np.unique(names, return_inverse=True)
    sums = np.bincount(which, weights=amounts, minlength=len(found))
    return {f"{prefix}.{name}": float(total) for name, total in zip(found, sums, strict=True)}
