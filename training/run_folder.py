"""What all kinds of training runs share: their data, their folder, their loader."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from schemas.record import Record
from schemas.store import StorePath
from training.batches import Part
from training.checkpoint import TrainedOn
from training.config import UserError
from training.dataset import SampleStream


def trained_on(parts: Sequence[Part], stream: SampleStream) -> list[TrainedOn]:
    """What a run remembers of its data."""
    return [
        TrainedOn(
            dataset_name=opened.name,
            manifest_sha256=opened.manifest_sha256,
            view_sha256=opened.view_sha256,
            ratio=part.ratio,
        )
        for part, opened in zip(parts, stream.parts, strict=True)
    ]


def refuse_used(run: Path, state_name: str) -> None:
    """Refuse to begin in the folder of another run.

    Raises:
        UserError: if there is one.
    """
    if (run / state_name).exists():
        raise UserError(
            f"{run} already holds a run: add --resume to go on with it, or choose another "
            "folder with --run"
        )


def check_same(found: Record, asked: Record) -> None:
    """Refuse to go on with a run that was asked for otherwise; more steps are welcome.

    Args:
        found: the configuration of the run; it has the settings in a field `training`.
        asked: what is asked for now.

    Raises:
        UserError: if they differ.
    """
    old, new = _flat(found), _flat(asked)
    # Networks of other kinds have other fields, and more parts more: kinds and counts tell it.
    both = [name for name in old if name in new and name != "training.steps"]
    changed = [
        f"{name} was {old[name]!r}, is now {new[name]!r}" for name in both if old[name] != new[name]
    ]
    if changed:
        raise UserError(
            f"--resume of another run: {'; '.join(changed)}: repeat the settings of that run, or "
            "train with another --run"
        )


def _flat(record: Record) -> dict[str, object]:
    flat = dict[str, object]()
    for name, value in record:
        if isinstance(value, Record):
            flat |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
        elif isinstance(value, list):
            flat |= {f"{name}.{i}.{k}": v for i, x in enumerate(value) for k, v in _flat(x).items()}
            flat[f"parts of {name}"] = len(value)
        else:
            flat[name] = value
    return flat


def check_finite(loss: float, gradient_norm: float, step: int, run: Path) -> None:
    """Stop before weights that are no numbers any more take the place of the last ones.

    Raises:
        UserError: if the loss or its gradient is no number.
    """
    if not math.isfinite(loss + gradient_norm):
        raise UserError(
            f"the loss is {loss}, the norm of its gradient {gradient_norm}, at step {step} or a "
            f"few before: {run} keeps the last checkpoint; train with a lower --learning-rate, a "
            "longer --warm-up, or in --precision float32, in another --run"
        )


def make_folder(run: Path) -> None:
    """Make a run's folder, unless it is there.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run {run} cannot be made ({error}): choose another folder") from error


def load_batches(
    batches: Dataset,
    parts: Sequence[Part],
    workers: int,
    device: torch.device,
    numbers: Iterable[int] | None = None,
) -> DataLoader:
    """A loader of batches that are made whole.

    Args:
        batches: the dataset that makes them.
        parts: where they come from.
        workers: processes that make them; 0 for none.
        device: where they go.
        numbers: which of them; all, one after the other, of an iterable dataset.
    """
    is_remote = any(isinstance(part.dataset, StorePath) for part in parts)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # A store's connections, opened here already, do not survive a fork.
        multiprocessing_context="spawn" if is_remote and workers else None,
    )
