"""What all kinds of training runs share: their data, their folder, their loader."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

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
