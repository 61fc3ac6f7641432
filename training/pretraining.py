"""Pretraining of the compression encoder: what is read, one step, and what a run leaves behind.

A kill at any moment leaves whole files. `training_state.safetensors` alone is what a run goes on
from: weights, optimizer and step in one file, so that they always belong together. Nothing is ever
unpickled.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import Dataset

from schemas.record import Record
from training.aligned import AlignedBatch, AlignedWindow, collate_aligned
from training.checkpoint import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    TrainedOn,
    first_line,
    write_atomically,
)
from training.config import UserError
from training.dataset import SampleStream
from training.draw import WindowDraw
from training.index import Entry
from training.models.encoder import CompressionEncoder, EncoderConfig, ScoreHead
from training.models.layers import to_channels_last
from training.ranking import PretrainConfig, ranking_loss
from training.samples import read_aligned
from training.shards import Shards
from training.step import learning_rate

STATE_NAME = "training_state.safetensors"

_ENCODER = "encoder."
_DAMAGED = (OSError, SafetensorError, RuntimeError, LookupError, ValueError)
"""What files raise that are cut, of another network, or not a checkpoint."""


class Ranker(nn.Module):
    """The encoder and the head that makes a score of its code."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = CompressionEncoder(config)
        self.score = ScoreHead(config.code_channels)

    def forward(self, lr_NCHW: Tensor, frame_type_N: Tensor | None) -> Tensor:
        """Scores, (N,); higher is more compressed.

        Args:
            lr_NCHW: RGB in [0, 1].
            frame_type_N: int64 `FrameType.code`; None where it is not told.
        """
        return self.score(self.encoder(lr_NCHW, frame_type_N))


class PretrainRun(Record):
    """Everything that decides the weights of a run: its `config.json`."""

    encoder: EncoderConfig
    """what is pretrained"""
    training: PretrainConfig
    """how"""
    data: list[TrainedOn]
    """on what"""


@dataclasses.dataclass
class PretrainState:
    """What changes in the course of a run."""

    ranker: Ranker
    optimizer: torch.optim.Optimizer
    step: int = 0
    """optimizer steps taken"""


class AlignedBatches(Dataset[AlignedBatch]):
    """The batches of a stream by their numbers, all LR streams of each sample.

    Args:
        stream: whose samples, crops and turns are taken.
    """

    def __init__(self, stream: SampleStream) -> None:
        self._stream = stream

    def __getitem__(self, number: int) -> AlignedBatch:
        return collate_aligned(self._stream.read(number, read_spread))


def read_spread(shards: Shards, entry: Entry, draw: WindowDraw) -> AlignedWindow:
    """All LR streams of a sample, as many frames as were drawn, spread from the first one.

    The first frame of a clip is often its only I frame; those that follow each other at once are
    nearly equal. Decoding begins there anyway.

    Raises:
        DatasetError: if it cannot be read.
    """
    cut, num_frames = draw.cut, draw.cut.start + draw.cut.count
    window = read_aligned(shards, entry, dataclasses.replace(cut, start=0, count=num_frames))
    spread = np.rint(np.linspace(0, num_frames - 1, cut.count)).astype(np.int64)
    return window.frames(spread, draw.turns)


def new_state(config: PretrainRun, device: torch.device) -> PretrainState:
    """The start of a run; its weights follow from the seed."""
    torch.manual_seed(config.training.seed)
    ranker = Ranker(config.encoder).to(device)
    to_channels_last(ranker)  # a third less time on a CPU
    decay = config.training.weight_decay
    return PretrainState(ranker, torch.optim.Adam(ranker.parameters(), weight_decay=decay))


def pretraining_step(state: PretrainState, batch: AlignedBatch, config: PretrainConfig) -> Tensor:
    """Take one optimizer step.

    Args:
        state: what is changed.
        batch: on the network's device.
        config: the loss and the schedule.

    Returns:
        (2,) on the batch's device: the loss, and the gradient's norm before it was shortened.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    scores = state.ranker(batch.lr, batch.coding.frame_type)
    loss = ranking_loss(scores, batch.coding, config)
    state.optimizer.zero_grad()
    loss.backward()
    weights = state.ranker.parameters()
    norm = torch.nn.utils.clip_grad_norm_(weights, config.max_gradient_norm)
    state.optimizer.step()
    state.step += 1
    return torch.stack([loss.detach(), norm])


def save(run: Path, config: PretrainRun, state: PretrainState) -> None:
    """Write the three files of a run, over those of an earlier step."""
    # Safetensors takes contiguous tensors only.
    weights = {name: _stored(x) for name, x in state.ranker.state_dict().items()}
    resumable = {f"ranker.{name}": x for name, x in weights.items()}
    for parameter, moments in state.optimizer.state_dict()["state"].items():
        for name, x in moments.items():
            resumable[f"optimizer.{parameter}.{name}"] = _stored(x)
    resumable["step"] = torch.tensor(state.step)
    write_atomically(run / CONFIG_NAME, config.model_dump_json(indent=2).encode())
    write_atomically(run / WEIGHTS_NAME, safetensors.torch.save(weights))
    write_atomically(run / STATE_NAME, safetensors.torch.save(resumable))


def _stored(x: Tensor) -> Tensor:
    return x.detach().cpu().contiguous()


def restore(run: Path, state: PretrainState) -> None:
    """Put a state where a run's checkpoint was.

    Raises:
        UserError: if there is no checkpoint, or it is damaged, or of another network.
    """
    path = run / STATE_NAME
    if not path.is_file():
        raise UserError(f"{path} is missing, there is nothing to resume: leave --resume out")
    try:
        stored = safetensors.torch.load_file(path)
        state.ranker.load_state_dict(_below("ranker.", stored))
        moments = dict[int, dict[str, Tensor]]()
        for name, x in _below("optimizer.", stored).items():
            parameter, _, kind = name.partition(".")
            moments.setdefault(int(parameter), {})[kind] = x
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        state.step = int(stored["step"])
    except _DAMAGED as error:
        raise _not_loadable(path, error) from error


def read_run(run: Path) -> PretrainRun:
    """Read what a run was asked to do.

    Raises:
        UserError: if the folder holds no such run.
    """
    path = run / CONFIG_NAME
    if not path.is_file():
        raise UserError(
            f"{run} holds no pretrained encoder ({CONFIG_NAME} is missing): make one with "
            "training.pretrain"
        )
    try:
        return PretrainRun.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:  # of JSON, UTF-8 and pydantic, too
        raise UserError(
            f"{path} is not the configuration of a pretrained encoder ({first_line(error)}): give "
            "the folder of a run of training.pretrain"
        ) from error


def load_encoder(path: Path) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """A pretrained encoder: what `CompressionEncoder(config).load_state_dict` takes.

    Args:
        path: the folder of a run of `training.pretrain`.

    Raises:
        UserError: if the folder holds no such run, or its weights do not fit its configuration.
    """
    config, weights_path = read_run(path).encoder, path / WEIGHTS_NAME
    try:
        weights = _below(_ENCODER, safetensors.torch.load_file(weights_path))
        with torch.device("meta"):  # nothing is allocated for a configuration that does not fit
            CompressionEncoder(config).load_state_dict(weights, assign=True)
        if not all(x.isfinite().all() for x in weights.values()):
            raise ValueError("some weights are no numbers")
    except _DAMAGED as error:
        raise _not_loadable(weights_path, error) from error
    return config, weights


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _not_loadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be loaded ({first_line(error)}): restore the file from a copy, or "
        "pretrain with another --run"
    )
