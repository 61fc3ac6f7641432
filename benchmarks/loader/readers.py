"""Contenders that read a dataset's tars, or members of it that they hold in memory."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import DataLoader

from benchmarks.loader.windows import (
    Epochs,
    Members,
    Pixels,
    Reading,
    Request,
    batches,
    decode_motion,
    decode_pixels,
    decode_window,
    digest,
    parse_sample,
    timed,
)
from schemas.manifest import read_manifest
from schemas.sample import Sample
from schemas.shard import iter_samples
from schemas.source import TRAIN
from training.batch import Window
from training.config import StreamSettings
from training.dataset import SampleStream
from training.draw import Cut
from training.index import read_index
from training.samples import read_window
from training.shards import Shards


class OwnReader:
    """Our reader, and what it draws.

    Args:
        dataset: its folder; clips that are as long as the windows or longer, nothing else.
        settings: of the reader.
        num_windows: to be read at least; whole epochs are read.
    """

    def __init__(self, dataset: Path, settings: StreamSettings, num_windows: int) -> None:
        self.dataset = dataset
        manifest = read_manifest(dataset)
        self._entries = {e.key: e for e in read_index(dataset, manifest, TRAIN)}
        self._shards = Shards(dataset, manifest.shards)
        self._stream = SampleStream(dataset, TRAIN, settings)
        num_epochs = -(-num_windows // self.num_samples)
        self.epochs: Epochs = [self._draw(number) for number in range(num_epochs)]
        """what it reads"""
        self.scale = manifest.scale
        self.streams = manifest.streams

    @property
    def num_samples(self) -> int:
        """Of an epoch."""
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Of the tars and the tables."""
        files = [file for part in ("data", "index") for file in (self.dataset / part).rglob("*")]
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def hr_pixels(self) -> int:
        """Of all samples and frames."""
        lr_pixels = sum(e.num_frames * e.lr_height * e.lr_width for e in self._entries.values())
        return lr_pixels * self.scale**2

    def _draw(self, epoch: int) -> list[Request]:
        """The windows of an epoch, told by the reader itself."""
        draws = [draw for batch in self._stream.epoch(epoch) for draw in batch.draws]
        cuts = [(draw.key, draw.cut) for draw in draws if draw is not None]
        return [
            Request(key, cut.stream, cut.start, cut.count, cut.top, cut.left, cut.width)
            for key, cut in cuts
        ]

    def digest(self) -> str:
        """Of the first epoch's pictures."""
        return digest(self._pixels(request) for request in self.epochs[0])

    def _pixels(self, request: Request) -> tuple[str, Pixels]:
        key, stream, start, count, top, left, side = request
        cut = Cut(
            stream=stream, start=start, count=count, top=top, left=left, height=side, width=side
        )
        window = read_window(self._shards, self._entries[key], cut)
        return key, Pixels(window.lr, window.hr)

    def measure(self) -> Reading:
        """Read everything once."""
        return timed(self.read)

    def read(self) -> int:
        """Read everything once; returns how many windows they were."""
        last = len(self.epochs) * self._stream.batches_per_epoch
        return _count(self._stream.batches(0, last))


def _count(stream: SampleStream) -> int:
    return sum(len(batch.keys) for batch in DataLoader(stream, batch_size=None))


class _Held:
    """A sample in memory."""

    def __init__(self, members: Members) -> None:
        self.sample: Sample = parse_sample(members)
        self.members = members


class Bare:
    """Decoding alone: members lie in memory, records are parsed, nothing is made of the result."""

    def __init__(self, dataset: Path, epochs: Epochs) -> None:
        self._held = {key: _Held(members) for key, members in _samples_of(dataset)}
        self._epochs = epochs

    def digest(self) -> str:
        """Of the first epoch's pictures."""
        return digest((request.key, self._pixels(request)) for request in self._epochs[0])

    def measure_pictures(self) -> Reading:
        """Decode the pictures of all windows."""
        return timed(lambda: _length(self._pixels(r) for epoch in self._epochs for r in epoch))

    def measure_motion(self) -> Reading:
        """Make the dense motion of all windows."""
        return timed(lambda: _length(self._motion(r) for epoch in self._epochs for r in epoch))

    def _pixels(self, request: Request) -> Pixels:
        held = self._held[request.key]
        return decode_pixels(held.sample, held.members, request)

    def _motion(self, request: Request) -> Any:
        held = self._held[request.key]
        return decode_motion(held.sample, held.members, request)


def _samples_of(dataset: Path) -> Iterator[tuple[str, Members]]:
    for tar in _tars(dataset):
        with tar.open("rb") as file:
            yield from iter_samples(file)


def _tars(dataset: Path) -> list[Path]:
    return sorted((dataset / "data").glob("*.tar"))


def _length(things: Iterable[object]) -> int:
    return sum(1 for _ in things)


@dataclasses.dataclass(frozen=True)
class PlainWebDataset:
    """`webdataset` over the tars, as it comes."""

    dataset: Path
    epochs: Epochs
    batch_size: int

    def digest(self) -> str:
        """Of the first epoch's pictures."""
        requests = {request.key: request for request in self.epochs[0]}
        return digest(
            (key, decode_pixels(parse_sample(members), members, requests[key]))
            for key, members in self._samples()
        )

    def measure(self) -> Reading:
        """Read everything once."""
        return timed(self._read)

    def _read(self) -> int:
        windows = (window for epoch in self.epochs for window in self._windows(epoch))
        return sum(len(batch.keys) for batch in batches(windows, self.batch_size))

    def _windows(self, epoch: Sequence[Request]) -> Iterator[Window]:
        requests = {request.key: request for request in epoch}
        for key, members in self._samples():
            yield decode_window(members, requests[key])

    def _samples(self) -> Iterator[tuple[str, Members]]:
        urls = [str(tar) for tar in _tars(self.dataset)]
        for sample in webdataset.WebDataset(urls, shardshuffle=False):
            yield sample["__key__"], sample
