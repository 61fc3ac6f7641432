"""Batch number n of a dataset: a pure function of the dataset, the settings and n.

Batches are numbered through all epochs, and everything about batch `n` follows from `n`: its
samples from (seed, epoch, manifest, view), and each sample's stream, window, crop and flips from
(seed, epoch, key).

The order comes to a few shards at a time (`StreamSettings.mixed_shards`). A batch holds either
videos or unrelated frames, and one window length. A sample that is shorter than the window is used
whole, in batches of its own length; each sample comes up once an epoch, or as often as the view
says, so the last batch of a length may be smaller.
"""

import dataclasses
import logging
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from schemas.manifest import DatasetError, read_manifest
from schemas.store import Place
from schemas.view import ANY
from training.augment import AUGMENTATIONS
from training.batch import Batch, Reading, Window, collate
from training.config import StreamSettings, UserError
from training.draw import Cut, WindowDraw
from training.index import Entry, SampleIndex, read_index
from training.items import (
    Choice,
    Items,
    choose,
    fractions_scale,
    times_an_epoch,
    view_items,
    whole_samples,
)
from training.order import BatchedOrder, by_shards, first_uses, into_batches
from training.samples import read_window
from training.shards import CacheOptions, Shards
from transforms.seeding import generator

logger = logging.getLogger(__name__)

_MOST_SCALE = 2.0  # fractions of weights that sum to less than a half are told of
_MOST_TRIED = 100  # samples in place of one; if all are damaged, it is not the samples
_SHARDS_AHEAD = 4  # copied while those before them are read


_Read = TypeVar("_Read", bound=Reading)
Reader = Callable[[Shards, Entry, WindowDraw], _Read]
"""Reads what was drawn of a sample."""


class Part(NamedTuple):
    """What to train on."""

    dataset: Place
    """the dataset's folder, local or in a store"""
    view: Path | None = None
    """what to take of it, a file that `pipelines.view` wrote; by default the whole split"""
    ratio: int = 1
    """batches of it, to those of other parts; 1 or more"""


class _Item(NamedTuple):
    """What a window is taken of."""

    entry: Entry
    stream: int
    """-1: any"""
    frame: int
    """-1: any"""
    repeat: int
    """how many times it came up before in the epoch"""
    num_frames: int
    """T, of the window"""

    @property
    def identity(self) -> tuple[str, int, int, int]:
        """Tells it from all others of an epoch."""
        return self.entry.key, self.stream, self.frame, self.repeat


class _Epoch(NamedTuple):
    """An epoch in its order."""

    number: int
    """0-based"""
    chosen: Choice
    """items in the order in which they come up"""
    batches: BatchedOrder
    """the batches that they make"""
    shards: np.ndarray
    """(S,) shards in the order in which they are first used, indices"""
    first_use: np.ndarray
    """(S,) positions at which each of these is first used, ascending"""


class EpochPlan(NamedTuple):
    """What comes up in an epoch, in order, (M,) int64 each; nothing of it is read."""

    entry: np.ndarray
    """index of the sample"""
    stream: np.ndarray
    """the LR stream, -1 for any"""
    frame: np.ndarray
    """the frame that the window is centred on, -1 for any"""
    num_frames: np.ndarray
    """T, of the window"""
    group: np.ndarray
    """what may share a batch has the same"""
    batch: np.ndarray
    """the batch, 0-based"""


