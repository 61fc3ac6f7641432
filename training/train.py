"""Train the network on a dataset: `python -m training.train DATASET`.

Equal settings and data give equal weights on a CPU; on a GPU the last bits may differ, since
the gradient of the warp adds up in no fixed order there.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from schemas.store import StorePath
from schemas.wording import counted
from training.arguments import TOLD_ERRORS, add_stream_options, at_least, stream_parts
from training.batches import Part
from training.checkpoint import (
    STATE_NAME,
    RunConfig,
    TrainedOn,
    TrainingState,
    read_config,
    restore_state,
    save_checkpoint,
)
from training.config import TrainConfig, UserError
from training.dataset import SampleStream
from training.models.cavsr import CavsrConfig
from training.models.configs import build
from training.report import (
    LOG_EVERY_STEPS,
    RunLog,
    read_scores,
    score_table,
    where_to_look,
    write_scores,
)
from training.shards import CacheOptions
from training.step import cosine, training_step
from training.validation import StreamScore, read_validation_set, validate

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how to run; none of it decides the weights."""

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
    resume: bool = False
    """go on from the run's checkpoint"""


def train(parts: Sequence[Part], config: TrainConfig, options: RunOptions) -> list[StreamScore]:
    """Train, validate at the start, on the way and at the end, and leave everything in the run.

    Args:
        parts: what to train on, of finished datasets.
        config: what decides the weights.
        options: where and how to run.

    Returns:
        The last validation, one score per stream; empty without a validation split. It is that of
        the first dataset.

    Raises:
        UserError: if it cannot be done as asked.
        DatasetError: if there is no dataset.
    """
    device = _choose_device(options.device)
    cache = CacheOptions(gib=options.cache_gib)
    stream = SampleStream(parts, "train", config, cache)
    validation_set = read_validation_set(parts[0].dataset, cache)
    run_config = _run_config(parts, config, stream)
    state = _prepare(run_config, options, device)
    is_remote = any(isinstance(part.dataset, StorePath) for part in parts)
    loader = DataLoader(
        stream.batches(state.step, config.steps),
        batch_size=None,
        num_workers=options.workers,
        pin_memory=device.type == "cuda",
        # A store's connections, opened here already, do not survive a fork.
        multiprocessing_context="spawn" if is_remote and options.workers else None,
    )
    with RunLog(options.run, config.steps, state.step) as log, logging_redirect_tqdm():

        def checkpoint() -> list[StreamScore]:
            scores = validate(state.model, validation_set, device)
            log.validation(state.step, scores)
            write_scores(options.run, state.step, scores)
            save_checkpoint(options.run, run_config, state)
            return scores

        scores = read_scores(options.run) if options.resume else checkpoint()
        for _ in _take_steps(state, loader, config, log, options.validate_every):
            scores = checkpoint()
    return scores


def _take_steps(
    state: TrainingState, loader: DataLoader, config: TrainConfig, log: RunLog, pause_every: int
) -> Iterator[int]:
    """Take all remaining steps; yields the number taken where it is time for a checkpoint."""
    device = next(state.model.parameters()).device
    since_row, skipped = list[Tensor](), 0
    for batch in loader:
        learning_rate = cosine(config.learning_rate, state.step, config.steps)
        since_row.append(training_step(state, batch.to(device), learning_rate))
        skipped += len(batch.skipped)
        pause = state.step % pause_every == 0 or state.step == config.steps
        if pause or state.step % LOG_EVERY_STEPS == 0:
            # Read the losses only here: each reading waits for the GPU.
            loss, psnr = torch.stack(since_row).mean(0).tolist()
            log.training(state.step, loss, psnr, learning_rate, skipped)
            since_row.clear()
            skipped = 0
        if pause:
            yield state.step


def _choose_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"--device cuda: torch {torch.__version__} finds no GPU; use --device cpu, or install "
            "a build of torch for this machine's driver"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _run_config(parts: Sequence[Part], config: TrainConfig, stream: SampleStream) -> RunConfig:
    return RunConfig(
        model=CavsrConfig.model_validate({"scale": stream.parts[0].scale}),
        training=config,
        data=[
            TrainedOn(
                dataset_name=opened.name,
                manifest_sha256=opened.manifest_sha256,
                view_sha256=opened.view_sha256,
                ratio=part.ratio,
            )
            for part, opened in zip(parts, stream.parts, strict=True)
        ],
    )


