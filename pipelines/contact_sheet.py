"""A picture of a dataset: some samples, their streams, and how every frame was coded.

    python -m pipelines.contact_sheet DATASET --output sheet.png

A row is a sample: one HR frame, then the same frame of each LR stream, enlarged by repeating
pixels. Below each stream stands a strip with a column for every frame.
"""

import argparse
import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pipelines.command import EXIT_OK, check_has_pixels, run_command
from pipelines.drawing import FAINT, FRAME_TYPE_COLORS, INK, PAPER, RULE, Pen, blank
from pipelines.errors import UserError
from pipelines.layout import Layout
from schemas.manifest import Manifest, Shard, read_manifest
from schemas.record import Status
from schemas.sample import (
    HR_MEMBER,
    JSON_MEMBER,
    Frame,
    Sample,
    SampleKind,
    SampleRow,
    Stream,
    lr_member,
)
from schemas.shard import read_member
from schemas.source import Source
from schemas.store import Place, place_argument
from schemas.tables import read_table
from transforms.decode import decode_hr, decode_lr

PANEL = 256  # side of a picture, pixels
STRIP_HEIGHT = 64
_MARKER_HEIGHT = 7  # below the strip: which frame the pictures show
_GAP, _MARGIN = 14, 24
_HEADER_HEIGHT = 74
_TITLE_HEIGHT, _LABEL_HEIGHT, _CAPTION_HEIGHT, _ROW_GAP = 28, 38, 20, 26
_ROW_HEIGHT = (
    _TITLE_HEIGHT + _LABEL_HEIGHT + PANEL + 8 + STRIP_HEIGHT + _MARKER_HEIGHT + _CAPTION_HEIGHT
)
_MIN_WIDTH = 660  # the legend needs that much

_TINT = 0.16  # share of a frame type's colour in the background of its column
_LARGEST_QP = {"h264": 51, "hevc": 51, "mpeg4": 31, "mpeg2video": 31}
_SHARDS_PER_SPLIT = 4  # enough to choose from, however large the dataset


