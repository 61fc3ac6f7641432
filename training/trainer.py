"""A training run, from its data and settings to a folder with everything that it leaves.

Equal settings and data give equal weights on a CPU; on a GPU the last bits may differ, since
the gradient of the warp adds up in no fixed order there.
"""

import copy
import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.contrib.logging import logging_redirect_tqdm

from schemas.wording import counted
from training.batches import Part
from training.card import CARD_NAME, model_card
from training.checkpoint import (
    STATE_NAME,
    WEIGHTS_NAME,
    RunConfig,
    TrainingState,
    read_config,
    restore_state,
    save_checkpoint,
    write_atomically,
)
from training.config import TrainConfig, UserError
from training.curves import LOG_EVERY_STEPS
from training.dataset import SampleStream
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.configs import AnyConfig, at_scale, build
from training.models.layers import to_channels_last
from training.pretraining import load_encoder
from training.processes import Processes, joined
from training.report import RunLog, read_scores, write_scores
from training.run_folder import (
    check_finite,
    check_same,
    load_batches,
    make_folder,
    refuse_used,
    trained_on,
)
from training.shards import CacheOptions
from training.step import Objective, learning_rate, training_step
from training.validation import StreamScore, read_validation_set, validate

_BETAS = (0.9, 0.99)  # CAVSR's release, train.yml


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how to run. None of it decides the weights, but for rounding, and for the encoder,
    of which the run's configuration keeps the hash."""

    run: Path = Path("build/run")
    """the run's folder"""
    device: str = "auto"
    """auto, cpu or cuda"""
    workers: int = 2
    """processes that read and decode; 0 does it between the steps"""
    validate_every: int = 500
    """steps between validations, each followed by a checkpoint"""
    cache_gib: float = CacheOptions().gib
    """disk space for copies of a store's shards, GiB; 0 reads byte ranges instead"""
    compile: bool = False
    """compile the parts that repeat (torch.compile)"""
    checkpoint_activations: bool = False
    """compute activations again for gradients: less memory for longer clips"""
    encoder: Path | None = None
    """the run of `training.pretrain` whose encoder is taken"""
    resume: bool = False
    """go on from the run's checkpoint"""


def train(
    parts: Sequence[Part], model: AnyConfig, config: TrainConfig, options: RunOptions
) -> list[StreamScore] | None:
    """Train, validate at the start, on the way and at the end, and leave everything in the run.

    Under `torchrun` all processes train together, each with `batch_size` samples a step; the
    first one validates, logs and writes.

    Args:
        parts: what to train on, of finished datasets.
        model: the network; its scale becomes that of the datasets.
        config: what else decides the weights.
        options: where and how to run.

    Returns:
        The last validation, one score per stream; empty without a validation split. It is that of
        the first dataset. None in all processes but the first.

    Raises:
        UserError: if it cannot be done as asked.
        DatasetError: if there is no dataset.
    """
    _check_compiler(options)
    with joined(options.device) as processes:
        run = _Run(parts, model, config, options, processes)
        with logging_redirect_tqdm():
            return run.go()


class _Run:
    """A run in one of its processes."""

    def __init__(
        self,
        parts: Sequence[Part],
        model: AnyConfig,
        config: TrainConfig,
        options: RunOptions,
        processes: Processes,
    ) -> None:
        config = _with_encoder(config, options)
        self._config, self._options, self._processes = config, options, processes
        cache = CacheOptions(gib=options.cache_gib)
        stream = SampleStream(parts, "train", config, cache)
        self._validation_set = read_validation_set(parts[0].dataset, cache)
        self._run_config = _run_config(parts, model, config, stream)
        self._state = _prepare(self._run_config, options, processes)
        self._stream = _rest(stream, self._state, config.steps, processes.count)
        self._loader = load_batches(self._stream, parts, options.workers, processes.device)

    def go(self) -> list[StreamScore] | None:
        """Take all steps that are left; the last validation, in the first process."""
        if not self._processes.is_first:
            for _ in self._take_steps(None):
                self._processes.wait()
            return None
        run, resume = self._options.run, self._options.resume
        scores = read_scores(run) if resume else []
        with RunLog(run, self._config.steps, self._state.step, resume) as log:
            if not resume:
                scores = self._checkpoint(log)
            for _ in self._take_steps(log):
                scores = self._checkpoint(log)
                self._processes.wait()
        return scores

    def _take_steps(self, log: RunLog | None) -> Iterator[None]:
        """Take all remaining steps; pauses where it is time for a checkpoint."""
        state, config, processes = self._state, self._config, self._processes
        objective = _objective(state, config, self._options, processes)
        since_row, skipped = list[Tensor](), 0
        for taken, batch in enumerate(self._loader, start=1):
            since_row.append(training_step(state, objective, batch.to(processes.device), config))
            skipped += len(batch.skipped)
            state.stream = self._stream.state_after(taken)
            pause = state.step % self._options.validate_every == 0 or state.step == config.steps
            if pause or state.step % LOG_EVERY_STEPS == 0:
                # Read the losses only here: each reading waits for the GPU.
                loss, psnr, norm = processes.mean(torch.stack(since_row).mean(0)).tolist()
                check_finite(loss, norm, state.step, self._options.run)
                if log is not None:
                    rate = learning_rate(config, state.step - 1)
                    log.training(state.step, loss, psnr, rate, skipped)
                since_row.clear()
                skipped = 0
            if pause:
                yield

    def _checkpoint(self, log: RunLog) -> list[StreamScore]:
        state, run = self._state, self._options.run
        scores, examples = validate(state.average, self._validation_set, self._processes.device)
        log.validation(state.step, scores, examples)
        write_scores(run, state.step, scores)
        parameters = sum(p.numel() for p in state.model.parameters())
        card = model_card(self._run_config, state.step, parameters, scores)
        write_atomically(run / CARD_NAME, card.encode())
        save_checkpoint(run, self._run_config, state)
        return scores