def _prepare(config: RunConfig, options: RunOptions, device: torch.device) -> TrainingState:
    """A fresh state, or the one to go on from."""
    torch.manual_seed(config.training.seed)
    model = build(config.model).to(device)
    state = TrainingState(model, torch.optim.Adam(model.parameters()))
    if options.resume:
        _check_same_run(read_config(options.run), config)
        restore_state(options.run, state)
        if state.step > config.training.steps:
            raise UserError(
                f"{options.run} has taken {counted(state.step, 'step')} already, --steps asks for "
                f"{config.training.steps}: ask for more"
            )
    elif (options.run / STATE_NAME).exists():
        raise UserError(
            f"{options.run} already holds a run: add --resume to go on with it, or choose another "
            "folder with --run"
        )
    _make_folder(options.run)
    return state


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run {run} cannot be made ({error}): choose another folder") from error


def _check_same_run(found: RunConfig, asked: RunConfig) -> None:
    # More steps are welcome: the cosine is then that of the longer run.
    steps = {"steps": asked.training.steps}
    same = found.model_copy(update={"training": found.training.model_copy(update=steps)})
    changed = [
        f"{name} was {old!r}, is now {new!r}" for name, old, new in _differences(same, asked)
    ]
    if changed:
        raise UserError(
            f"--resume of another run: {'; '.join(changed)}: repeat the settings of that run, or "
            "train with another --run"
        )


def _differences(a: RunConfig, b: RunConfig) -> list[tuple[str, object, object]]:
    left, right = _flat(a), _flat(b)
    return [(name, left[name], right[name]) for name in left if left[name] != right[name]]


def _flat(config: RunConfig) -> dict[str, object]:
    data = {name: [getattr(x, name) for x in config.data] for name in TrainedOn.model_fields}
    return {"model": config.model.model_dump(), **config.training.model_dump(), **data}


def _gib(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of GiB")
    return number


def _learning_rate(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what it leaves out comes from `TrainConfig` and `RunOptions`."""
    defaults, options = TrainConfig(), RunOptions()
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train compression-aware video super-resolution on a dataset.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add_stream_options(parser)
    add = parser.add_argument
    add("--run", type=Path, default=options.run, help="folder for weights, log and scores")
    add("--steps", type=at_least(1), default=defaults.steps, help="optimizer steps")
    add(
        "--learning-rate",
        type=_learning_rate,
        default=defaults.learning_rate,
        help="of the first step",
    )
    add("--device", choices=["auto", "cpu", "cuda"], default=options.device, help="where to train")
    add(
        "--workers",
        type=at_least(0),
        default=options.workers,
        help="processes that read the dataset",
    )
    add(
        "--validate-every",
        type=at_least(1),
        default=options.validate_every,
        help="steps between validations and checkpoints",
    )
    add(
        "--cache-gib",
        type=_gib,
        default=options.cache_gib,
        help="disk space for copies of a store's shards; 0 reads byte ranges instead",
    )
    add("--resume", action="store_true", help="go on from the run's checkpoint")
    return parser.parse_args(arguments)


def _message(error: Exception) -> str:
    text = str(error)
    if text.startswith("Caught "):  # in a loader's process: torch puts a traceback before it
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 if interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = parse_arguments(arguments)
    config = TrainConfig(**{name: getattr(given, name) for name in TrainConfig.model_fields})
    names = [field.name for field in dataclasses.fields(RunOptions)]
    options = RunOptions(**{name: getattr(given, name) for name in names})
    try:
        scores = train(stream_parts(given), config, options)
    except TOLD_ERRORS as error:
        logger.error("error: %s", _message(error))
        return 2
    except KeyboardInterrupt:
        logger.error("interrupted: add --resume to go on from the last checkpoint")
        return 130
    logger.info("\n%s\n\n%s", score_table(scores), where_to_look(options.run))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
