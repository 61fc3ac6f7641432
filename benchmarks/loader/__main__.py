"""Measure the training reader beside others: `python -m benchmarks.loader`."""

import argparse
import cProfile
import pstats
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.loader import __doc__ as description
from benchmarks.loader.corpus import (
    WHOLE,
    Size,
    export_folders,
    first_frames,
    make_dataset,
    write_clips,
)
from benchmarks.loader.elsewhere import Elsewhere
from benchmarks.loader.folders import FolderReader, RedsStyle, VimeoStyle, bytes_read
from benchmarks.loader.readers import Bare, OwnReader, PlainWebDataset
from benchmarks.loader.windows import Reading, use_one_thread
from benchmarks.profiling import Stages, print_stages
from pipelines.demo import demo_inputs
from pipelines.export.tree import VIMEO_FRAMES
from schemas.recipe_files import load_recipe
from training.config import StreamSettings

_BYTES_PER_MB = 1e6
_OURS, _BARE, _MOTION = "our reader", "bare decode", "motion vectors"
_OURS_JPEG, _BARE_JPEG = "our reader, JPEG", "bare decode, JPEG"
_JPEG_QUALITY = 95

_STAGES: Stages = {
    "decode HR": [("decode.py", "decode_hr")],
    "decode LR": [("decode.py", "decode_lr")],
    "motion vectors": [("motion.py", "read_blocks"), ("motion.py", "dense_flow")],
    "read and check members": [("shard.py", "read_member")],
    "parse the record": [("samples.py", "_parse_sample")],
    "flips": [("augment.py", name) for name in ("hflip", "vflip", "transpose")],
    "stack into tensors": [("batch.py", "collate")],
    "plan and draw": [("batches.py", "_order"), ("batches.py", "_draw_cut")],
}


class _Contender(NamedTuple):
    """Something that reads windows."""

    name: str
    measure: Callable[[], Reading]
    bytes_per_sample: float
    """0 for what lies in memory"""
    bytes_per_pixel: float
    """the same by pixel of HR"""


class _Section(NamedTuple):
    """Contenders that are compared."""

    title: str
    contenders: list[_Contender]
    """our reader first"""
    own: OwnReader
    folders: FolderReader


class _Place(NamedTuple):
    """Where things are made, and how."""

    folder: Path
    options: argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.clip_frames < max(options.frames, VIMEO_FRAMES):
        parser.error(f"--clip-frames must be {VIMEO_FRAMES} at least, and --frames at least")
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="vcsr-benchmark-", dir=options.folder) as name:
        place = _Place(Path(name), options)
        sections = list(_sections(place))
        readings = _measure(sections, options.rounds)
        for section in sections:
            _print_section(section, readings)
            if options.profile:
                _profile(section.own)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    parser.add_argument("--recipe", default="cavsr", help="of the streams; default cavsr")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="taken of the inputs")
    parser.add_argument("--clip-frames", type=int, default=15, metavar="N", help="of a clip")
    parser.add_argument("--height", type=int, default=720, metavar="N", help="of whole frames")
    parser.add_argument("--width", type=int, default=1280, metavar="N", help="of whole frames")
    parser.add_argument("--patch", type=int, default=512, metavar="N", help="HR pixels a side")
    parser.add_argument("--frames", type=int, default=15, metavar="N", help="of a window")
    parser.add_argument("--crop", type=int, default=64, metavar="N", help="LR pixels a side")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N")
    parser.add_argument("--windows", type=int, default=48, metavar="N", help="read in a round")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--litdata-python", metavar="PATH", help="interpreter with LitData")
    parser.add_argument("--mds-python", metavar="PATH", help="interpreter with mosaicml-streaming")
    parser.add_argument("--profile", action="store_true", help="show where our reader's time goes")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="to make datasets with")
    parser.add_argument("--folder", metavar="PATH", help="for temporary files, a few GB")
    return parser


# What is compared


def _sections(place: _Place) -> Iterator[_Section]:
    folder, options = place
    recipe = load_recipe(options.recipe)
    size = Size(options.height, options.width)
    clips = write_clips(
        folder / "clips",
        options.input or demo_inputs(),
        recipe,
        options.clips,
        options.clip_frames,
        size,
    )
    print(
        f"{clips.number} clips of {options.clip_frames} frames of {size.width}x{size.height}, "
        f"{clips.enlarged} of them enlarged; recipe {recipe.name}; JPEG of quality {_JPEG_QUALITY}",
        flush=True,
    )
    yield _whole_frames(place)
    first_frames(folder / "clips", folder / "short-clips", VIMEO_FRAMES)
    yield _small_patches(place)