def _objective(
    state: TrainingState, config: TrainConfig, options: RunOptions, processes: Processes
) -> nn.Module:
    """What is minimised, as this process computes it."""
    if options.checkpoint_activations:
        assert isinstance(state.model, Cavsr)
        state.model.checkpoints_parts = True
    if options.compile:
        state.model.compile_steps()
    objective = Objective(state.model, getattr(torch, config.precision))
    if processes.count == 1:
        return objective
    # Gradients that are views of the buckets are laid out like the weights from the first step on.
    # Otherwise a run that goes on would differ from an uninterrupted one in the last bits.
    return DistributedDataParallel(objective, gradient_as_bucket_view=True)


def _rest(
    stream: SampleStream, state: TrainingState, steps: int, num_processes: int
) -> SampleStream:
    """The batches of the steps that are left: one a step for each process."""
    needed = (steps - state.step) * num_processes
    if not state.stream:
        return stream.batches(0, needed)
    start = int(state.stream["next_batch"])
    return stream.batches(0, start + 1).going_on(state.stream, stop=start + needed)


def _check_compiler(options: RunOptions) -> None:
    if options.compile and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise UserError(
            "--compile: torch.compile needs a C++ compiler, and none is installed: install g++, "
            "or leave --compile out"
        )


def _run_config(
    parts: Sequence[Part], model: AnyConfig, config: TrainConfig, stream: SampleStream
) -> RunConfig:
    return RunConfig(
        model=at_scale(model, stream.parts[0].scale),
        training=config,
        data=trained_on(parts, stream),
    )


def _prepare(config: RunConfig, options: RunOptions, processes: Processes) -> TrainingState:
    """A fresh state, or the one to go on from; the same in all processes."""
    if options.checkpoint_activations and not isinstance(config.model, CavsrConfig):
        raise UserError(
            "--checkpoint-activations is for networks of clips: leave it out for pictures"
        )
    torch.manual_seed(config.training.seed)
    model = build(config.model)
    if options.encoder is not None:
        _take_encoder(model, options.encoder)
    if not config.training.trains_encoder and isinstance(model, Cavsr):
        model.freeze_encoder()
    model.to(processes.device)
    to_channels_last(model)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    is_fused = processes.device.type == "cuda"
    state = TrainingState(model, average, torch.optim.Adam(trained, betas=_BETAS, fused=is_fused))
    if options.resume:
        _go_on(state, config, options.run)
    else:
        refuse_used(options.run, STATE_NAME)
    processes.wait()  # before the first one writes what the others look for
    make_folder(options.run)
    return state


def _go_on(state: TrainingState, config: RunConfig, run: Path) -> None:
    check_same(read_config(run), config)
    restore_state(run, state)
    if state.step > config.training.steps:
        raise UserError(
            f"{run} has taken {counted(state.step, 'step')} already, --steps asks for "
            f"{config.training.steps}: ask for more"
        )


def _with_encoder(config: TrainConfig, options: RunOptions) -> TrainConfig:
    sha256 = ""
    if options.encoder is not None:
        load_encoder(options.encoder)  # there, and whole
        sha256 = hashlib.sha256((options.encoder / WEIGHTS_NAME).read_bytes()).hexdigest()
    elif options.resume:  # it is in the checkpoint
        sha256 = read_config(options.run).training.encoder_sha256
    if not (sha256 or config.trains_encoder):
        raise UserError("--freeze-encoder without --encoder: give a pretrained one")
    return config.model_copy(update={"encoder_sha256": sha256})


def _take_encoder(model: nn.Module, run: Path) -> None:
    found, weights = load_encoder(run)
    if not isinstance(model, Cavsr) or model.encoder is None:
        raise UserError(f"--encoder {run}: the network of --config has none: leave it out")
    if found != model.config.encoder:
        raise UserError(
            f"--encoder {run} has {found!r}, the network of --config {model.config.encoder!r}: "
            "pretrain with the same --config"
        )
    model.encoder.load_state_dict(weights)
