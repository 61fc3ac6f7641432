"""What a run leaves behind, written so that a kill at any moment leaves a whole file.

`config.json` and `weights.safetensors` are what others load. `training_state.pt` alone is what a
run goes on from: weights, optimizer and step in one file, so that they always belong together.
"""

import dataclasses
import io
import json
import os
import pickle
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from schemas.record import Record
from training.config import TrainConfig, UserError
from training.models.configs import ModelConfig, Network, build

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "weights.safetensors"
STATE_NAME = "training_state.pt"

_DAMAGED = (
    OSError, EOFError, RuntimeError, pickle.UnpicklingError, LookupError, TypeError, ValueError,
    ArithmeticError, AttributeError,
)  # fmt: skip
"""What torch raises for a file that is cut, of another network, or not a checkpoint."""


def first_line(error: Exception) -> str:
    """What is wrong; of all that pydantic finds, the first."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class TrainedOn(Record):
    """A part of what a network is trained on."""

    dataset_name: str
    """the recipe's name"""
    manifest_sha256: str
    """of the dataset's manifest"""
    view_sha256: str = ""
    """of the view that it is trained on; empty for the whole split"""
    ratio: int = 1
    """batches of it, to those of other parts"""


class RunConfig(Record):
    """Everything that decides the weights of a run: `config.json`."""

    model: ModelConfig
    """the network"""
    training: TrainConfig
    """how it is trained"""
    data: list[TrainedOn]
    """what it is trained on"""


@dataclasses.dataclass
class TrainingState:
    """What changes in the course of a run."""

    model: Network
    """what is trained"""
    average: Network
    """the moving average of its weights: what is validated and handed out"""
    optimizer: torch.optim.Optimizer
    step: int = 0
    """optimizer steps taken"""
    stream: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """what to go on reading from, of `SampleStream.state_after`; empty before the first step"""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A new name beside `path`; what is written there replaces it if no error comes up.

    No other file has that name: in folders that are not ours, one of a fixed name may be anything.
    """
    temporary = path.with_name(f"{path.stem[:40]}.{secrets.token_hex(8)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(run: Path, config: RunConfig, state: TrainingState) -> None:
    """Write the three files of a run, over those of an earlier step."""
    resumable = {
        "step": state.step,
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "stream": dict(state.stream),
    }
    buffer = io.BytesIO()
    torch.save(resumable, buffer)
    write_atomically(run / CONFIG_NAME, config.model_dump_json(indent=2).encode())
    write_atomically(run / WEIGHTS_NAME, safetensors.torch.save(_on_cpu(state.average)))
    write_atomically(run / STATE_NAME, buffer.getvalue())


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    # Contiguous: weights that were trained in channels_last would be refused.
    return {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}


def read_config(run: Path) -> RunConfig:
    """Read what a run was asked to do.

    Raises:
        UserError: if the folder holds no run.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{run} holds no run ({CONFIG_NAME} is missing): train one first")
    try:
        return RunConfig.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:  # of JSON, UTF-8 and pydantic, too
        raise UserError(
            f"{path} is not the configuration of a run of training.train ({first_line(error)}): "
            "give the folder of one"
        ) from error


def load_model(run: Path) -> Network:
    """The trained network of a run, the average of its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: if the folder holds no run, or its weights do not fit.
    """
    with torch.device("meta"):  # nothing is allocated for a configuration that is not the weights'
        model = build(read_config(run).model)
    path = run / WEIGHTS_NAME
    try:
        weights = safetensors.torch.load_file(path)
        floats = {name: x.float() if x.is_floating_point() else x for name, x in weights.items()}
        model.load_state_dict(floats, assign=True)
        if not all(x.isfinite().all() for x in weights.values()):
            raise ValueError("some weights are no numbers")
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise _not_loadable(path, error) from error
    return model.eval()


def restore_state(run: Path, state: TrainingState) -> None:
    """Put a state where a run's checkpoint was.

    Raises:
        UserError: if there is no checkpoint, or it is damaged, of another network, or holds
            anything but tensors and plain values.
    """
    path = run / STATE_NAME
    if not path.is_file():
        raise UserError(f"{path} is missing, there is nothing to resume: leave --resume out")
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
        state.model.load_state_dict(stored["model"])
        state.average.load_state_dict(stored["average"])
        # Settings of the optimizer are this run's, which may be on another device.
        groups = state.optimizer.state_dict()["param_groups"]
        moments = dict(stored["optimizer"]["state"])
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        state.step, state.stream = int(stored["step"]), dict(stored["stream"])
        if state.step < 0 or (state.stream and not isinstance(state.stream["next_batch"], int)):
            raise ValueError("it says nothing of how far it is")
    except _DAMAGED as error:
        raise _not_loadable(path, error) from error


def _not_loadable(path: Path, error: Exception) -> UserError:
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{path} cannot be loaded ({cause}): restore the file from a copy, or train with another "
        "--run"
    )
