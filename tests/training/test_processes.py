"""Trainings of several processes, started by torchrun, killed, and gone on with."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.clusters import wait_for
from tests.training.test_train import SETTINGS, log_rows
from training.batch import Batch
from training.checkpoint import STATE_NAME, TrainingState, load_model
from training.config import TrainConfig
from training.dataset import SampleStream
from training.models.cavsr import CavsrConfig
from training.models.configs import build
from training.processes import Processes, joined
from training.step import Objective, training_step
from training.train import parse_arguments

STEPS = 8
OPTIONS = [*SETTINGS, "--workers", "0", "--validate-every", "2", "--ema-decay", "0"]


def start(dataset: Path, run: Path, num_processes: int, *more: str) -> subprocess.Popen:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--master-port={port}"]
    # Behind the dashes, torchrun does not take --run for an option of its own.
    command = [*launcher, f"--nproc-per-node={num_processes}", "-m", "--", "training.train"]
    return subprocess.Popen(
        [*command, str(dataset), "--run", str(run), *OPTIONS, "--steps", str(STEPS), *more],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )


def kill(process: subprocess.Popen, run: Path) -> None:
    """Kill torchrun and the processes that it started, which have sessions of their own."""
    subprocess.run(["pkill", "-KILL", "-f", str(run)], check=True)
    process.wait()


def kept_step(run: Path) -> int:
    path = run / STATE_NAME
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


@pytest.fixture(scope="module")
def straight(pan_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two processes that nobody disturbed."""
    run = tmp_path_factory.mktemp("straight") / "run"
    assert start(pan_dataset, run, 2).wait(200) == 0
    return run


def test_two_processes_train_on_two_batches_a_step(straight: Path, pan_dataset: Path) -> None:
    """The weights are those of the mean gradient of batches 2 n and 2 n + 1."""
    given = parse_arguments([str(pan_dataset), *OPTIONS, "--steps", str(STEPS)])
    names = [name for name in TrainConfig.model_fields if hasattr(given, name)]
    config = TrainConfig(**{name: getattr(given, name) for name in names})
    torch.manual_seed(config.seed)
    model, average = build(CavsrConfig()), build(CavsrConfig())
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    state = TrainingState(model, average, optimizer)
    alone = Objective(model, torch.float32)
    batches = [
        batch.to(torch.device("cpu"))
        for batch in SampleStream(pan_dataset, "train", config).batches(0, 2 * STEPS)
    ]

    class Mean(torch.nn.Module):
        def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            first, restored = alone(batch)
            second, _ = alone(batches[batches.index(batch) + 1])
            return (first + second) / 2, restored

    for batch in batches[::2]:
        training_step(state, Mean(), batch, config)
    trained = load_model(straight).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.allclose(trained[name], weight, atol=2e-4), name


def test_a_killed_training_goes_on_to_the_same_curve_and_weights(
    straight: Path, pan_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(pan_dataset, run, 2)
    try:
        wait_for("a checkpoint", lambda: kept_step(run) >= 2, 120)
    finally:
        kill(process, run)
    assert 2 <= kept_step(run) < STEPS
    assert start(pan_dataset, run, 2, "--resume").wait(200) == 0
    assert log_rows(run) == log_rows(straight)
    weights = [load_model(folder).state_dict() for folder in (run, straight)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_alone_nothing_is_averaged() -> None:
    with joined("cpu") as processes:
        assert processes == Processes(torch.device("cpu"), rank=0, count=1)
        assert processes.mean(torch.tensor(3.0)) == 3
        processes.wait()
