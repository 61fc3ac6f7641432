"""Batches in an order that is a pure function of the dataset, the settings and a number.

Batches are numbered through all epochs, and everything about batch `n` follows from `n`: its
samples from (seed, epoch, manifest), and each sample's stream, window, crop and flips from
(seed, epoch, key). Ranks and workers take turns in that sequence by arithmetic, so the batches
are the same however many there are, and going on at batch `n` needs nothing but `n`.

A batch holds either videos or unrelated frames, and one window length. A sample that is shorter
than the window is used whole, in batches of its own length; each sample comes up once an epoch, so
the last batch of a length may be smaller.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from schemas.manifest import canonical_json, read_manifest, sha256_json
from schemas.sample import SampleKind
from training.augment import AUGMENTATIONS
from training.batch import Batch, Window, collate
from training.config import StreamSettings, UserError
from training.samples import Cut, Entry, read_entries, read_window


class SampleStream(IterableDataset[Batch]):
    """A range of a dataset's batches, one epoch unless told otherwise.

    Feed it to `DataLoader(stream, batch_size=None)`: batches are made here, in its workers.
    Construct it after `torch.distributed` is initialised, where it is used.

    Args:
        dataset: the dataset's folder.
        split: train or validation.
        settings: how samples become batches.

    Raises:
        DatasetError: if there is no dataset.
        UserError: if no batch can be made as asked.
    """

    def __init__(self, dataset: Path, split: str, settings: StreamSettings) -> None:
        self._dataset = dataset
        self._settings = settings
        manifest = read_manifest(dataset)
        self.manifest_sha256 = sha256_json(manifest.model_dump(mode="json"))
        self._num_streams = len(manifest.streams)
        self._entries = read_entries(dataset, manifest, split)
        _check_can_be_met(self._entries, dataset, split, settings)
        self.batches_per_epoch = _count_batches(self._entries, settings)
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
        planned_epoch, plan = -1, list[list[Entry]]()
        for number in range(first, self._stop, self._num_ranks * num_workers):
            epoch, position = divmod(number, self.batches_per_epoch)
            if epoch != planned_epoch:
                planned_epoch, plan = epoch, self._plan(epoch)
            yield collate([self._window(entry, epoch) for entry in plan[position]])

    def _plan(self, epoch: int) -> list[list[Entry]]:
        rng = _generator("order", self._settings.seed, epoch, self.manifest_sha256)
        waiting = defaultdict[tuple[bool, int], list[Entry]](list)
        full = []
        for index in rng.permutation(len(self._entries)):
            group = _group(self._entries[index], self._settings.frames)
            waiting[group].append(self._entries[index])
            if len(waiting[group]) == self._settings.batch_size:
                full.append(waiting.pop(group))
        return full + list(waiting.values())

    def _window(self, entry: Entry, epoch: int) -> Window:
        rng = _generator("window", self._settings.seed, epoch, entry.key)
        cut = _draw_cut(entry, self._settings, self._num_streams, rng)
        window = read_window(self._dataset, entry, cut)
        for augmentation in AUGMENTATIONS:
            if rng.random() < 0.5:
                window = augmentation(window)
        return window


def _generator(*key: str | int) -> np.random.Generator:
    """The same key gives the same draws in every process."""
    digest = hashlib.sha256(canonical_json(key)).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _draw_cut(
    entry: Entry, settings: StreamSettings, num_streams: int, rng: np.random.Generator
) -> Cut:
    count = min(settings.frames, entry.num_frames)
    return Cut(
        stream=int(rng.integers(num_streams)),
        start=int(rng.integers(entry.num_frames - count + 1)),
        count=count,
        top=int(rng.integers(entry.lr_height - settings.crop + 1)),
        left=int(rng.integers(entry.lr_width - settings.crop + 1)),
        height=settings.crop,
        width=settings.crop,
    )


def _group(entry: Entry, frames: int) -> tuple[bool, int]:
    """What samples of one batch have in common: whether frames belong together, window length."""
    return entry.kind is SampleKind.PSEUDO_VIDEO, min(frames, entry.num_frames)


def _count_batches(entries: Sequence[Entry], settings: StreamSettings) -> int:
    sizes = Counter(_group(entry, settings.frames) for entry in entries)
    return sum(-(-size // settings.batch_size) for size in sizes.values())


def _check_can_be_met(
    entries: Sequence[Entry], dataset: Path, split: str, settings: StreamSettings
) -> None:
    if not entries:
        raise UserError(
            f"{dataset} has no samples in its split {split!r}: synthesise it from more sources, "
            "or look at its table of failures"
        )
    longest = max(entry.num_frames for entry in entries)
    if settings.frames > longest:
        raise UserError(
            f"windows of {settings.frames} frames are longer than every sample of {dataset}: "
            f"use --frames {longest} or less, or synthesise longer clips"
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