class Batches:
    """The batches of a part.

    Args:
        part: the dataset, and what to take of it.
        split: train or validation.
        settings: how samples become batches.
        cache: of a store's shards.

    Raises:
        DatasetError: if there is no dataset.
        UserError: if no batch can be made as asked.
    """

    def __init__(
        self, part: Part, split: str, settings: StreamSettings, cache: CacheOptions | None = None
    ) -> None:
        self._settings = settings
        manifest = read_manifest(part.dataset)
        self.name, self.scale = manifest.name, manifest.scale
        self.manifest_sha256, self.view_sha256 = manifest.sha256, ""
        self._num_streams = len(manifest.streams)
        self.shards = Shards(part.dataset, manifest.shards, cache)
        self.index = read_index(part.dataset, manifest, split)
        self.items = whole_samples(self.index)
        if part.view is not None:
            self.items, self.view_sha256 = view_items(part.view, manifest, self.index)
            _check_view(part.view, split, self.items.entry)
        chosen = np.unique(self.items.entry)
        origin = f"view {part.view}" if part.view else str(part.dataset)
        _check_can_be_met(self.index, chosen, origin, split, settings)
        self._window_frames = _window_frames(self.index, self.items, settings.frames)
        self._group = self._window_frames * 2 + self.index.is_pseudo_video[self.items.entry]
        self._groups = [np.flatnonzero(self._group == group) for group in np.unique(self._group)]
        self.per_epoch = self._count()
        self._epochs: dict[int, _Epoch] = {}
        self._num_expected = 0

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted through all epochs.

        Raises:
            DatasetError: if a sample is damaged.
        """
        return collate(self.read(number, read_turned))

    def read(self, number: int, read: Reader[_Read]) -> list[_Read]:
        """What `read` makes of the items of batch `number`.

        Raises:
            DatasetError: if a sample is damaged.
        """
        epoch_number, batch = divmod(number, self.per_epoch)
        epoch = self._order_of(epoch_number)
        positions = epoch.batches.batch(batch)
        self._expect_shards(epoch, positions)
        items = [(int(epoch.chosen.item[at]), int(epoch.chosen.repeat[at])) for at in positions]
        return [self._readable(*item, epoch_number, read) for item in items]

    def close(self) -> None:
        """Read nothing more for now."""
        self.shards.close()
        self._num_expected = 0

    def plan(self, epoch: int) -> EpochPlan:
        """What comes up in an epoch, 0-based, in all of its batches; nothing is read for it."""
        order = self._order(operator.index(epoch))
        item = order.chosen.item
        return EpochPlan(
            entry=self.items.entry[item],
            stream=self.items.stream[item],
            frame=self.items.frame[item],
            num_frames=self._window_frames[item],
            group=self._group[item],
            batch=order.batches.batch_of_each(),
        )

    def _order_of(self, epoch: int) -> _Epoch:
        """The order of an epoch; two are kept, for whoever is at the end of one."""
        if epoch not in self._epochs:
            kept = dict(list(self._epochs.items())[-1:])
            self._epochs, self._num_expected = {**kept, epoch: self._order(epoch)}, 0
        return self._epochs[epoch]

    def _order(self, epoch: int) -> _Epoch:
        hashes = (self.manifest_sha256, self.view_sha256)
        rng = generator("order", self._settings.seed, epoch, *hashes)
        chosen = choose(self.items, self._groups, rng)
        shard = self.index.shard[self.items.entry[chosen.item]]
        order = by_shards(shard, self._settings.mixed_shards, rng)
        chosen = Choice(chosen.item[order], chosen.repeat[order])
        batches = into_batches(self._group[chosen.item], self._settings.batch_size)
        return _Epoch(epoch, chosen, batches, *first_uses(shard[order]))

    @property
    def room_needed(self) -> int:
        """Bytes that copies of shards take at the same time, at most."""
        used = np.unique(self.index.shard[self.items.entry])
        sizes = self.shards.sizes(self.index.shards[number] for number in used)
        return room_of_copies(sizes, self._settings.mixed_shards)

    def _expect_shards(self, epoch: _Epoch, positions: np.ndarray) -> None:
        num_used = int(np.searchsorted(epoch.first_use, positions[-1], side="right"))
        start = max(self._num_expected, num_used - self._settings.mixed_shards)
        stop = num_used + _SHARDS_AHEAD
        numbers = epoch.shards[start:stop]
        self.shards.expect(self.index.shards[number] for number in numbers)
        self._num_expected = max(self._num_expected, stop)

    def _count(self) -> int:
        sizes = [times_an_epoch(self.items.weight[group]) for group in self._groups]
        for group in self._groups:
            self._warn_of_scale(group)
        return sum(-(-size // self._settings.batch_size) for size in sizes)

    def _warn_of_scale(self, group: np.ndarray) -> None:
        scale = fractions_scale(self.items.weight[group])
        if scale > _MOST_SCALE:
            logger.warning(
                "the weights of the rows of the view that can share a batch with sample %s "
                "(windows of %d frames) have fractions that sum to %.3g an epoch: one of these "
                "rows comes up in each, %.3g times as often as asked; make their weights larger, "
                "or leave them out",
                self.index[int(self.items.entry[group[0]])].key,
                self._window_frames[group[0]],
                1 / scale,
                scale,
            )

    def _readable(self, index: int, repeat: int, epoch: int, read: Reader[_Read]) -> _Read:
        """What is read of an item, or of another in its group where it is damaged."""
        item = self._item(index, repeat)
        try:
            return read(self.shards, item.entry, self._draw(item, epoch))
        except DatasetError as error:
            if self._settings.damaged == "refuse":
                raise
            logger.warning("skipped: %s", error)
        stand_in = self._stand_in(item, epoch, index, read)
        return dataclasses.replace(stand_in, skipped=(item.entry.key,))

    def _stand_in(self, item: _Item, epoch: int, index: int, read: Reader[_Read]) -> _Read:
        """What is read of another item, drawn at random, and what of it for this place alone."""
        rng = generator("stand-in", self._settings.seed, epoch, *item.identity)
        group = np.flatnonzero(self._group == self._group[index])
        for number in rng.choice(group, min(_MOST_TRIED, len(group)), replace=False):
            other = self._item(int(number), repeat=0)
            try:
                draw = self._draw(other, epoch, *item.identity)
                return read(self.shards, other.entry, draw)
            except DatasetError as error:
                logger.debug("nor can it be read: %s", error)
        raise DatasetError(
            f"{self.shards.dataset}: of {min(_MOST_TRIED, len(group))} samples, drawn in place of "
            f"the damaged {item.entry.key}, none can be read: copy the dataset again"
        )

    def _item(self, index: int, repeat: int) -> _Item:
        items = self.items
        return _Item(
            entry=self.index[int(items.entry[index])],
            stream=int(items.stream[index]),
            frame=int(items.frame[index]),
            repeat=repeat,
            num_frames=int(self._window_frames[index]),
        )

    def _draw(self, item: _Item, epoch: int, *in_place_of: str | int) -> WindowDraw:
        rng = generator("window", self._settings.seed, epoch, *item.identity, *in_place_of)
        cut = _draw_cut(item, self._settings, self._num_streams, rng)
        names = tuple(turn.__name__ for turn in AUGMENTATIONS if rng.random() < 0.5)
        return WindowDraw(key=item.entry.key, shard=item.entry.shard, cut=cut, turns=names)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_epochs": {}}


def read_turned(shards: Shards, entry: Entry, draw: WindowDraw) -> Window:
    """Read the window that was drawn of a sample, and turn it."""
    window = read_window(shards, entry, draw.cut)
    for turn in AUGMENTATIONS:
        if turn.__name__ in draw.turns:
            window = turn(window)
    return dataclasses.replace(window, draw=draw)


def room_of_copies(sizes: Sequence[int], mixed_shards: int) -> int:
    """Bytes of the shards that are mixed, of those that are copied ahead, and of as many again that
    workers and windows of rare lengths are behind with; at most.

    Args:
        sizes: bytes of all shards that are used.
        mixed_shards: how many are shuffled together.
    """
    return sum(sorted(sizes)[-(2 * mixed_shards + _SHARDS_AHEAD) :])


def _draw_cut(
    item: _Item, settings: StreamSettings, num_streams: int, rng: np.random.Generator
) -> Cut:
    entry, count = item.entry, item.num_frames
    stream = int(rng.integers(num_streams))
    start = int(rng.integers(entry.num_frames - count + 1))
    if item.frame != ANY:  # in the middle, or as near to it as the ends of the clip allow
        start = min(max(item.frame - count // 2, 0), entry.num_frames - count)
    return Cut(
        stream=stream if item.stream == ANY else item.stream,
        start=start,
        count=count,
        top=int(rng.integers(entry.lr_height - settings.crop + 1)),
        left=int(rng.integers(entry.lr_width - settings.crop + 1)),
        height=settings.crop,
        width=settings.crop,
    )


def _window_frames(index: SampleIndex, items: Items, frames: int) -> np.ndarray:
    """(N,) frames of each item's window. Of unrelated pictures, the one asked for comes alone."""
    alone = index.is_pseudo_video[items.entry] & (items.frame != ANY)
    return np.where(alone, 1, np.minimum(frames, index.num_frames[items.entry]))


def _check_view(view: Path, split: str, entries: np.ndarray) -> None:
    if not len(entries):
        raise UserError(
            f"--view {view} has no sample of the split {split!r}: choose some of it, too"
        )


def _check_can_be_met(
    index: SampleIndex, chosen: np.ndarray, origin: str, split: str, settings: StreamSettings
) -> None:
    if not len(chosen):
        raise UserError(
            f"{origin} has no samples in its split {split!r}: synthesise it from more sources, "
            "or look at its table of failures"
        )
    longest = index.num_frames[chosen].max()
    if settings.frames > longest:
        raise UserError(
            f"windows of {settings.frames} frames are longer than every sample of {origin}: "
            f"use --frames {longest} or less, or synthesise or choose longer clips"
        )
    sides = np.minimum(index.lr_height, index.lr_width)[chosen]
    smallest = index[int(chosen[sides.argmin()])]
    if settings.crop > sides.min():
        raise UserError(
            f"a crop of {settings.crop} LR pixels does not fit into sample {smallest.key} of "
            f"{smallest.lr_height}x{smallest.lr_width}: use --crop {sides.min()} or less"
        )