def _whole_frames(place: _Place) -> _Section:
    options = place.options
    patch = Size(options.patch, options.patch)
    patches = _own(place, "patches", "clips", patch, options.clip_frames, options.frames)
    whole = _own(place, "whole", "clips", WHOLE, options.clip_frames, options.frames)
    folders = _folders(place, whole, RedsStyle, "cavsr")
    lossy = _own(
        place, "patches-jpeg", "clips", patch, options.clip_frames, options.frames, _JPEG_QUALITY
    )
    contenders = [
        *_readers_of(place, patches),
        *_lossy_readers_of(lossy),
        _contender(f"{_OURS}, whole frames", whole.measure, whole, whole.num_bytes),
        _contender("folders, whole frames", folders.measure, whole, _bytes_of(folders)),
    ]
    title = (
        f"whole frames: windows of {options.frames} frames; {whole.num_samples} samples of "
        f"{options.width}x{options.height}, {patches.num_samples} patches of "
        f"{options.patch}x{options.patch}"
    )
    return _Section(title, contenders, patches, folders)


def _small_patches(place: _Place) -> _Section:
    options = place.options
    side = options.crop * load_recipe(options.recipe).scale
    small = _own(place, "small", "short-clips", Size(side, side), VIMEO_FRAMES, VIMEO_FRAMES)
    folders = _folders(place, small, VimeoStyle, "cavsr-vimeo")
    lossy = _own(
        place,
        "small-jpeg",
        "short-clips",
        Size(side, side),
        VIMEO_FRAMES,
        VIMEO_FRAMES,
        _JPEG_QUALITY,
    )
    contenders = [
        *_readers_of(place, small),
        *_lossy_readers_of(lossy),
        _contender("folders, small patches", folders.measure, small, _bytes_of(folders)),
    ]
    title = (
        f"small patches: windows of {VIMEO_FRAMES} frames; {small.num_samples} samples of "
        f"{side}x{side}"
    )
    return _Section(title, contenders, small, folders)


def _own(
    place: _Place,
    name: str,
    clips: str,
    patch: Size,
    clip_frames: int,
    frames: int,
    jpeg_quality: int | None = None,
) -> OwnReader:
    """Our reader over a new dataset."""
    folder, options = place
    recipe = load_recipe(options.recipe)
    hr = recipe.hr.model_copy(update={"jpeg_quality": jpeg_quality})
    recipe = recipe.model_copy(update={"hr": hr})
    dataset = make_dataset(
        folder / name, folder / clips, recipe, patch, clip_frames, options.workers
    )
    settings = StreamSettings(frames=frames, crop=options.crop, batch_size=options.batch_size)
    return OwnReader(dataset, settings, options.windows)


def _readers_of(place: _Place, own: OwnReader) -> Iterator[_Contender]:
    """Our reader, and all others of the same members; each must give the same pixels."""
    batch_size, dataset = place.options.batch_size, own.dataset
    yield _contender(_OURS, own.measure, own, own.num_bytes)
    bare = Bare(dataset, own.epochs)
    _check_same(_BARE, bare.digest(), own)
    yield _contender(_BARE, bare.measure_pictures, own, 0)
    yield _contender(_MOTION, bare.measure_motion, own, 0)
    plain = PlainWebDataset(dataset, own.epochs, batch_size)
    _check_same("webdataset", plain.digest(), own)
    tar_bytes = sum(tar.stat().st_size for tar in (dataset / "data").iterdir())
    yield _contender("webdataset", plain.measure, own, tar_bytes)
    for name, library in (("LitData", "litdata"), ("MDS", "mds")):
        python = getattr(place.options, f"{library}_python")
        if not python:
            print(f"{name} left out: no --{library}-python is given")
            continue
        folder = place.folder / f"{dataset.name}-{library}"
        other = Elsewhere(library, python, dataset, folder, own.epochs, batch_size)
        _check_same(name, other.digest(), own)
        yield _contender(name, other.measure, own, other.num_bytes)


def _lossy_readers_of(own: OwnReader) -> Iterator[_Contender]:
    """The same of a dataset whose HR is JPEG, so that no other contender has its pixels."""
    yield _contender(_OURS_JPEG, own.measure, own, own.num_bytes)
    bare = Bare(own.dataset, own.epochs)
    _check_same(_BARE_JPEG, bare.digest(), own)
    yield _contender(_BARE_JPEG, bare.measure_pictures, own, 0)


