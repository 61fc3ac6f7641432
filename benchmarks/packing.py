"""How much of a pack is predicted from other frames: `python -m benchmarks.packing`.

A video codec does to a clip what it does because most of it is predicted from other frames. How
far that is so for the ways of packing images, beside real clips:

    patches    neighbouring patches of images, as VCISR packs them
    intra      the same, each frame coded alone
    camera     a virtual camera over one image, moving as the default recipe has it
    camera 1px the same, moving by one LR pixel a frame and no other way
    clips      of the videos among the inputs

Samples are planned, cut out, shrunk and encoded as synthesis does it, by x264. Two witnesses tell
which macroblocks were predicted: the encoder's own closing statistics, and, independent of it, the
motion vectors that FFmpeg's decoder exports; a block without any was coded by itself.

Without --input the demo corpus is used.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import av.logging
import numpy as np

from benchmarks.planned import plan_inputs
from pipelines.demo import demo_inputs
from pipelines.make import MakeTask, read_pictures, sizes_of
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.sample import SampleKind
from transforms.cut import cut_frames
from transforms.degrade import make_streams
from transforms.draw import draw_scene, draw_stream
from transforms.streams import MadeStream

_SEED = 0
_SCALE = 4
_MACROBLOCK, _CELL = 16, 8  # pixels; decoders export no block smaller than a cell
_TYPES = ("I", "P", "B")

_PACKINGS: dict[str, dict[str, Any]] = {
    "patches": {"packing": "patches"},
    "intra": {"packing": "intra"},
    "camera": {"packing": "camera"},
    "camera 1px": {
        "packing": "camera",
        "camera": {"pan": _SCALE, "zoom": 1, "turn": 0, "jitter": 0},
    },
    "clips": {},
}


class EncoderReport(NamedTuple):
    """x264's closing statistics of one encode; frame types that do not occur are left out."""

    frames: dict[str, int]
    """frames by type"""
    intra: dict[str, float]
    """share of macroblocks coded by themselves, by frame type"""
    skip: dict[str, float]
    """share of macroblocks for which nothing but their prediction was coded"""


class _Clip(NamedTuple):
    """One encoded sample."""

    report: EncoderReport
    exported_intra: dict[str, float]
    """share of macroblocks without motion vectors, by frame type"""
    num_bytes: int
    num_pixels: int


class Row(NamedTuple):
    """A packing's figures: shares of frames, or of the macroblocks of frames of a type."""

    packing: str
    samples: int
    frames: int
    i_frames: float
    p_frames: float
    b_frames: float
    p_intra: float
    p_intra_exported: float
    p_skip: float
    b_intra: float
    b_intra_exported: float
    b_skip: float
    bytes_per_pixel: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    rows = [measure(name, options) for name in _PACKINGS if name in (options.packings or _PACKINGS)]
    if options.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        print(_in_words(options))
        _print_table([row for row in rows if row.samples])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing",
        description="Measure how much of packed images is predicted between frames.",
    )
    parser.add_argument("--input", action="append", default=[], metavar="PATH")
    parser.add_argument("--packings", nargs="+", choices=list(_PACKINGS))
    parser.add_argument("--crf", type=float, default=26)
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--frames", type=int, default=32, metavar="N", help="of a sample")
    parser.add_argument("--patch", type=int, default=360, metavar="N", help="HR pixels a side")
    parser.add_argument("--samples", type=int, default=6, metavar="N", help="of a packing, at most")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    return parser


# Samples


def recipe_of(name: str, options: argparse.Namespace) -> Recipe:
    """One stream, shrunk and encoded, of images packed as asked and of clips."""
    encoder = {"codec": "h264", "crf": options.crf, "presets": {options.preset: 1}}
    return Recipe.model_validate(
        {
            "name": "packing",
            "scale": _SCALE,
            "validation_fraction": 0,
            "hr": {"patch_height": options.patch, "patch_width": options.patch},
            "clips": {"frames": options.frames, "patches": 2},
            "pseudo_video": {"frames": options.frames, **_PACKINGS[name]},
            "shared": [{"op": "downscale"}],
            "streams": [{"name": "h264", "stages": [{"op": "codec", "encoders": [encoder]}]}],
        }
    )


