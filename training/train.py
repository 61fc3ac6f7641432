"""Train a network on a dataset: `python -m training.train DATASET`.

On several GPUs: `torchrun --nproc-per-node 8 -m -- training.train DATASET`.
"""

import argparse
import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from schemas.wording import counted
from training.arguments import (
    HelpFormatter,
    add_stream_options,
    at_least,
    run_command,
    stream_parts,
)
from training.config import TrainConfig, UserError
from training.models.cavsr import CavsrConfig
from training.models.configs import CONFIGS, AnyConfig, choose_config
from training.report import score_table, where_to_look
from training.trainer import RunOptions, train

logger = logging.getLogger(__name__)

_DEFAULT_CONFIGS = {"vsr": "xs", "sisr": "compact"}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what it leaves out comes from `TrainConfig` and `RunOptions`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train super-resolution of compressed videos or pictures on a dataset.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_stream_options(parser)
    _add_model_options(parser)
    _add_training_options(parser)
    _add_run_options(parser)
    return parser.parse_args(arguments)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--task",
        choices=list(_DEFAULT_CONFIGS),
        default="vsr",
        help="super-resolve clips, or each frame for itself",
    )
    names = ", ".join(CONFIGS)
    add(
        "--config",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help=f"the network: {names}, or a TOML file (default: xs, of --task sisr compact)",
    )

    add(
        "--encoder",
        type=Path,
        default=None,
        metavar="RUN",
        help="begin with the compression encoder of this run of training.pretrain",
    )
    add(
        "--freeze-encoder",
        dest="trains_encoder",
        action="store_false",
        help="leave it as it was pretrained, as CAVSR does",
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    defaults, add = TrainConfig(), parser.add_argument
    add("--steps", type=at_least(1), default=defaults.steps, help="optimizer steps")
    add("--learning-rate", type=_above_0, default=defaults.learning_rate, help="the highest")
    add(
        "--warm-up",
        type=_fraction,
        default=defaults.warm_up,
        help="part of the steps in which the learning rate rises",
    )
    add(
        "--max-gradient-norm",
        type=_above_0,
        default=defaults.max_gradient_norm,
        help="longer gradients are shortened to it",
    )
    add(
        "--ema-decay",
        type=_fraction,
        default=defaults.ema_decay,
        help="of the average of the weights that is validated and handed out; 0: none",
    )
    add(
        "--precision",
        choices=["float32", "bfloat16"],
        default=defaults.precision,
        help="of convolutions; bfloat16 on GPUs that have it",
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    options, add = RunOptions(), parser.add_argument
    add("--run", type=Path, default=options.run, help="folder for weights, log and scores")
    add("--device", choices=["auto", "cpu", "cuda"], default=options.device, help="where to train")
    add(
        "--workers",
        type=at_least(0),
        default=options.workers,
        help="processes that read the dataset, for each that trains",
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
    add("--compile", action="store_true", help="compile the parts that repeat; for GPUs")
    add(
        "--checkpoint-activations",
        action="store_true",
        help="compute activations twice: less memory, for longer clips",
    )
    add("--resume", action="store_true", help="go on from the run's checkpoint")


def _gib(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of GiB")
    return number


def _above_0(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to below 1")
    return number


def _model(given: argparse.Namespace) -> AnyConfig:
    name = getattr(given, "config", _DEFAULT_CONFIGS[given.task])
    config = choose_config(name)
    task = "vsr" if isinstance(config, CavsrConfig) else "sisr"
    if task != given.task:
        raise UserError(f"--config {name} is a network of --task {task}: give that, or another one")
    return config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 if interrupted.
    """
    given = parse_arguments(arguments)
    interrupted = (
        "interrupted: --resume goes on from the last checkpoint, if there was one; one is made "
        f"every {counted(given.validate_every, 'step')} (--validate-every)"
    )
    return run_command(lambda: _run(given), interrupted)


def _run(given: argparse.Namespace) -> None:
    fields = [name for name in TrainConfig.model_fields if hasattr(given, name)]
    config = TrainConfig(**{name: getattr(given, name) for name in fields})
    names = [field.name for field in dataclasses.fields(RunOptions)]
    options = RunOptions(**{name: getattr(given, name) for name in names})
    scores = train(stream_parts(given), _model(given), config, options)
    if scores is not None:
        logger.info("\n%s\n\n%s", score_table(scores), where_to_look(options.run))


if __name__ == "__main__":
    raise SystemExit(main())
