"""Batches of one or several datasets, dealt to ranks and workers, to be gone on with anywhere.

The sequence of batches is a pure function of datasets and settings (`training.batches`,
`training.turns`). Ranks and workers take turns in it by arithmetic, so the batches are the same
however many there are, and going on at batch `n` needs nothing but `n`.
"""

from __future__ import annotations

import copy
import logging
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from schemas.store import Place, StorePath, place
from schemas.wording import counted
from training.batch import Batch, Reading, collate
from training.batches import Batches, Part, Reader, read_turned
from training.config import StreamSettings, UserError
from training.shards import CacheOptions
from training.turns import Turns

logger = logging.getLogger(__name__)

_STATE_VERSION = 1
_MOST_RATIOS = 10_000
_DECIDING = set(StreamSettings.model_fields) - {"uneven", "damaged"}
"""Settings that decide what is in batch n."""

_Read = TypeVar("_Read", bound=Reading)


class SampleStream(IterableDataset[Batch]):
    """A range of batches, one epoch unless told otherwise.

    Feed it to `DataLoader(stream, batch_size=None)`: batches are made here, in its workers.
    Construct it after `torch.distributed` is initialised, where it is used. Over a store, workers
    must be spawned: `multiprocessing_context="spawn"`.

    A stream is a range of batches: iterating it again gives the same ones again. Take all that
    a training needs as one range, or the stream of each epoch.

    Each batch is of one part: as many of each as their ratios say, in a random order. Each part
    goes through its own epochs, one after the other; an epoch of several parts is as long as it
    takes for the first of each.

    Args:
        parts: a dataset's folder or URL; or several, with what to take of each.
        split: train or validation.
        settings: how samples become batches.
        cache: of a store's shards.

    Raises:
        DatasetError: if there is no dataset.
        UserError: if no batch can be made as asked.
    """

    def __init__(
        self,
        parts: str | Place | Part | Sequence[Part],
        split: str,
        settings: StreamSettings,
        cache: CacheOptions | None = None,
    ) -> None:
        chosen = _as_parts(parts)
        self._settings = settings
        self.parts = [Batches(part, split, settings, cache) for part in chosen]
        _check_scales(chosen, self.parts)
        _check_room(self.parts, settings)
        self._turns = Turns([part.ratio for part in chosen], settings.seed)
        self.batches_per_epoch = self._turns.until_all_gave([p.per_epoch for p in self.parts])
        self._rank, self._num_ranks = _rank()
        self._asked = range(self.batches_per_epoch)
        self._next: int | None = None
        self._resume: Mapping[str, Any] | None = None
        self._process = _Process()

    def epoch(self, number: int) -> SampleStream:
        """The same stream over an epoch, 0-based."""
        size = self.batches_per_epoch
        return self.batches(operator.index(number) * size, (number + 1) * size)

    def batches(self, start: int, stop: int) -> SampleStream:
        """The same stream over batches start, ..., stop - 1, counted through all epochs.

        Every rank gets equally many of them: where they do not divide evenly, the last ones are
        left out, or some of those that follow are added, as the settings say.
        """
        stream = copy.copy(self)
        stream._asked = range(operator.index(start), operator.index(stop))
        stream._next, stream._resume = None, None
        return stream

    def batch(self, number: int) -> Batch:
        """Batch `number`, counted through all epochs.

        Raises:
            DatasetError: if a sample is damaged.
        """
        return collate(self.read(number, read_turned))

    def read(self, number: int, read: Reader[_Read]) -> list[_Read]:
        """What another reader makes of the items of batch `number`.

        Raises:
            DatasetError: if a sample is damaged.
        """
        self._process.check(self.parts)
        part, own_number = self._turns.part(operator.index(number))
        return self.parts[part].read(own_number, read)

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
        return len(self._dealt()) // self._num_ranks

    def state_after(self, taken: int) -> dict[str, Any]:
        """All that must be kept to go on when every rank has taken so many batches of this stream.

        Plain numbers and strings; for `going_on`, with any number of ranks and workers.
        """
        next_batch = self._asked.start + taken * self._num_ranks
        return {**self._identity(), "next_batch": next_batch, "num_ranks": self._num_ranks}

    def going_on(self, state: Mapping[str, Any], stop: int | None = None) -> SampleStream:
        """The stream over the batches that are left after a state.

        Args:
            state: what `state_after` gave.
            stop: the batch before which it ends; by default where this stream ends.

        Raises:
            UserError: if the state is of other data or settings, or not of this stream's range.
        """
        self._check_same(state)
        start, stop = _field(state, "next_batch"), self._asked.stop if stop is None else stop
        # Ranks may have taken some more than was asked for, to be equally many.
        if not self._asked.start <= start < stop + _field(state, "num_ranks"):
            raise UserError(
                f"the state to go on from is at batch {start}, the stream is that of batches "
                f"{self._asked.start} to {stop - 1}: go on with the range that it was of"
            )
        return self.batches(start, max(start, stop))

    def state_dict(self) -> dict[str, Any]:
        """Where this process has come to; for `load_state_dict` with as many workers and ranks.

        It is torchdata's `StatefulDataLoader` that calls this, in each of its workers.
        """
        if self._resume is not None:
            return {**self._identity(), **self._resume}
        return {**self._identity(), **self._place(), "next_of_process": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stream of the same data and settings was, in a process of the same number.

        Raises:
            UserError: if it was another one.
        """
        self._check_same(state)
        names = ("next_of_process", *self._place())
        self._resume = {name: _field(state, name) for name in names}

    def _identity(self) -> dict[str, Any]:
        return {
            "state_version": _STATE_VERSION,
            "manifest_sha256": [part.manifest_sha256 for part in self.parts],
            "view_sha256": [part.view_sha256 for part in self.parts],
            "ratios": list(self._turns.ratios),
            "settings": self._settings.model_dump(include=_DECIDING),
        }

    def _place(self) -> dict[str, int]:
        """Which of all processes this is, of what range."""
        worker = get_worker_info()
        return {
            "start": self._asked.start,
            "stop": self._asked.stop,
            "rank": self._rank,
            "num_ranks": self._num_ranks,
            "worker": worker.id if worker else 0,
            "num_workers": worker.num_workers if worker else 1,
        }

    def _check_same(self, state: Mapping[str, Any]) -> None:
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"the state to go on from has {name} {state.get(name)!r}, here it is "
                    f"{value!r}: go on with the same datasets, views and settings"
                )

    def __iter__(self) -> Iterator[Batch]:
        # A DataLoader collects from its workers in turn, so that dealing batches to the workers
        # in turn gives each rank its batches in ascending order whatever their number.
        here, dealt = self._place(), self._dealt()
        if here["rank"] == here["worker"] == 0 and len(dealt) != len(self._asked):
            logger.warning(
                "%s do not divide evenly among %d ranks: %d are taken",
                counted(len(self._asked), "batch", "batches"),
                self._num_ranks,
                len(dealt),
            )
        stride = self._num_ranks * here["num_workers"]
        first = dealt.start + here["rank"] + self._num_ranks * here["worker"]
        if (resume := self._resume) is not None:
            self._resume = None
            if different := [name for name in here if resume[name] != here[name]]:
                told = ", ".join(f"{name} {resume[name]}, now {here[name]}" for name in different)
                raise UserError(
                    f"the state to go on from is of another process ({told}): go on with as many "
                    "ranks and workers, or keep `state_after`, which goes on with any number"
                )
            if resume["next_of_process"] is not None:
                first = resume["next_of_process"]
        # Set before the first batch is asked for: a state may be kept before that.
        self._next = first
        return self._read(range(first, dealt.stop, stride))

    def _read(self, numbers: range) -> Iterator[Batch]:
        try:
            for number in numbers:
                self._next = number + numbers.step
                yield self.batch(number)
        finally:
            for part in self.parts:
                part.close()

    def _dealt(self) -> range:
        """The batches that all ranks take together: equally many each."""
        start, stop = self._asked.start, self._asked.stop
        if left := len(self._asked) % self._num_ranks:
            stop += -left if self._settings.uneven == "drop" else self._num_ranks - left
        return range(start, stop)


class _Process:
    """The process that constructed a stream, or to which it was sent; not one that was forked."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def check(self, parts: Sequence[Batches]) -> None:
        """Refuse to read a store in a forked process.

        Raises:
            UserError: if that is asked for.
        """
        is_remote = any(isinstance(part.shards.dataset, StorePath) for part in parts)
        if is_remote and os.getpid() != self._pid:
            raise UserError(
                "connections to a store do not survive a fork: give the DataLoader "
                'multiprocessing_context="spawn"'
            )

    def __setstate__(self, state: object) -> None:
        self._pid = os.getpid()


def _field(state: Mapping[str, Any], name: str) -> Any:
    if name not in state:
        raise UserError(
            f"the state to go on from has no {name}: what `state_after` gives is for `going_on`, "
            "what `state_dict` gives for `load_state_dict`"
        )
    return state[name]


def _as_parts(given: str | Place | Part | Sequence[Part]) -> list[Part]:
    if isinstance(given, str):
        return [Part(place(given))]
    if isinstance(given, Part):
        return [given]
    if isinstance(given, Path | StorePath):
        return [Part(given)]
    parts = list(given)
    if not parts or min(part.ratio for part in parts) < 1:
        raise UserError("there must be a dataset at least, and each ratio must be 1 or more")
    if sum(part.ratio for part in parts) > _MOST_RATIOS:
        raise UserError(f"ratios that sum to more than {_MOST_RATIOS}: give smaller numbers")
    return parts


def _check_scales(parts: Sequence[Part], opened: Sequence[Batches]) -> None:
    scales = [batches.scale for batches in opened]
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