def measure(name: str, options: argparse.Namespace) -> Row:
    """Encode some samples of a packing and look at how they were coded.

    Args:
        name: of the packing.
        options: of the command.
    """
    recipe = recipe_of(name, options)
    samples, sources, paths = plan_inputs(options.input or demo_inputs(), recipe, _SEED)
    rows = [row for row in samples if (row.kind is SampleKind.CLIP) == (name == "clips")]
    step = max(1, len(rows) // options.samples)
    clips = []
    for row in rows[::step][: options.samples]:
        task = MakeTask(recipe=recipe, seed=_SEED, rows=[row], sources=sources, paths=paths)
        clips.append(_encode(task, row))
    return _row(name, clips)


def _encode(task: MakeTask, row: PlannedSample) -> _Clip:
    pictures = read_pictures(task)
    scene = draw_scene(task.recipe, task.seed, row, sizes_of(pictures))
    draw = draw_stream(task.recipe, task.seed, row, scene, 0)
    hr = cut_frames(scene, pictures)
    with _captured_log() as lines:
        (made,) = make_streams(task.recipe, scene, [draw], hr)
    return _Clip(
        report=parse_report(lines),
        exported_intra=exported_intra(made),
        num_bytes=made.stream.stream_bytes,
        num_pixels=made.decoded.size // made.decoded.shape[-1],
    )


# Witnesses


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Lines that x264 logs, complete when the encoder is closed."""
    level, is_skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.INFO)
    av.logging.set_skip_repeated(False)
    lines: list[str] = []
    try:
        with av.logging.Capture() as messages:
            yield lines
        lines += [message for _, name, message in messages if name.startswith("libx264")]
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(is_skipping)


def parse_report(lines: Sequence[str]) -> EncoderReport:
    """Read x264's closing statistics.

    Args:
        lines: what it logs, such as `frame P:39 Avg QP:30.69 size: 166` and `mb P I16..4: 0.0%
            0.9%  0.0%  P16..4: 25.0%  5.6%  3.7%  0.0%  0.0%    skip:64.8%`.

    Raises:
        ValueError: if there are none.
    """
    frames, intra, skip = dict[str, int](), dict[str, float](), dict[str, float]()
    for line in lines:
        if found := re.match(r"frame ([IPB]):\s*(\d+)", line):
            frames[found[1]] = int(found[2])
        if found := re.match(r"mb ([IPB])\s+I16\.\.4:((?:\s*[\d.]+%)+)", line):
            parts = re.findall(r"[\d.]+", found[2])
            intra[found[1]] = sum(map(float, parts)) / 100
            skipped = re.search(r"skip:\s*([\d.]+)%", line)
            skip[found[1]] = float(skipped[1]) / 100 if skipped else 0.0
    if not frames or frames.keys() != intra.keys():
        raise ValueError(f"no closing statistics of x264 in {len(lines)} lines of its log")
    return EncoderReport(frames, intra, skip)


def exported_intra(made: MadeStream) -> dict[str, float]:
    """Share of macroblocks without a motion vector, by frame type, as FFmpeg's decoder tells."""
    stream = made.stream
    macroblocks = [-(-side // _MACROBLOCK) for side in (stream.coded_height, stream.coded_width)]
    per_side = _MACROBLOCK // _CELL
    cells = (len(stream.frames), *(per_side * count for count in macroblocks))
    is_predicted = np.zeros(cells, bool)
    for block in made.blocks:
        top, left = block["y"] - block["height"] // 2, block["x"] - block["width"] // 2
        rows = slice(max(0, top) // _CELL, -(-(top + block["height"]) // _CELL))
        columns = slice(max(0, left) // _CELL, -(-(left + block["width"]) // _CELL))
        is_predicted[block["frame"], rows, columns] = True
    by_macroblock: np.ndarray = is_predicted.reshape(
        len(stream.frames), macroblocks[0], per_side, macroblocks[1], per_side
    ).max(axis=(2, 4))
    shares: dict[str, list[float]] = {}
    for frame, blocks in zip(stream.frames, by_macroblock, strict=True):
        shares.setdefault(frame.frame_type.value, []).append(1 - float(blocks.mean()))
    return {frame_type: sum(of_type) / len(of_type) for frame_type, of_type in shares.items()}


# Reporting


def _row(name: str, clips: Sequence[_Clip]) -> Row:
    frames = {t: sum(clip.report.frames.get(t, 0) for clip in clips) for t in _TYPES}

    def share(kind: str, shares: Sequence[dict[str, float]]) -> float:
        counts = [clip.report.frames.get(kind, 0) for clip in clips]
        weighted = (n * s.get(kind, 0.0) for n, s in zip(counts, shares, strict=True))
        return sum(weighted) / max(1, sum(counts))

    intra = [clip.report.intra for clip in clips]
    skip = [clip.report.skip for clip in clips]
    exported = [clip.exported_intra for clip in clips]
    total = max(1, sum(frames.values()))
    return Row(
        packing=name,
        samples=len(clips),
        frames=sum(frames.values()),
        i_frames=frames["I"] / total,
        p_frames=frames["P"] / total,
        b_frames=frames["B"] / total,
        p_intra=share("P", intra),
        p_intra_exported=share("P", exported),
        p_skip=share("P", skip),
        b_intra=share("B", intra),
        b_intra_exported=share("B", exported),
        b_skip=share("B", skip),
        bytes_per_pixel=sum(clip.num_bytes for clip in clips)
        / max(1, sum(clip.num_pixels for clip in clips)),
    )


def _in_words(options: argparse.Namespace) -> str:
    side = options.patch // _SCALE
    inputs = ", ".join(os.path.basename(path) for path in options.input) or "the demo corpus"
    return (
        f"x264 {options.preset}, CRF {options.crf:g}, {options.frames} frames or more of "
        f"{side}x{side} pixels, from {inputs}. Intra and skip: share of the macroblocks of P or B "
        "frames, by x264's statistics; in brackets: macroblocks without exported vectors."
    )


def _print_table(rows: Sequence[Row]) -> None:
    heads = ("samples", "I", "P", "B", "P intra", "P skip", "B intra", "B skip", "bytes/pixel")
    widths = (7, 5, 5, 5, 15, 7, 15, 7, 11)
    titles = "  ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    print(f"\n{'':12}{titles}")
    for row in rows:
        cells = (
            f"{row.samples}",
            *(f"{share:.0%}" for share in (row.i_frames, row.p_frames, row.b_frames)),
            *_pair(row.p_frames, row.p_intra, row.p_intra_exported, row.p_skip),
            *_pair(row.b_frames, row.b_intra, row.b_intra_exported, row.b_skip),
            f"{row.bytes_per_pixel:.4f}",
        )
        line = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"{row.packing:12}{line}")


def _pair(frames: float, intra: float, exported: float, skip: float) -> tuple[str, str]:
    """Cells of intra and of skip; dashes where there are no such frames."""
    return (f"{intra:.1%} ({exported:.1%})", f"{skip:.1%}") if frames else ("-", "-")


if __name__ == "__main__":
    sys.exit(main())