def _folders(
    place: _Place, own: OwnReader, style: type[RedsStyle | VimeoStyle], layout: str
) -> FolderReader:
    """A dataset as folders of PNG frames, read as the release does."""
    root = own.dataset.with_name(f"{own.dataset.name}-folders")
    streams = export_folders(root, own.dataset, layout, place.options.workers)
    reader = FolderReader(style(root, streams, own.scale), own.epochs, place.options.batch_size)
    _check_same("folders", reader.digest(), own)
    return reader


def _bytes_of(folders: FolderReader) -> int:
    return bytes_read(folders.dataset.root)


def _contender(
    name: str, measure: Callable[[], Reading], own: OwnReader, num_bytes: int
) -> _Contender:
    return _Contender(name, measure, num_bytes / own.num_samples, num_bytes / own.hr_pixels)


def _check_same(name: str, found: str, own: OwnReader) -> None:
    if found != own.digest():
        raise SystemExit(f"{name} does not give the pixels of our reader")


# Measuring and reporting


_Readings = dict[tuple[str, str], list[Reading]]


def _measure(sections: Sequence[_Section], rounds: int) -> _Readings:
    """Time everything in turn: title and name -> its readings."""
    readings: _Readings = {}
    for number in range(rounds):
        for section in sections:
            section.folders.dataset.watch.seconds.clear()
            # In turns from the first and from the last, since machines slow down and speed up.
            for contender in section.contenders[:: -1 if number % 2 else 1]:
                reading = contender.measure()
                readings.setdefault((section.title, contender.name), []).append(reading)
        print(f"round {number} done", file=sys.stderr, flush=True)
    return readings


def _print_section(section: _Section, readings: _Readings) -> None:
    print(f"\n{section.title}")
    print(
        f"  {'':26} {'windows/s':>10} {'per CPU s':>10} {'ours is':>8} {'by round':>16}"
        f" {'MB/sample':>10} {'bytes/pixel':>12}"
    )
    ours = readings[section.title, _OURS]
    for contender in section.contenders:
        each = readings[section.title, contender.name]
        ratios = [_cpu_ms(a) / _cpu_ms(b) for a, b in zip(each, ours, strict=True)]
        disk = (
            f"{contender.bytes_per_sample / _BYTES_PER_MB:10.3f} {contender.bytes_per_pixel:12.3f}"
        )
        print(
            f"  {contender.name:26} {max(r.windows / r.seconds for r in each):10.2f}"
            f" {1000 / _best(each):10.2f} {_best(each) / _best(ours):7.2f}x"
            f" {min(ratios):7.2f}-{max(ratios):.2f}x {disk if contender.bytes_per_sample else ''}"
        )
    _print_shares(section, readings)


def _print_shares(section: _Section, readings: _Readings) -> None:
    ours, bare, motion = (_best(readings[section.title, n]) for n in (_OURS, _BARE, _MOTION))
    print(
        f"  of our reader's CPU time: bare decode {bare / ours:.1%}, motion vectors "
        f"{motion / ours:.1%}, the rest {1 - (bare + motion) / ours:.1%}; with the motion vectors "
        f"counted apart it has {bare / (ours - motion):.1%} of the speed of the bare decode"
    )
    ours, bare = (_best(readings[section.title, n]) for n in (_OURS_JPEG, _BARE_JPEG))
    print(
        f"  with HR as JPEG: bare decode {bare / ours:.1%}; with the motion vectors counted apart "
        f"it has {bare / (ours - motion):.1%} of the speed of the bare decode"
    )
    spent = section.folders.dataset.watch.seconds
    shares = ", ".join(f"{stage} {s / sum(spent.values()):.0%}" for stage, s in spent.items())
    print(f"  of the folders' CPU time: {shares}")


def _cpu_ms(reading: Reading) -> float:
    return 1000 * reading.cpu_seconds / reading.windows


def _best(readings: Sequence[Reading]) -> float:
    """CPU ms a window: a shared machine only ever makes things slower."""
    return min(_cpu_ms(reading) for reading in readings)


def _profile(own: OwnReader) -> None:
    profiler = cProfile.Profile()
    with profiler:
        windows = own.read()
    print_stages("  where a window of our reader goes", pstats.Stats(profiler), _STAGES, windows)


if __name__ == "__main__":
    sys.exit(main())
