"""What work costs on this machine: the loader's own functions, timed on synthetic samples.

The time of a window is taken to be the sum of its amounts (`training.work`), each times a rate.
The rates are found by least squares, none below 0, from a few dozen timed runs on two kinds of
pictures, smooth and busy, in two sizes: their pixels and bytes stand in different proportions,
which tells the cost of a pixel from that of a byte. Nothing of the dataset is opened.
"""

import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from schemas.draw import CodecDraw, ColorDraw, Origin, StreamDraw
from schemas.encoders import ENCODERS
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    Frame,
    FrameType,
    Sample,
    SampleKind,
    Stream,
    lr_member,
    mv_member,
)
from schemas.shard import MemberParts, ShardWriter, read_member
from training import augment
from training.batch import Batch, Window, collate
from training.draw import Cut
from training.index import Entry
from training.samples import read_window
from training.shards import Shards
from training.work import LOSSLESS, RGB, Work, batch_bytes, unreferenced
from transforms.codec import coded_size
from transforms.color import converted_side
from transforms.decode import decode_hr, decode_lr
from transforms.motion import dense_flow, read_blocks, write_blocks
from transforms.streams import MadeStream, make_stream
from transforms.tiles import pack_jpeg_tiles, pack_tiles, tile_header_bytes

Rates = dict[str, float]
"""Seconds of one core for a unit of each kind of work."""

_SCALE, _TILE = 2, 128
_SIZES = ((96, 4), (160, 9))  # side of LR, pixels, and frames; x265 takes no less than 96
_WINDOW_FRAMES, _CROPS = 4, (32, 96)
_FPS = 25
_ORIGIN = Origin(source_id=64 * "0", frame=0, top=0, left=0)
_REPEATS = 3


class Coding(NamedTuple):
    """How a stream of the dataset is coded and read."""

    codec: str
    """FFmpeg's name, or `LOSSLESS`"""
    reading: str
    """scaler and range, such as exact-tv, or `RGB`"""


class _Made(NamedTuple):
    """A synthetic sample in its shard."""

    sample: Sample
    members: dict[str, bytes]
    entry: Entry


class _Run(NamedTuple):
    """Something that was timed."""

    work: Work
    seconds: float


def measure_rates(codings: Collection[Coding], jpeg_quality: int | None) -> Rates:
    """Time the loader's parts; takes about a second, and half a second for each coding.

    Args:
        codings: those that occur; of others nothing is told.
        jpeg_quality: of stored HR; None where it is lossless WebP.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the loader's workers
    try:
        with tempfile.TemporaryDirectory() as folder:
            runs = list(_runs(Path(folder), sorted(codings), jpeg_quality))
    finally:
        torch.set_num_threads(threads)
    return _solve(runs)


def seconds_by_term(work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of one core that each kind of work takes; their sum is the window's."""
    return {name: amount * rates[name] for name, amount in work.items()}


def _solve(runs: Sequence[_Run]) -> Rates:
    names = sorted({name for run in runs for name in run.work})
    amounts = np.array([[run.work.get(name, 0.0) for name in names] for run in runs])
    seconds = np.array([run.seconds for run in runs])
    # Relative errors count, and columns are of one size, or the solver would see bytes alone.
    largest = amounts.max(axis=0)
    largest[largest == 0] = 1  # as of vectors, which not all codecs have
    solution, _ = nnls(amounts / largest / seconds[:, None], np.ones(len(runs)))
    return dict(zip(names, (solution / largest).tolist(), strict=True))


def _runs(folder: Path, codings: Sequence[Coding], jpeg_quality: int | None) -> Iterator[_Run]:
    (folder / "data").mkdir()
    for number, (side, frames) in enumerate(_SIZES):
        for kind, pictures in (("smooth", _smooth), ("busy", _busy)):
            hr = pictures(frames, _SCALE * side)
            made = _make_sample(folder, f"{kind}-{number}", hr, codings, jpeg_quality)
            yield from _runs_of_lr(made, codings)
            yield from _runs_of_hr(folder, made)
            yield from _runs_of_flow(made)
            yield _run_of_reading(folder, made)
            yield from _runs_of_windows(folder, made, codings[0])


