"""Batches in an order that is a pure function of the dataset, the settings and a number.

Batches are numbered through all epochs, and everything about batch `n` follows from `n`: its
samples from (seed, epoch, manifest, view), and each sample's stream, window, crop and flips from
(seed, epoch, key). Ranks and workers take turns in that sequence by arithmetic, so the batches
are the same however many there are, and going on at batch `n` needs nothing but `n`.

The order comes to a few shards at a time (`StreamSettings.mixed_shards`). A batch holds either
videos or unrelated frames, and one window length. A sample that is shorter than the window is used
whole, in batches of its own length; each sample comes up once an epoch, or as often as the view
says, so the last batch of a length may be smaller.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from schemas.manifest import canonical_json, read_manifest
from schemas.store import Place
from schemas.view import ANY
from schemas.wording import counted
from training.augment import AUGMENTATIONS
from training.batch import Batch, Window, collate
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
from training.order import by_shards, into_batches
from training.samples import read_window

logger = logging.getLogger(__name__)

_STATE_VERSION = 1
_MOST_SCALE = 2.0  # fractions of weights that sum to less than a half are told of


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


class EpochPlan(NamedTuple):
    """What comes up in an epoch, in order, (M,) int64 each; nothing of it is read."""

    entry: np.ndarray
    """index of the sample in `SampleStream.index`"""
    stream: np.ndarray
    """the LR stream, -1 for any"""
    frame: np.ndarray
    """the frame that the window is centred on, -1 for any"""
    num_frames: np.ndarray
    """T, of the window"""
    group: np.ndarray
    """what may share a batch has the same"""
    batch: np.ndarray
    """the batch, 0-based; its samples are in the order in which they come up"""


class SampleStream(IterableDataset[Batch]):
    """A range of a dataset's batches, one epoch unless told otherwise.

    Feed it to `DataLoader(stream, batch_size=None)`: batches are made here, in its workers.
    Construct it after `torch.distributed` is initialised, where it is used.

    Args:
        dataset: the dataset's folder, local or in a store.
        split: train or validation.
        settings: how samples become batches.
        view: what to take of the split, a file that `pipelines.view` wrote; by default all of it.

    Raises:
        DatasetError: if there is no dataset.
        UserError: if no batch can be made as asked.
    """

    def __init__(
        self, dataset: Place, split: str, settings: StreamSettings, view: Path | None = None
    ) -> None:
        self._dataset = dataset
        self._settings = settings
        manifest = read_manifest(dataset)
        self.manifest_sha256, self.view_sha256 = manifest.sha256, ""
        self._num_streams = len(manifest.streams)
        self._index = read_index(dataset, manifest, split)
        self._items = whole_samples(self._index)
        if view is not None:
            self._items, self.view_sha256 = view_items(view, manifest, self._index)
            _check_view(view, split, self._items.entry)
        chosen = np.unique(self._items.entry)
        _check_can_be_met(
            self._index, chosen, f"view {view}" if view else str(dataset), split, settings
        )
        self._window_frames = _window_frames(self._index, self._items, settings.frames)
        self._group = self._window_frames * 2 + self._index.is_pseudo_video[self._items.entry]
        self._groups = [np.flatnonzero(self._group == group) for group in np.unique(self._group)]
        self.batches_per_epoch = self._count_batches()
        self._rank, self._num_ranks = _rank()
        self._range = self._deal(0, self.batches_per_epoch)
        self._next: int | None = None
        self._resume: int | None = None

    def epoch(self, number: int) -> SampleStream:
        """The same stream over an epoch, 0-based."""
        size = self.batches_per_epoch
        return self.batches(number * size, (number + 1) * size)

    def batches(self, start: int, stop: int) -> SampleStream:
        """The same stream over batches start, ..., stop - 1, counted through all epochs.

        Every rank gets equally many of them: where they do not divide evenly, the last ones are
        left out, or some of those that follow are added, as the settings say.
        """
        stream = copy.copy(self)
        stream._range, stream._next, stream._resume = self._deal(start, stop), None, None
        return stream

    def of_rank(self, rank: int, num_ranks: int) -> SampleStream:
        """The same stream over its first epoch, as process `rank` of `num_ranks` has it."""
        stream = copy.copy(self)
        stream._rank, stream._num_ranks = rank, num_ranks
        return stream.epoch(0)

    @property
    def index(self) -> SampleIndex:
        """The samples of the split."""
        return self._index

    def plan(self, epoch: int) -> EpochPlan:
        """What comes up in an epoch, 0-based, in all of its batches."""
        chosen, batches = self._plan(epoch)
        batch = np.empty(len(chosen.item), np.int64)
        batch[np.concatenate(batches)] = np.repeat(np.arange(len(batches)), list(map(len, batches)))
        return EpochPlan(
            entry=self._items.entry[chosen.item],
            stream=self._items.stream[chosen.item],
            frame=self._items.frame[chosen.item],
            num_frames=self._window_frames[chosen.item],
            group=self._group[chosen.item],
            batch=batch,
        )

    def __len__(self) -> int:
        """Batches that this rank gets."""
        return len(self._range) // self._num_ranks

    def state_dict(self) -> dict[str, Any]:
        """Where this process has come to; for `load_state_dict` with as many workers and ranks.

        To go on with another number of them, take the stream over the batches that are left,
        `batches(start, stop)`.
        """
        return {**self._identity(), "next_batch": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stream of the same data and settings was.

        Raises:
            UserError: if it was another one.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"the state to go on from has {name} {state.get(name)!r}, here it is "
                    f"{value!r}: go on with the same dataset, view and settings"
                )
        self._resume = state["next_batch"]

    def _identity(self) -> dict[str, Any]:
        return {
            "state_version": _STATE_VERSION,
            "manifest_sha256": self.manifest_sha256,
            "view_sha256": self.view_sha256,
            "settings": self._settings.model_dump(),
        }

    def __iter__(self) -> Iterator[Batch]:
        # A DataLoader collects from its workers in turn, so that dealing batches to the workers
        # in turn gives each rank its batches in ascending order whatever their number.
        worker = get_worker_info()
        index, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        stride = self._num_ranks * num_workers
        first = self._range.start + self._rank + self._num_ranks * index
        if self._resume is not None:
            first, self._resume = self._resume, None
        planned_epoch = -1
        for number in range(first, self._range.stop, stride):
            epoch, position = divmod(number, self.batches_per_epoch)
            if epoch != planned_epoch:
                planned_epoch, (chosen, batches) = epoch, self._plan(epoch)
            self._next = number + stride
            yield collate(
                [
                    self._window(self._item(chosen.item[at], int(chosen.repeat[at])), epoch)
                    for at in batches[position]
                ]
            )
        self._next = None

    def _deal(self, start: int, stop: int) -> range:
        """The batches that all ranks take together: equally many each."""
        num_batches = stop - start
        left = num_batches % self._num_ranks
        if not left:
            return range(start, stop)
        stop += -left if self._settings.uneven == "drop" else self._num_ranks - left
        logger.warning(
            "%s do not divide evenly among %d ranks: %d are taken",
            counted(num_batches, "batch", "batches"),
            self._num_ranks,
            stop - start,
        )
        return range(start, stop)

    def _count_batches(self) -> int:
        sizes = [times_an_epoch(self._items.weight[group]) for group in self._groups]
        for group in self._groups:
            self._warn_of_scale(group)
        return sum(-(-size // self._settings.batch_size) for size in sizes)

    def _warn_of_scale(self, group: np.ndarray) -> None:
        scale = fractions_scale(self._items.weight[group])
        if scale > _MOST_SCALE:
            logger.warning(
                "the weights of the rows of the view that can share a batch with sample %s "
                "(windows of %d frames) have fractions that sum to %.3g an epoch: one of these "
                "rows comes up in each, %.3g times as often as asked; make their weights larger, "
                "or leave them out",
                self._index[int(self._items.entry[group[0]])].key,
                self._window_frames[group[0]],
                1 / scale,
                scale,
            )

    def _plan(self, epoch: int) -> tuple[Choice, list[np.ndarray]]:
        """What comes up in an epoch, in order, and the positions in it that make each batch."""
        hashes = (self.manifest_sha256, self.view_sha256)
        rng = _generator("order", self._settings.seed, epoch, *hashes)
        chosen = choose(self._items, self._groups, rng)
        shard = self._index.shard[self._items.entry[chosen.item]]
        order = by_shards(shard, self._settings.mixed_shards, rng)
        chosen = Choice(chosen.item[order], chosen.repeat[order])
        return chosen, into_batches(self._group[chosen.item], self._settings.batch_size)

    def _item(self, index: int, repeat: int) -> _Item:
        items = self._items
        return _Item(
            entry=self._index[int(items.entry[index])],
            stream=int(items.stream[index]),
            frame=int(items.frame[index]),
            repeat=repeat,
            num_frames=int(self._window_frames[index]),
        )

    def _window(self, item: _Item, epoch: int) -> Window:
        identity = (item.entry.key, item.stream, item.frame, item.repeat)
        rng = _generator("window", self._settings.seed, epoch, *identity)
        cut = _draw_cut(item, self._settings, self._num_streams, rng)
        window = read_window(self._dataset, item.entry, cut)
        turns = [turn for turn in AUGMENTATIONS if rng.random() < 0.5]
        for turn in turns:
            window = turn(window)
        draw = WindowDraw(key=item.entry.key, cut=cut, turns=tuple(t.__name__ for t in turns))
        return dataclasses.replace(window, draw=draw)


def _generator(*key: str | int) -> np.random.Generator:
    """The same key gives the same draws in every process."""
    digest = hashlib.sha256(canonical_json(key)).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


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


def _rank() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