class Entry(NamedTuple):
    """One row of the sheet."""

    sample: Sample
    source: str
    """names of its sources"""
    frame: int
    """display index of the frame that the pictures show"""
    hr: np.ndarray
    """(height, width, 3) uint8, a part of the HR frame"""
    lr: list[np.ndarray]
    """the same part of every stream, LR size"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.contact_sheet")
    parser.add_argument(
        "dataset", type=place_argument, metavar="DATASET", help="a dataset: a folder or a URL"
    )
    parser.add_argument("--output", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--samples", type=int, default=6, help="rows at most (default: 6)")
    options = parser.parse_args(arguments)
    return run_command("contact_sheet", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_has_pixels(options.dataset)
    sheet = contact_sheet(options.dataset, options.samples)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, "PNG")
    sys.stdout.write(f"{options.output}: {sheet.width} x {sheet.height} pixels\n")
    return EXIT_OK


def contact_sheet(dataset: Place, num_samples: int) -> Image.Image:
    """Draw the contact sheet of a dataset.

    Args:
        dataset: its folder.
        num_samples: rows at most.

    Raises:
        UserError: if nothing can be drawn.
        DatasetError: if there is no finished dataset.
        ShardError: if a shard is damaged.
    """
    if num_samples < 1:
        raise UserError(f"--samples is {num_samples}: ask for one sample or more")
    manifest = read_manifest(dataset)
    rows = choose_rows(_candidates(dataset, manifest), num_samples)
    if not rows:
        raise UserError(
            f"{dataset} holds no sample: see status and reason in the tables under index/samples"
        )
    sources = read_table(str(Layout(dataset).sources), Source)
    names = {source.source_id: Path(source.uris[0]).name for source in sources if source.uris}
    entries = [load_entry(Layout(dataset).tar(row.shard), row, names) for row in rows]
    return draw_sheet(manifest, entries)


def _candidates(dataset: Place, manifest: Manifest) -> list[SampleRow]:
    by_split = defaultdict[str, list[Shard]](list)
    for shard in manifest.shards:
        by_split[shard.split].append(shard)
    chosen = [shard for shards in by_split.values() for shard in shards[:_SHARDS_PER_SPLIT]]
    tables = [Layout(dataset).table("samples", shard.shard) for shard in chosen]
    rows = [row for table in tables for row in read_table(str(table), SampleRow)]
    return [row for row in rows if row.status == Status.OK]


def choose_rows(rows: Sequence[SampleRow], num_samples: int) -> list[SampleRow]:
    """Pick samples of every kind and split in turn, and of many sources before many of one."""
    queues = defaultdict[tuple[SampleKind, str], list[SampleRow]](list)
    for row in rows:
        queues[row.kind, row.split].append(row)
    turns = itertools.zip_longest(*(_sources_in_turn(queue) for queue in queues.values()))
    mixed = [row for turn in turns for row in turn if row is not None]
    return mixed[:num_samples]


def _sources_in_turn(rows: list[SampleRow]) -> list[SampleRow]:
    seen = Counter[str]()
    rounds = []
    for row in rows:
        rounds.append((seen[row.group], row))
        seen[row.group] += 1
    return [row for _, row in sorted(rounds, key=lambda pair: pair[0])]


def load_entry(shard: Place, row: SampleRow, source_names: dict[str, str]) -> Entry:
    """Read the middle frame of a sample, cut down to what fits into a panel.

    Args:
        shard: the tar that holds the sample.
        row: its row of table `samples`.
        source_names: source_id -> name to show.
    """
    ranges = {member.name: member for member in row.members}
    with shard.open("rb") as file:
        members = {name: read_member(file, ranges[name]) for name in ranges}
    sample = Sample.model_validate_json(members[JSON_MEMBER])
    frame, scale = sample.num_frames // 2, sample.scale
    # The part's rectangle, in LR pixels.
    height, width = (min(side, PANEL) // scale for side in (sample.hr_height, sample.hr_width))
    top = (sample.hr_height // scale - height) // 2
    left = (sample.hr_width // scale - width) // 2
    hr = decode_hr(
        sample,
        members[HR_MEMBER],
        frame,
        1,
        top * scale,
        left * scale,
        height * scale,
        width * scale,
    )
    lr = [
        decode_lr(stream, members[lr_member(stream.stream)], frame, 1)[0]
        for stream in sample.streams
    ]
    return Entry(
        sample,
        _names_of(sample, frame, source_names),
        frame,
        hr[0],
        [picture[top : top + height, left : left + width] for picture in lr],
    )


def _names_of(sample: Sample, frame: int, source_names: dict[str, str]) -> str:
    shown = sample.origins[frame].source_id
    name = source_names.get(shown, shown[:12])
    others = len({origin.source_id for origin in sample.origins}) - 1
    return f"{name} and {others} more" if others else name


def draw_sheet(manifest: Manifest, entries: Sequence[Entry]) -> Image.Image:
    """Draw the sheet: a legend, then the entries from top to bottom."""
    columns = 1 + max(len(entry.sample.streams) for entry in entries)
    width = max(_MIN_WIDTH, columns * PANEL + (columns - 1) * _GAP + 2 * _MARGIN)
    height = _HEADER_HEIGHT + len(entries) * (_ROW_HEIGHT + _ROW_GAP) + _MARGIN
    pen = blank(width, height)
    _draw_header(pen, manifest)
    for number, entry in enumerate(entries):
        _draw_entry(pen, entry, _HEADER_HEIGHT + number * (_ROW_HEIGHT + _ROW_GAP))
    return pen.image


def _draw_header(pen: Pen, manifest: Manifest) -> None:
    splits = ", ".join(f"{count} {split}" for split, count in sorted(manifest.splits.items()))
    end = pen.write(_MARGIN, 14, manifest.name, 22)
    pen.write(end + 14, 21, f"x{manifest.scale}, samples: {splits}", 14, FAINT)
    x: float = _MARGIN
    for frame_type, color in FRAME_TYPE_COLORS.items():
        pen.draw.rectangle((x, 48, x + 13, 61), color)
        x = pen.write(x + 19, 47, f"{frame_type} frame", 14) + 18
    x = pen.write(x, 47, "bar: packet bytes (square root)", 14, FAINT) + 18
    _draw_line(pen.draw, [(x, 57), (x + 10, 52), (x + 20, 55)])
    pen.write(x + 28, 47, "mean quantiser", 14, FAINT)


def _draw_entry(pen: Pen, entry: Entry, top: int) -> None:
    sample, right = entry.sample, pen.image.width - _MARGIN
    pen.draw.line((_MARGIN, top, right, top), RULE)
    end = pen.write(_MARGIN, top + 8, sample.key, 15)
    kind = sample.kind.value.replace("_", "-")
    pen.write(end + 12, top + 9, f"{kind}, {sample.split}, from {entry.source}", 14, FAINT)
    top += _TITLE_HEIGHT
    left = _MARGIN
    _write_lines(pen, left, top, "HR", f"{sample.hr_width} x {sample.hr_height}")
    _paste(pen, entry.hr, left, top + _LABEL_HEIGHT, entry.hr.shape[:2])
    _write_facts(pen, entry, left, top + _LABEL_HEIGHT + PANEL + 8)
    for stream, picture in zip(sample.streams, entry.lr, strict=True):
        left += PANEL + _GAP
        _write_lines(pen, left, top, f"{stream.name}: {_rate(stream)}", _coding(stream))
        _paste(pen, picture, left, top + _LABEL_HEIGHT, entry.hr.shape[:2])
        strip_top = top + _LABEL_HEIGHT + PANEL + 8
        pen.image.paste(draw_strip(stream, PANEL, STRIP_HEIGHT), (left, strip_top))
        _draw_marker(pen, left, strip_top + STRIP_HEIGHT, entry.frame, sample.num_frames)
        _write_caption(pen, stream, left, strip_top + STRIP_HEIGHT + _MARKER_HEIGHT + 2)


def _write_lines(pen: Pen, x: int, y: int, label: str, detail: str) -> None:
    pen.write(x, y + 2, label, 14, width=PANEL)
    pen.write(x, y + 19, detail, 12, FAINT, width=PANEL)


def _paste(pen: Pen, picture: np.ndarray, x: int, y: int, hr_size: tuple[int, ...]) -> None:
    """Enlarge a picture to the HR size, and further to fill the panel, by repeating pixels."""
    zoom = max(1, PANEL // max(hr_size)) * hr_size[0] // picture.shape[0]
    pen.paste(picture.repeat(zoom, axis=0).repeat(zoom, axis=1), x, y)


def _write_facts(pen: Pen, entry: Entry, x: int, y: int) -> None:
    sample = entry.sample
    rate = f", {sample.fps:.5g} frames/s" if sample.fps else ""
    part = f"{entry.hr.shape[1]} x {entry.hr.shape[0]} pixels"
    lines = [
        f"frame {entry.frame + 1} of {sample.num_frames}{rate}",
        f"shown: {part}" if entry.hr.shape[:2] != (sample.hr_height, sample.hr_width) else "",
        f"licence: {sample.licence}" if sample.licence else "",
    ]
    for number, line in enumerate(filter(None, lines)):
        pen.write(x, y + 18 * number, line, 13, FAINT, width=PANEL)


def _rate(stream: Stream) -> str:
    if stream.rate_mode == "lossless":
        return "lossless"
    if stream.rate_mode == "bitrate":
        return f"{stream.codec} {stream.rate_value / 1000:.4g} kbit/s"
    return f"{stream.codec} {stream.rate_mode} {stream.rate_value:g}"


def _coding(stream: Stream) -> str:
    size = f"coded {stream.coded_width} x {stream.coded_height}"
    if stream.rate_mode == "lossless":
        return f"{size}, stored as {stream.codec}"
    preset = f", {stream.preset}" if stream.preset else ""
    return f"{size}{preset}, GOP {stream.gop_frames}, B frames {stream.b_frames}"


def draw_strip(stream: Stream, width: int, height: int) -> Image.Image:
    """Draw a stream's frames from left to right, in presentation order.

    Args:
        stream: the stream.
        width: of the strip, pixels; with more frames than that, columns overlap.
        height: of the strip, pixels: that of the largest packet's bar.

    Returns:
        RGB image of that size. Each column has a tint of its frame type's colour, a bar in the
        colour itself, and the mean quantiser as a line from 0 at the bottom to the codec's
        largest at the top, where there is one.
    """
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    largest_bytes = max(frame.packet_bytes for frame in stream.frames)
    for frame, (left, right) in zip(
        stream.frames, _columns(len(stream.frames), width), strict=True
    ):
        color = FRAME_TYPE_COLORS[frame.frame_type]
        bar = max(2, round(height * math.sqrt(frame.packet_bytes / largest_bytes)))
        draw.rectangle((left, 0, right, height - 1), _tinted(color))
        draw.rectangle((left, height - bar, right, height - 1), color)
    if points := list(_quantiser_points(stream, width, height)):
        _draw_line(draw, points)
    return image


def _columns(count: int, width: int) -> Iterator[tuple[int, int]]:
    """First and last pixel column of each frame, with a gap where there is room for one."""
    gap = 1 if width // count >= 3 else 0
    for index in range(count):
        left, end = index * width // count, (index + 1) * width // count
        yield left, max(left, end - 1 - gap)


def _tinted(color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(255 - (255 - channel) * _TINT) for channel in color)
    return red, green, blue


def _quantiser_points(stream: Stream, width: int, height: int) -> Iterator[tuple[float, float]]:
    if stream.rate_mode == "lossless" or not _known_quantisers(stream.frames):
        return
    largest = _LARGEST_QP.get(stream.codec) or max(_known_quantisers(stream.frames))
    columns = _columns(len(stream.frames), width)
    for frame, (left, right) in zip(stream.frames, columns, strict=True):
        if frame.qp_mean >= 0:
            yield (left + right) / 2, (height - 1) * (1 - min(1, frame.qp_mean / largest))


def _known_quantisers(frames: Sequence[Frame]) -> list[float]:
    return [frame.qp_mean for frame in frames if frame.qp_mean >= 0]


def _draw_line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    # White below black: readable on a bar of any colour.
    draw.line(points, PAPER, 5, "curve")
    draw.line(points, INK, 2, "curve")


def _draw_marker(pen: Pen, x: int, y: int, frame: int, num_frames: int) -> None:
    left, right = list(_columns(num_frames, PANEL))[frame]
    middle = x + (left + right) / 2
    pen.draw.polygon([(middle, y + 1), (middle - 4, y + 6), (middle + 4, y + 6)], INK)


def _write_caption(pen: Pen, stream: Stream, x: int, y: int) -> None:
    pixels = len(stream.frames) * stream.coded_width * stream.coded_height
    bits_per_pixel = 8 * stream.stream_bytes / pixels
    text = f"{stream.stream_bytes / 1000:.4g} kB, {bits_per_pixel:.3g} bits/pixel"
    pen.write(x, y, text, 12, FAINT)
    quantisers = _known_quantisers(stream.frames)
    if quantisers and stream.rate_mode != "lossless":
        text = f"QP {min(quantisers):.3g} to {max(quantisers):.3g}"
        pen.write(x + PANEL, y, text, 12, FAINT, right=True)


if __name__ == "__main__":
    sys.exit(main())
