"""What training sees: `python -m training.show DATASET --batch N --output PNG`.

Tells of the windows of a batch, and draws them. Batches are numbered from 0 through all epochs, as
`SampleStream.batches` counts them and as a run takes them, one a step on one rank; pixels, vectors
and turns are those of the batch, to the bit.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from schemas.manifest import DatasetError
from schemas.sample import FrameType, StreamRow
from schemas.source import SPLITS, TRAIN
from schemas.store import Place
from training.arguments import (
    HelpFormatter,
    add_stream_options,
    at_least,
    run_command,
    stream_parts,
    stream_settings,
)
from training.batch import Batch
from training.batches import Part
from training.checkpoint import read_config
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.draw import Cut
from training.drawing import (
    FAINT,
    FRAME_TYPE_COLORS,
    Sheet,
    enlarged,
    flow_legend,
    flow_picture,
    text_width,
)
from training.index import read_shard_table
from training.shards import CacheOptions

_MOST_FRAMES = 5
"""Frames of a window that are drawn, evenly spaced."""
_GAP, _MARGIN = 6, 16
_LINE, _LABELS = 16, 18  # height of a line of text, of the labels above frames
_LEGEND = 88
_CODING_COLUMNS = ["key", "stream", "codec", "rate_mode", "rate_value"]
_ROWS = ("LR", "HR", "to previous", "to next")


class Item(NamedTuple):
    """One clip of a batch: what it is of, and what training sees of it."""

    number: int
    """its place in the batch"""
    key: str
    """the sample"""
    stream_name: str
    """the LR stream"""
    shard: str
    """where the sample lies"""
    coding: str
    """codec and rate, such as h264 crf 25"""
    cut: Cut
    """the part of the sample; one frame of a pseudo-video comes alone"""
    turns: tuple[str, ...]
    """how it was turned, in order"""
    lr: np.ndarray
    """(T, h, w, 3) uint8"""
    hr: np.ndarray
    """(T, scale * h, scale * w, 3) uint8"""
    flow: np.ndarray
    """(2, T, h, w, 2) float32: to the previous and to the next frame"""
    is_known: np.ndarray
    """(2, T, h, w) bool"""
    frame_types: list[FrameType]
    qp: list[float]
    """-1 where it is not known"""


def pixels(images: Tensor) -> np.ndarray:
    """Images of a batch, (T, 3, h, w) uint8, as (T, h, w, 3)."""
    return np.ascontiguousarray(images.movedim(-3, -1).numpy())


def read_items(stream: SampleStream, number: int) -> list[Item]:
    """The clips of a batch, counted through all epochs; read and decoded as training does it.

    Raises:
        DatasetError: if a shard or a table is missing or damaged.
    """
    return list(_items(stream.part_of(number).shards.dataset, stream.batch(number)))


def _items(dataset: Place, batch: Batch) -> Iterator[Item]:
    for n, (key, draw) in enumerate(zip(batch.keys, batch.draws, strict=True)):
        assert draw is not None, "what is read from a dataset tells how"
        frames = batch.lr.shape[1]
        # A pseudo-video's frames are clips of their own, one behind the other.
        start = draw.cut.start + (n % draw.cut.count if frames < draw.cut.count else 0)
        valid = batch.flow_valid[n].numpy()
        flow = torch.stack([batch.flow_previous[n], batch.flow_next[n]])
        yield Item(
            number=n,
            key=key,
            stream_name=batch.stream_names[n],
            shard=draw.shard,
            coding=_coding(dataset, draw.shard, key, draw.cut.stream),
            cut=Cut(**{**vars(draw.cut), "start": start, "count": frames}),
            turns=draw.turns,
            lr=pixels(batch.lr[n]),
            hr=pixels(batch.hr[n]),
            flow=flow.movedim(-3, -1).numpy(),
            is_known=np.stack([valid & 1 == 1, valid & 2 == 2]),
            frame_types=[list(FrameType)[code] for code in batch.frame_type[n].tolist()],
            qp=batch.qp[n].tolist(),
        )


def _coding(dataset: Place, shard: str, key: str, stream: int) -> str:
    rows = read_shard_table(dataset, "streams", shard, StreamRow, _CODING_COLUMNS)
    chosen = rows.filter((pc.field("key") == key) & (pc.field("stream") == stream)).to_pylist()
    if not chosen:
        raise DatasetError(
            f"{dataset}: the streams of shard {shard} do not tell of sample {key}: copy the "
            "dataset again"
        )
    told = chosen[0]
    if told["rate_mode"] == "lossless":
        return "lossless"
    return f"{told['codec']} {told['rate_mode']} {told['rate_value']:g}"


# --- Telling --------------------------------------------------------------------------------


def caption(item: Item) -> list[str]:
    """What an item is, as lines."""
    cut, last = item.cut, item.cut.start + item.cut.count - 1
    frames = f"frames {cut.start} to {last}" if last > cut.start else f"frame {cut.start}"
    return [
        f"{item.number}: {item.key}  ({item.shard})",
        f"{item.stream_name}: {item.coding}; {frames}",
        f"crop {cut.height}x{cut.width} at row {cut.top}, column {cut.left} of LR; "
        f"turns: {', '.join(item.turns) or 'none'}",
    ]


def description(item: Item) -> str:
    """What an item is and how its frames were coded, for a person."""
    quantisers = " ".join(f"{qp:.1f}" if qp >= 0 else "?" for qp in item.qp)
    first, *others = caption(item)
    types = "".join(item.frame_types)
    return "\n  ".join([first, *others, f"frame types {types}; QP {quantisers}"])


# --- Drawing --------------------------------------------------------------------------------


def draw_items(items: Sequence[Item]) -> Image.Image:
    """Draw clips, one or a sheet of them: LR enlarged to the size of HR, HR, and motion.

    Hues tell the direction of motion; full colour is the longest vector of the clip.
    """
    blocks = [_draw_item(item) for item in items]
    # As many beside each other as make the sheet about as wide as high.
    width, height = (max(size) for size in zip(*(block.size for block in blocks), strict=True))
    columns = max(1, min(len(blocks), round(math.sqrt(len(blocks) * height / width))))
    rows = -(-len(blocks) // columns)
    sheet = Sheet(columns * width, rows * height)
    for number, block in enumerate(blocks):
        row, column = divmod(number, columns)
        sheet.image.paste(block, (column * width, row * height))
    return sheet.image


def _draw_item(item: Item) -> Image.Image:
    _, height, width, _ = item.hr.shape
    shown = _frames_shown(len(item.hr))
    lines = caption(item)
    left = _MARGIN + max(text_width(name) for name in _ROWS) + _GAP
    top = _MARGIN + max(_LINE * len(lines), _LEGEND) + _GAP
    needed = max(text_width(line) for line in lines) + _LEGEND + 2 * _MARGIN
    pictures_width = left + len(shown) * (width + _GAP) + _MARGIN
    sheet = Sheet(
        max(needed, pictures_width), top + _LABELS + len(_ROWS) * (height + _GAP) + _MARGIN
    )
    for number, line in enumerate(lines):
        sheet.write(_MARGIN, _MARGIN + _LINE * number, line, color=FAINT)
    largest = _largest(item)
    _draw_legend(sheet, sheet.image.width - _MARGIN - _LEGEND, largest)
    for row, name in enumerate(_ROWS):
        sheet.write(_MARGIN, top + _LABELS + row * (height + _GAP), name)
    for column, frame in enumerate(shown):
        x = left + column * (width + _GAP)
        _draw_label(sheet, item, frame, x, top)
        for row, picture in enumerate(_pictures(item, frame, largest)):
            sheet.paste(picture, x, top + _LABELS + row * (height + _GAP))
    return sheet.image


def _frames_shown(count: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int).tolist()


def _largest(item: Item) -> float:
    """Length of the longest vector, LR pixels a frame."""
    return float(np.hypot(item.flow[..., 0], item.flow[..., 1])[item.is_known].max(initial=0))


def _pictures(item: Item, frame: int, largest: float) -> list[np.ndarray]:
    """(H, W, 3) uint8 each, in the order of `_ROWS`."""
    scale = item.hr.shape[1] // item.lr.shape[1]
    motion = [
        flow_picture(flow[frame], is_known[frame], largest)
        for flow, is_known in zip(item.flow, item.is_known, strict=True)
    ]
    to_previous, to_next = (enlarged(picture, scale) for picture in motion)
    return [enlarged(item.lr[frame], scale), item.hr[frame], to_previous, to_next]


def _draw_label(sheet: Sheet, item: Item, frame: int, x: int, y: int) -> None:
    frame_type, qp = item.frame_types[frame], item.qp[frame]
    sheet.bar(x, y + 2, 10, 10, FRAME_TYPE_COLORS[frame_type])
    told = f", QP {qp:.1f}" if qp >= 0 else ""
    sheet.write(x + 14, y, f"{item.cut.start + frame}: {frame_type}{told}")


def _draw_legend(sheet: Sheet, x: int, largest: float) -> None:
    side = _LEGEND - _LINE
    sheet.paste(flow_legend(side), x + (_LEGEND - side) // 2, _MARGIN - 4)
    sheet.write(x, _MARGIN - 4 + side, f"{largest:.3g} pixels/frame", color=FAINT)


# --- The command ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    return run_command(lambda: _run(given, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.show",
        description="Tell and draw what training sees in a batch.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_stream_options(parser)
    add = parser.add_argument
    add("--split", choices=SPLITS, default=TRAIN, help="which samples")
    add("--run", type=Path, help="a run, for its settings; those that are given here go before")
    add("--batch", type=at_least(0), required=True, help="number of the batch, from 0")
    add("--item", type=at_least(0), help="which of its clips, from 0; default: all")
    add("--output", type=Path, metavar="PNG", help="the picture to write; default: none")
    return parser


def _run(given: argparse.Namespace, arguments: Sequence[str] | None) -> None:
    settings = stream_settings(given)
    if given.run is not None:
        settings = _settings_of(given.run, arguments)
    parts = stream_parts(given)
    # Of a store, the few members that are shown are read by their byte ranges.
    stream = SampleStream(parts, given.split, settings, CacheOptions(gib=0))
    if given.run is not None:
        _check_same_data(given.run, parts, stream)
    items = _chosen(read_items(stream, given.batch), given.item)
    for item in items:
        sys.stdout.write(f"{description(item)}\n")
    if given.output is not None:
        _save(draw_items(items), given.output)


def _settings_of(run: Path, arguments: Sequence[str] | None) -> StreamSettings:
    """The settings of a run, but for those on the command line."""
    fields = read_config(run).training.model_dump(include=set(StreamSettings.model_fields))
    parser = _parser()
    parser.set_defaults(**fields)
    return stream_settings(parser.parse_args(arguments))


def _check_same_data(run: Path, parts: Sequence[Part], stream: SampleStream) -> None:
    data = read_config(run).data
    if [part.manifest_sha256 for part in data] != [part.manifest_sha256 for part in stream.parts]:
        raise UserError(f"--run {run} trained on other datasets: give those")
    if [part.ratio for part in data] != [part.ratio for part in parts]:
        told = " ".join(str(part.ratio) for part in data)
        raise UserError(f"--run {run} trained with other ratios: give --ratio {told}")
    for part, opened in zip(data, stream.parts, strict=True):
        if part.view_sha256 != opened.view_sha256:
            cure = "give that one with --view" if part.view_sha256 else "leave --view out"
            trained_on = "another view" if part.view_sha256 else "the whole split"
            raise UserError(f"--run {run} trained on {trained_on}: {cure}")


def _chosen(items: list[Item], number: int | None) -> list[Item]:
    if number is None:
        return items
    if number >= len(items):
        raise UserError(
            f"--item {number}: the batch has {len(items)}, give a number from 0 to {len(items) - 1}"
        )
    return [items[number]]


def _save(picture: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, "PNG")
    except OSError as error:
        raise UserError(f"--output {path} cannot be written ({error}): choose another") from error
    sys.stdout.write(f"{path}: {picture.width} x {picture.height} pixels\n")


if __name__ == "__main__":
    raise SystemExit(main())
