"""Batches in an order that is a pure function of the dataset, the settings and a number.

Batches are numbered through all epochs, and everything about batch `n` follows from `n`: its
samples from (seed, epoch, manifest, view), and each sample's stream, window, crop and flips from
(seed, epoch, key). Ranks and workers take turns in that sequence by arithmetic, so the batches
are the same however many there are, and going on at batch `n` needs nothing but `n`.

A batch holds either videos or unrelated frames, and one window length. A sample that is shorter
than the window is used whole, in batches of its own length; each sample comes up once an epoch, or
as often as the view says, so the last batch of a length may be smaller.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from schemas.manifest import canonical_json, read_manifest
from schemas.sample import SampleKind
from schemas.store import Place
from schemas.view import ANY
from training.augment import AUGMENTATIONS
from training.batch import Batch, Window, collate
from training.config import StreamSettings, UserError
from training.items import choose, fractions_scale, times_an_epoch, view_items, whole_samples
from training.samples import Cut, Entry, read_entries, read_window

logger = logging.getLogger(__name__)

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
        self._entries = read_entries(dataset, manifest, split)
        self._items = whole_samples(self._entries)
        if view is not None:
            self._items, self.view_sha256 = view_items(view, manifest, self._entries)
            _check_view(view, split, self._items.entry)
        chosen = [self._entries[index] for index in np.unique(self._items.entry)]
        _check_can_be_met(chosen, f"view {view}" if view else str(dataset), split, settings)
        self._groups = self._group_items()
        self.batches_per_epoch = self._count_batches()
        self._start, self._stop = 0, self.batches_per_epoch
        self._rank, self._num_ranks = _rank()

    def epoch(self, number: int) -> SampleStream:
        """The same stream over an epoch, 0-based."""
        size = self.batches_per_epoch
        return self.batches(number * size, (number + 1) * size)

    def batches(self, start: int, stop: int) -> SampleStream:
        """The same stream over batches start, ..., stop - 1, counted through all epochs."""
        stream = copy.copy(self)
        stream._start, stream._stop = start, stop
        return stream

    def __iter__(self) -> Iterator[Batch]:
        # A DataLoader collects from its workers in turn, so that dealing batches to the workers
        # in turn gives each rank its batches in ascending order whatever their number.
        worker = get_worker_info()
        index, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first = self._start + self._rank + self._num_ranks * index
        planned_epoch, plan = -1, list[list[_Item]]()
        for number in range(first, self._stop, self._num_ranks * num_workers):
            epoch, position = divmod(number, self.batches_per_epoch)
            if epoch != planned_epoch:
                planned_epoch, plan = epoch, self._plan(epoch)
            yield collate([self._window(item, epoch) for item in plan[position]])

    def _group_items(self) -> dict[tuple[bool, int], np.ndarray]:
        """Indices of the items that may share a batch, by what they have in common."""
        groups = defaultdict[tuple[bool, int], list[int]](list)
        for index in range(len(self._items.entry)):
            groups[_group(self._item(index), self._settings.frames)].append(index)
        return {group: np.array(indices) for group, indices in groups.items()}

    def _item(self, index: int, repeat: int = 0) -> _Item:
        items = self._items
        entry = self._entries[items.entry[index]]
        return _Item(entry, int(items.stream[index]), int(items.frame[index]), repeat)

    def _count_batches(self) -> int:
        groups = self._groups.values()
        sizes = [times_an_epoch(self._items.weight[group]) for group in groups]
        for group in groups:
            self._warn_of_scale(group)
        return sum(-(-size // self._settings.batch_size) for size in sizes)

    def _warn_of_scale(self, group: np.ndarray) -> None:
        scale = fractions_scale(self._items.weight[group])
        if scale > _MOST_SCALE:
            first = self._item(group[0])
            logger.warning(
                "the weights of the rows of the view that can share a batch with sample %s "
                "(windows of %d frames) have fractions that sum to %.3g an epoch: one of these "
                "rows comes up in each, %.3g times as often as asked; make their weights larger, "
                "or leave them out",
                first.entry.key,
                _window_frames(first, self._settings.frames),
                1 / scale,
                scale,
            )

    def _plan(self, epoch: int) -> list[list[_Item]]:
        """The batches of an epoch."""
        seed, hashes = self._settings.seed, (self.manifest_sha256, self.view_sha256)
        rng = _generator("order", seed, epoch, *hashes)
        chosen = choose(self._items, list(self._groups.values()), rng)
        waiting = defaultdict[tuple[bool, int], list[_Item]](list)
        full = []
        for index, repeat in zip(chosen.item, chosen.repeat, strict=True):
            item = self._item(index, int(repeat))
            group = _group(item, self._settings.frames)
            waiting[group].append(item)
            if len(waiting[group]) == self._settings.batch_size:
                full.append(waiting.pop(group))
        return full + list(waiting.values())

    def _window(self, item: _Item, epoch: int) -> Window:
        identity = (item.entry.key, item.stream, item.frame, item.repeat)
        rng = _generator("window", self._settings.seed, epoch, *identity)
        cut = _draw_cut(item, self._settings, self._num_streams, rng)
        window = read_window(self._dataset, item.entry, cut)
        for augmentation in AUGMENTATIONS:
            if rng.random() < 0.5:
                window = augmentation(window)
        return window


def _generator(*key: str | int) -> np.random.Generator:
    """The same key gives the same draws in every process."""
    digest = hashlib.sha256(canonical_json(key)).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _draw_cut(
    item: _Item, settings: StreamSettings, num_streams: int, rng: np.random.Generator
) -> Cut:
    entry, count = item.entry, _window_frames(item, settings.frames)
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


def _window_frames(item: _Item, frames: int) -> int:
    """Frames of the window. Of unrelated pictures, the one that is asked for is taken alone."""
    if item.entry.kind is SampleKind.PSEUDO_VIDEO and item.frame != ANY:
        return 1
    return min(frames, item.entry.num_frames)


def _group(item: _Item, frames: int) -> tuple[bool, int]:
    """What items of one batch have in common: whether frames belong together, window length."""
    return item.entry.kind is SampleKind.PSEUDO_VIDEO, _window_frames(item, frames)


def _check_view(view: Path, split: str, entries: np.ndarray) -> None:
    if not len(entries):
        raise UserError(
            f"--view {view} has no sample of the split {split!r}: choose some of it, too"
        )


def _check_can_be_met(
    entries: Sequence[Entry], origin: str, split: str, settings: StreamSettings
) -> None:
    if not entries:
        raise UserError(
            f"{origin} has no samples in its split {split!r}: synthesise it from more sources, "
            "or look at its table of failures"
        )
    longest = max(entry.num_frames for entry in entries)
    if settings.frames > longest:
        raise UserError(
            f"windows of {settings.frames} frames are longer than every sample of {origin}: "
            f"use --frames {longest} or less, or synthesise or choose longer clips"
        )
    smallest = min(entries, key=lambda entry: min(entry.lr_height, entry.lr_width))
    side = min(smallest.lr_height, smallest.lr_width)
    if settings.crop > side:
        raise UserError(
            f"a crop of {settings.crop} LR pixels does not fit into sample {smallest.key} of "
            f"{smallest.lr_height}x{smallest.lr_width}: use --crop {side} or less"
        )


def _rank() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
