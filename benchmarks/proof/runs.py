"""Trainings, each in a process of its own with one thread, and what they reach."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from tqdm import tqdm

import training.samples
from benchmarks.proof.clips import FLOWS
from benchmarks.proof.variants import Variant
from training.batches import Part
from training.checkpoint import STATE_NAME, write_atomically
from training.config import TrainConfig
from training.trainer import RunOptions, train

_DONE = "done.json"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, of one seed."""

    name: str
    variant: Variant
    seed: int
    dataset: Path
    view: Path | None
    encoder: Path | None
    """the pretraining's run"""
    config: TrainConfig
    """but for its seed"""
    run: Path

    def go(self) -> None:
        """Train, or go on with it; nothing where it is finished."""
        if (self.run / _DONE).exists():
            return
        torch.set_num_threads(1)
        options = RunOptions(
            run=self.run,
            device="cpu",
            workers=0,
            validate_every=1000,
            encoder=self.encoder,
            resume=(self.run / STATE_NAME).exists(),
        )
        config = self.config.model_copy(update={"seed": self.seed})
        with patch.object(training.samples, "dense_flow", FLOWS[self.variant.flow]):
            train([Part(self.dataset, self.view)], self.variant.model, config, options)
        write_atomically(self.run / _DONE, json.dumps({"name": self.name}).encode())


def train_all(trainings: list[Training], processes: int) -> None:
    """Train side by side, each on one core."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [pool.submit(training.go) for training in trainings]
        for future in tqdm(futures, desc="trainings"):
            future.result()
