"""Batches of one or several datasets, dealt to ranks and workers, to be gone on with anywhere.

The sequence of batches is a pure function of datasets and settings (`training.batches`,
`training.turns`). Ranks and workers take turns in it by arithmetic, so the batches are the same
however many there are, and going on at batch `n` needs nothing but `n`.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from schemas.store import Place, StorePath
from schemas.wording import counted
from training.batch import Batch
from training.batches import Batches, Part
from training.config import StreamSettings, UserError
from training.shards import CacheOptions
from training.turns import Turns

logger = logging.getLogger(__name__)

_STATE_VERSION = 1


class SampleStream(IterableDataset[Batch]):
    """A range of batches, one epoch unless told otherwise.

    Feed it to `DataLoader(stream, batch_size=None)`: batches are made here, in its workers.
    Construct it after `torch.distributed` is initialised, where it is used. Over a store, workers
    must be spawned: `multiprocessing_context="spawn"`.

    Each batch is of one part: as many of each as their ratios say, in a random order. An epoch of
    several parts is over when each came up whole.

    Args:
        parts: a dataset's folder, local or in a store, or several, with what to take of each.
        split: train or validation.
        settings: how samples become batches.
        cache: of a store's shards.

    Raises:
        DatasetError: if there is no dataset.
        UserError: if no batch can be made as asked.
    """

    def __init__(
        self,
        parts: Place | Sequence[Part],
        split: str,
        settings: StreamSettings,
        cache: CacheOptions | None = None,
    ) -> None:
        parts = parts if isinstance(parts, Sequence) else [Part(parts)]
        self._settings = settings
        self.parts = [Batches(part, split, settings, cache) for part in parts]
        _check_scales(parts, self.parts)
        _check_room(self.parts, settings)
        self._turns = Turns([part.ratio for part in parts], settings.seed)
        self.batches_per_epoch = self._turns.until_all_gave([p.per_epoch for p in self.parts])
        self._rank, self._num_ranks = _rank()
        self._range = self._deal(0, self.batches_per_epoch)
        self._next: int | None = None
        self._resume: int | None = None
        self._pid = os.getpid()

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

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted through all epochs.

        Raises:
            DatasetError: if a sample is damaged.
        """
        part, own_number = self._turns.part(number)
        return self.parts[part].batch(own_number)

    def part_of(self, number: int) -> Batches:
        """The part that gives batch `number`."""
        return self.parts[self._turns.part(number)[0]]

    def of_rank(self, rank: int, num_ranks: int) -> SampleStream:
        """The same stream over its first epoch, as process `rank` of `num_ranks` has it."""
        stream = copy.copy(self)
        stream._rank, stream._num_ranks = rank, num_ranks
        return stream.epoch(0)

    def __len__(self) -> int:
        """Batches that this rank gets."""
        return len(self._range) // self._num_ranks

    def state_after(self, taken: int) -> dict[str, Any]:
        """All that must be kept to go on when every rank has taken so many batches of this stream.

        Plain numbers and strings; for `going_on`, with any number of ranks and workers.
        """
        return {**self._identity(), "next_batch": self._range.start + taken * self._num_ranks}

    def going_on(self, state: Mapping[str, Any], stop: int | None = None) -> SampleStream:
        """The stream over the batches that are left after a state.

        Args:
            state: what `state_after` gave.
            stop: the batch before which it ends; by default where this stream ends.

        Raises:
            UserError: if the state is of other data or settings.
        """
        self._check_same(state)
        return self.batches(state["next_batch"], self._range.stop if stop is None else stop)

    def state_dict(self) -> dict[str, Any]:
        """Where this process has come to; for `load_state_dict` with as many workers and ranks."""
        return {**self._identity(), "next_batch": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stream of the same data and settings was, in a process of the same number.

        Raises:
            UserError: if it was another one.
        """
        self._check_same(state)
        self._resume = state["next_batch"]

    def _identity(self) -> dict[str, Any]:
        return {
            "state_version": _STATE_VERSION,
            "manifest_sha256": [part.manifest_sha256 for part in self.parts],
            "view_sha256": [part.view_sha256 for part in self.parts],
            "ratios": list(self._turns.ratios),
            "settings": self._settings.model_dump(),
        }

    def _check_same(self, state: Mapping[str, Any]) -> None:
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"the state to go on from has {name} {state.get(name)!r}, here it is "
                    f"{value!r}: go on with the same datasets, views and settings"
                )

    def __iter__(self) -> Iterator[Batch]:
        if os.getpid() != self._pid and any(
            isinstance(part.shards.dataset, StorePath) for part in self.parts
        ):
            raise UserError(
                "connections to a store do not survive a fork: give the DataLoader "
                'multiprocessing_context="spawn"'
            )
        # A DataLoader collects from its workers in turn, so that dealing batches to the workers
        # in turn gives each rank its batches in ascending order whatever their number.
        worker = get_worker_info()
        index, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        stride = self._num_ranks * num_workers
        first = self._range.start + self._rank + self._num_ranks * index
        if self._resume is not None:
            first, self._resume = self._resume, None
        try:
            for number in range(first, self._range.stop, stride):
                self._next = number + stride
                yield self.batch(number)
            self._next = None
        finally:
            for part in self.parts:
                part.shards.close()

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

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update({**state, "_pid": os.getpid()})


def _check_scales(parts: Sequence[Part], opened: Sequence[Batches]) -> None:
    scales = [batches.manifest.scale for batches in opened]
    if len(set(scales)) > 1:
        told = ", ".join(f"{p.dataset} is x{s}" for p, s in zip(parts, scales, strict=True))
        raise UserError(f"datasets of one training have one scale, but {told}: take some out")


def _check_room(parts: Sequence[Batches], settings: StreamSettings) -> None:
    rooms = [(part.room_needed, part.shards.room) for part in parts if part.shards.room is not None]
    needed, room = sum(need for need, _ in rooms), min((room for _, room in rooms), default=0)
    if needed > room:
        raise UserError(
            f"the copies of shards that are read at the same time take {_gib(needed)} GiB, and may "
            f"take {_gib(room)}: give more --cache-gib, or less than --mixed-shards "
            f"{settings.mixed_shards}"
        )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.3g}"


def _rank() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