def _timed(work: Work, action: Callable[[], object]) -> _Run:
    action()  # what is kept from call to call is there
    seconds = []
    for _ in range(_REPEATS):
        # CPU time: what else goes on is no part of it.
        began = time.thread_time()
        action()
        seconds.append(time.thread_time() - began)
    return _Run(work, float(np.median(seconds)))


# --- Synthetic samples ----------------------------------------------------------------------


def _smooth(frames: int, side: int) -> np.ndarray:
    """(T, side, side, 3) uint8: slow waves that move."""
    t, y, x = np.ogrid[:frames, :side, :side]
    waves = [np.sin((x + 3 * t) / 31), np.cos((y - 2 * t) / 27), np.sin((x + y + t) / 43)]
    planes = [wave + np.zeros((frames, side, side)) for wave in waves]
    return np.rint(127 + 90 * np.stack(planes, axis=3)).astype(np.uint8)


def _busy(frames: int, side: int) -> np.ndarray:
    """(T, side, side, 3) uint8: a rough texture that moves, under some noise."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 240, (side // 4, side // 4 + frames, 3)).astype(np.uint8)
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)
    moving = [texture[:side, 3 * t : 3 * t + side] for t in range(frames)]
    return np.stack(moving) + rng.integers(0, 12, (frames, side, side, 3), np.uint8)


def _draw(coding: Coding, side: int) -> StreamDraw:
    if coding.codec == LOSSLESS:
        return StreamDraw(stages=[])
    (codec,) = (name for name in ENCODERS if name == coding.codec)
    traits, (scaler, levels) = ENCODERS[codec], coding.reading.split("-")
    has_crf = "crf" in traits.rate_modes
    best, worst = traits.crf if has_crf else traits.qscale
    height, width = coded_size(codec, "yuv420p", side, side)
    color = ColorDraw.model_validate(
        {"scaler": scaler, "written_range": levels, "read_range": levels}
    )
    draw = CodecDraw(
        codec=codec,
        rate_mode="crf" if has_crf else "qscale",
        rate_value=round(best + (worst - best) / 2),
        preset=traits.default_preset,
        gop_frames=min(250, traits.max_gop_frames),
        b_frames=min(3, traits.max_b_frames),
        pixel_format="yuv420p",
        color=color,
        fps=_FPS,
        height=height,
        width=width,
    )
    return StreamDraw(stages=[draw])


def _make_sample(
    folder: Path,
    key: str,
    hr: np.ndarray,
    codings: Sequence[Coding],
    jpeg_quality: int | None,
) -> _Made:
    frames, side = len(hr), hr.shape[1]
    lr = np.ascontiguousarray(hr[:, ::_SCALE, ::_SCALE])
    streams = [
        make_stream(lr, _draw(coding, side // _SCALE), number, coding.codec)
        for number, coding in enumerate(codings)
    ]
    hr_jpeg = None
    if jpeg_quality is None:
        hr_zip, hr_tiles = pack_tiles(hr, _TILE)
    else:
        hr_zip, hr_tiles, hr_jpeg = pack_jpeg_tiles(hr, _TILE, jpeg_quality)
    sample = Sample(
        schema_version=SCHEMA_VERSION if hr_jpeg is None else LOSSY_HR_VERSION,
        key=key,
        kind=SampleKind.CLIP,
        split="train",
        group=key,
        licence="",
        attributions=[],
        recipe_sha256="",
        seed=0,
        clip=0,
        variant=0,
        hr_id="",
        num_frames=frames,
        scale=_SCALE,
        hr_height=side,
        hr_width=side,
        fps=_FPS,
        hr_sharpened=False,
        scene_draw="{}",
        origins=[_ORIGIN] * frames**3,  # of no use here, but for records of unlike sizes
        hr_tiles=hr_tiles,
        hr_jpeg=hr_jpeg,
        streams=[made.stream for made in streams],
    )
    return _stored(folder, sample, {HR_MEMBER: hr_zip, **_stream_members(streams)})


def _stream_members(streams: Sequence[MadeStream]) -> dict[str, bytes]:
    bitstreams = {lr_member(k): made.nut for k, made in enumerate(streams)}
    return bitstreams | {mv_member(k): write_blocks(made.blocks) for k, made in enumerate(streams)}


def _stored(folder: Path, sample: Sample, members: dict[str, bytes]) -> _Made:
    with (folder / "data" / f"{sample.key}.tar").open("wb") as file:
        writer = ShardWriter(file)
        ranges = writer.add(sample, members)
        writer.close()
    entry = Entry(
        key=sample.key,
        kind=sample.kind,
        num_frames=sample.num_frames,
        lr_height=sample.hr_height // _SCALE,
        lr_width=sample.hr_width // _SCALE,
        shard=sample.key,
        members={member.name: member for member in ranges},
    )
    return _Made(sample, members, entry)


# --- What is timed --------------------------------------------------------------------------


def _runs_of_lr(made: _Made, codings: Sequence[Coding]) -> Iterator[_Run]:
    frames, side = made.sample.num_frames, made.entry.lr_width
    # Most are decoded and few converted, or the other way round; of all pixels, or of some.
    windows = ((0, frames, side), (0, frames, _CROPS[0]), (0, 1, side), (frames - 1, 1, side))
    for number, coding in enumerate(codings):
        stream, data = made.sample.streams[number], made.members[lr_member(number)]
        for start, count, crop in windows:
            decode = functools.partial(
                decode_lr, stream, data, start, count, height=crop, width=crop
            )
            yield _timed(_lr_work(stream, coding, start, count, crop), decode)


def _lr_work(stream: Stream, coding: Coding, start: int, count: int, crop: int) -> Work:
    decoded = _decoded_frames(stream, range(start, start + count))
    height, width = stream.coded_height, stream.coded_width
    converted = converted_side(crop, height) * converted_side(crop, width)
    if coding.reading == RGB:
        converted = crop**2
    return {
        f"lr_opened.{coding.codec}": 1,
        f"lr_coded_pixels.{coding.codec}": len(decoded) * height * width,
        f"lr_coded_bytes.{coding.codec}": sum(frame.packet_bytes for frame in decoded),
        f"lr_frames.{coding.reading}": count,
        f"lr_pixels.{coding.reading}": count * converted,
    }


def _decoded_frames(stream: Stream, window: range) -> list[Frame]:
    in_order = sorted(stream.frames, key=lambda frame: frame.coding_index)
    is_b = np.array([frame.frame_type is FrameType.B for frame in in_order])
    is_spare = unreferenced(is_b, np.array([frame.display_index for frame in in_order]))
    first = max(
        n
        for n, frame in enumerate(in_order)
        if frame.key_frame and frame.display_index <= window[0]
    )
    last = max(n for n, frame in enumerate(in_order) if frame.display_index in window)
    part = zip(in_order[first : last + 1], is_spare[first : last + 1], strict=True)
    return [frame for frame, spare in part if not spare or frame.display_index in window]


def _runs_of_hr(folder: Path, made: _Made) -> Iterator[_Run]:
    for count, side in ((made.sample.num_frames, made.sample.hr_width), (1, _TILE)):

        def decode(count: int = count, side: int = side) -> object:
            with _tar(folder, made).open("rb") as file:
                member = MemberParts(file, made.entry.members[HR_MEMBER])
                return decode_hr(made.sample, member, count=count, height=side, width=side)

        work = _hr_work(made, range(count), side)
        yield _timed({**work, "read_bytes": _hr_read_bytes(made, work)}, decode)


def _hr_work(made: _Made, window: range, side: int) -> Work:
    """Of a crop at the top left."""
    tiles = [t for t in made.sample.hr_tiles if t.frame in window and max(t.top, t.left) < side]
    return {
        "hr_tiles": len(tiles),
        "hr_pixels": sum(tile.height * tile.width for tile in tiles),
        "hr_bytes": sum(tile.size for tile in tiles),
    }


def _hr_read_bytes(made: _Made, work: Work) -> float:
    of_tile = tile_header_bytes(is_jpeg=made.sample.hr_jpeg is not None)
    return work["hr_bytes"] + work["hr_tiles"] * of_tile


def _runs_of_flow(made: _Made) -> Iterator[_Run]:
    # Not all codecs have vectors.
    stream = max(made.sample.streams, key=lambda stream: stream.motion_blocks)
    member = made.members[mv_member(stream.stream)]
    height, width = made.entry.lr_height, made.entry.lr_width
    for count, crop in ((2, width), (made.sample.num_frames, width), (2, _CROPS[0])):

        def flow(count: int = count, part: slice = slice(crop)) -> object:
            return dense_flow(read_blocks(member), stream, height, width, 0, count, part, part)

        yield _timed(_flow_work(made, stream, count, crop), flow)


def _flow_work(made: _Made, stream: Stream, count: int, crop: int) -> Work:
    share = min((count + 2) / made.sample.num_frames, 1)
    return {
        "flows": 1,
        "flow_pixels": count * crop**2,
        "flow_blocks": stream.motion_blocks * share,
    }


def _tar(folder: Path, made: _Made) -> Path:
    return folder / "data" / f"{made.entry.shard}.tar"


def _run_of_reading(folder: Path, made: _Made) -> _Run:
    member = made.entry.members[HR_MEMBER]

    def read() -> object:
        with _tar(folder, made).open("rb") as file:
            return read_member(file, member)

    return _timed({"read_bytes": member.size}, read)


def _runs_of_windows(folder: Path, made: _Made, coding: Coding) -> Iterator[_Run]:
    """Windows of the first stream: what they take beyond their parts, and stacking them."""
    frames = made.sample.num_frames
    for side in _CROPS:
        cut = Cut(
            stream=0,
            start=frames - _WINDOW_FRAMES,
            count=_WINDOW_FRAMES,
            top=0,
            left=0,
            height=side,
            width=side,
        )
        read = functools.partial(read_window, Shards(folder, []), made.entry, cut)
        yield _timed(_window_work(made, coding, cut), read)
        size = batch_bytes(2 * _WINDOW_FRAMES, side, _SCALE)
        window = read()
        yield _timed({"stacked_bytes": size}, functools.partial(_turn_and_stack, window))
        handed = {"stacked_bytes": size, "handed_bytes": size}
        yield _timed(handed, functools.partial(_turn_stack_and_hand_over, window))


def _turn_and_stack(window: Window) -> Batch:
    # One and a half turns each, as are expected.
    return collate([augment.vflip(window), augment.transpose(augment.hflip(window))])


def _turn_stack_and_hand_over(window: Window) -> None:
    """As a worker does it: tensors go to the other process through memory that both share."""
    for value in vars(_turn_and_stack(window)).values():
        if isinstance(value, torch.Tensor):
            value.share_memory_()


def _window_work(made: _Made, coding: Coding, cut: Cut) -> Work:
    stream = made.sample.streams[cut.stream]
    sizes = {name: member.size for name, member in made.entry.members.items()}
    whole = (JSON_MEMBER, lr_member(cut.stream), mv_member(cut.stream))
    hr = _hr_work(made, range(cut.start, cut.start + cut.count), _SCALE * cut.width)
    return {
        "windows": 1,
        "record_bytes": sizes[JSON_MEMBER],
        "read_bytes": sum(sizes[name] for name in whole) + _hr_read_bytes(made, hr),
        **_lr_work(stream, coding, cut.start, cut.count, cut.width),
        **hr,
        **_flow_work(made, stream, cut.count, cut.width),
    }


def codings_of(work: Work) -> set[Coding]:
    """Codings in which each codec and each reading occurs that an amount of work tells of."""
    codecs = sorted(_named(work, "lr_opened") - {LOSSLESS})
    readings = sorted(_named(work, "lr_pixels") - {RGB})
    # What decoding takes does not depend on how the outcome is read: not all pairs are needed.
    number = max(len(codecs), len(readings))
    pairs = zip(itertools.cycle(codecs), itertools.cycle(readings), strict=False)
    lossless = {Coding(LOSSLESS, RGB)} if LOSSLESS in _named(work, "lr_opened") else set()
    return {Coding(*pair) for pair in itertools.islice(pairs, number)} | lossless


def _named(work: Work, prefix: str) -> set[str]:
    return {name.partition(".")[2] for name in work if name.startswith(f"{prefix}.")}
