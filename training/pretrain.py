"""Pretrain the compression encoder by ranking: `python -m training.pretrain DATASET`.

Its scores learn to order frames by CRF and by frame type, within and across contents (CAVSR,
section 3.2); `training.train --encoder` starts from it. Equal settings and data give equal weights
on a CPU.
"""

import argparse
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from schemas.sample import StreamRow
from training.arguments import (
    HelpFormatter,
    add_stream_options,
    at_least,
    run_command,
    stream_parts,
)
from training.batches import Part
from training.checkpoint import WEIGHTS_NAME
from training.config import UserError
from training.curves import LOG_EVERY_STEPS, LOG_NAME, TENSORBOARD_NAME, Curves
from training.dataset import SampleStream
from training.index import read_shard_table
from training.models.cavsr import CavsrConfig
from training.models.configs import WITH_ENCODER, choose_config
from training.models.encoder import EncoderConfig
from training.pretraining import (
    STATE_NAME,
    AlignedBatches,
    PretrainRun,
    PretrainState,
    new_state,
    pretraining_step,
    read_run,
    restore,
    save,
)
from training.processes import choose_device
from training.ranking import PretrainConfig
from training.run_folder import (
    check_finite,
    check_same,
    load_batches,
    make_folder,
    refuse_used,
    trained_on,
)
from training.score_plot import PLOT_NAME, write_plot
from training.scoring import (
    SCORES_NAME,
    PairAccuracy,
    accuracy_table,
    score_held_out,
    write_scores,
)
from training.step import learning_rate

_SUMMARY = ("CRF at least 5 apart, within clips", "given")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Where and how to run; none of it decides the weights."""

    run: Path = Path("build/pretrain")
    """the run's folder"""
    device: str = "auto"
    """auto, cpu or cuda"""
    workers: int = 2
    """processes that read and decode; 0 does it between the steps"""
    validate_every: int = 250
    """steps between scorings of the validation split, each followed by a checkpoint"""
    resume: bool = False
    """go on from the run's checkpoint"""


def pretrain(
    parts: Sequence[Part], encoder: EncoderConfig, config: PretrainConfig, options: PretrainOptions
) -> list[PairAccuracy]:
    """Pretrain an encoder, score the validation split on the way, leave everything in the run.

    Args:
        parts: what to train on, of finished datasets.
        encoder: what to pretrain.
        config: what decides the weights, apart from that.
        options: where and how to run.

    Returns:
        The last accuracies; empty without a validation split. It is that of the first dataset.

    Raises:
        UserError: if it cannot be done as asked.
        DatasetError: if there is no dataset.
    """
    _refuse_several_processes()
    device = choose_device(options.device)
    stream = SampleStream(parts, "train", config)
    _check_comparable(stream)
    run_config = _run_config(parts, encoder, config, stream)
    state = _prepare(run_config, options, device)
    numbers = range(state.step, config.steps)
    loader = load_batches(AlignedBatches(stream), parts, options.workers, device, numbers)
    with (
        _Log(options.run, config.steps, state.step, options.resume) as log,
        logging_redirect_tqdm(),
    ):

        def checkpoint() -> list[PairAccuracy]:
            found = score_held_out(state.ranker, parts[0].dataset, device)
            log.accuracies(state.step, found.accuracies)
            write_scores(options.run, state.step, found)
            write_plot(options.run, found.streams)
            save(options.run, run_config, state)
            return found.accuracies

        accuracies = _take_steps(
            state, loader, config, log, options.run, options.validate_every, checkpoint
        )
        return accuracies if accuracies is not None else checkpoint()


def _take_steps(
    state: PretrainState,
    loader: DataLoader,
    config: PretrainConfig,
    log: "_Log",
    run: Path,
    pause_every: int,
    checkpoint: Callable[[], list[PairAccuracy]],
) -> list[PairAccuracy] | None:
    """Take all remaining steps; what the last checkpoint gave, None where no step was left."""
    device = next(state.ranker.parameters()).device
    since_row, skipped, found = list[Tensor](), 0, None
    for batch in loader:
        rate = learning_rate(config, state.step)
        since_row.append(pretraining_step(state, batch.to(device), config))
        skipped += len(batch.skipped)
        is_pause = state.step % pause_every == 0 or state.step == config.steps
        if is_pause or state.step % LOG_EVERY_STEPS == 0:
            # Read the losses only here: each reading waits for the GPU.
            loss, norm = torch.stack(since_row).mean(0).tolist()
            check_finite(loss, norm, state.step, run)
            log.step(state.step, loss, rate, skipped)
            since_row.clear()
            skipped = 0
        if is_pause:
            found = checkpoint()
    return found


class _Log(Curves):
    """The curves and progress of a pretraining."""

    columns = ("loss", "learning_rate", "skipped", "seconds", "accuracy")

    def step(self, step: int, loss: float, rate: float, skipped: int) -> None:
        """Add the mean loss since the last row, and how many samples were skipped since."""
        values = {"loss": loss, "learning_rate": rate, "skipped": skipped}
        self.steps_taken("pretraining", step, values, f"loss {loss:.5f}")

    def accuracies(self, step: int, found: Sequence[PairAccuracy]) -> None:
        """Add the accuracy of CRFs that are apart to log.csv, and all of them to TensorBoard."""
        self.paused()
        values = {(x.pairs, x.frame_types): x.accuracy for x in found}
        if _SUMMARY not in values:
            return
        board = {f"pretraining/{_tag(*key)}": value for key, value in values.items()}
        self.row(step, {"accuracy": values[_SUMMARY]}, board)
        logger.info("step %d  %s: %.4f", step, _SUMMARY[0], values[_SUMMARY])


def _tag(pairs: str, fed: str) -> str:
    """A curve's name for TensorBoard, which has letters and a few signs only."""
    return f"{pairs}/types_{fed}".replace(",", "").replace(" ", "_")


def _refuse_several_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "pretraining takes minutes and runs in one process: start it without torchrun"
        )


def _check_comparable(stream: SampleStream) -> None:
    """Refuse datasets whose streams have no CRF, CRFs of several codecs, or nothing beside them.

    Raises:
        UserError: if there is nothing to rank, or no one scale to rank it on.
    """
    codecs, has_several = set[str](), False
    for part in stream.parts:
        for shard in part.index.shards:
            columns = ["stream", "codec", "rate_mode"]
            rows = read_shard_table(part.shards.dataset, "streams", shard, StreamRow, columns)
            has_several |= any(rows.column("stream").to_pylist())
            has_crf = pc.equal(rows.column("rate_mode").cast("string"), "crf")
            codecs |= set(rows.filter(has_crf).column("codec").cast("string").to_pylist())
    if not codecs:
        raise UserError(
            "no stream has a constant rate factor, so that there is nothing to rank: synthesise "
            "with --recipe cavsr-continuous"
        )
    if not has_several:
        raise UserError(
            "samples have one LR stream each, so that a clip's CRFs cannot be ranked: synthesise "
            "with --recipe cavsr-continuous"
        )
    if len(codecs) > 1:
        raise UserError(
            f"the streams are of {', '.join(sorted(codecs))}, whose CRFs are different scales: "
            "take datasets of one codec, such as those of --recipe cavsr-continuous"
        )


def _run_config(
    parts: Sequence[Part], encoder: EncoderConfig, config: PretrainConfig, stream: SampleStream
) -> PretrainRun:
    return PretrainRun(encoder=encoder, training=config, data=trained_on(parts, stream))


def _prepare(config: PretrainRun, options: PretrainOptions, device: torch.device) -> PretrainState:
    """A fresh state, or the one to go on from."""
    state = new_state(config, device)
    if options.resume:
        check_same(read_run(options.run), config)
        restore(options.run, state)
    else:
        refuse_used(options.run, STATE_NAME)
    make_folder(options.run)
    return state


def encoder_of(name: str) -> EncoderConfig:
    """The encoder of a named configuration, or of a configuration's file.

    Raises:
        UserError: if there is none.
    """
    config = choose_config(name, WITH_ENCODER)
    if not isinstance(config, CavsrConfig):
        raise UserError(
            f"--config {name} has no compression encoder: choose one of {', '.join(WITH_ENCODER)}"
        )
    return config.encoder


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def _above_zero(text: str) -> float:
    number = _number(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what it leaves out comes from `PretrainConfig` and `PretrainOptions`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain",
        description="Pretrain the compression encoder: rank frames by CRF and by frame type.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_stream_options(parser)
    add = parser.add_argument
    add("--config", default="xs", help=f"whose encoder: {', '.join(WITH_ENCODER)}, or a TOML file")
    add("--run", type=Path, help="folder for weights, log, scores and plot")
    add("--steps", type=at_least(1), help="optimizer steps")
    add("--learning-rate", type=_above_zero, help="the highest")
    add("--weight-decay", type=_number, help="of Adam")
    add("--margin", type=_above_zero, help="difference of scores that costs nothing any more")
    add("--margin-per-crf", type=_above_zero, help="the same for each step of CRF, if less")
    add("--within-weight", type=_number, help="of pairs of CRFs of one clip")
    add("--across-weight", type=_number, help="of pairs of CRFs of two clips")
    add("--types-weight", type=_number, help="of pairs of types of one clip")
    add("--device", choices=["auto", "cpu", "cuda"], help="where to train")
    add("--workers", type=at_least(0), help="processes that read the dataset")
    add("--validate-every", type=at_least(1), help="steps between scorings and checkpoints")
    add("--resume", action="store_true", help="go on from the run's checkpoint")
    options = PretrainOptions()
    parser.set_defaults(**PretrainConfig().model_dump(), **vars(options))
    return parser.parse_args(arguments)


def _run(given: argparse.Namespace) -> None:
    config = PretrainConfig(**{name: getattr(given, name) for name in PretrainConfig.model_fields})
    names = [field.name for field in dataclasses.fields(PretrainOptions)]
    options = PretrainOptions(**{name: getattr(given, name) for name in names})
    found = pretrain(stream_parts(given), encoder_of(given.config), config, options)
    logger.info("\n%s\n\n%s", accuracy_table(found), where_to_look(options.run))


def where_to_look(run: Path) -> str:
    """The files of a run and what each is for."""
    return "\n".join(
        [
            f"weights   {run / WEIGHTS_NAME}  (training.train --encoder {run})",
            f"scores    {run / SCORES_NAME}, drawn in {run / PLOT_NAME}",
            f"curves    {run / LOG_NAME}, or: tensorboard --logdir {run / TENSORBOARD_NAME}",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 if interrupted.
    """
    given = parse_arguments(arguments)
    return run_command(lambda: _run(given))


if __name__ == "__main__":
    raise SystemExit(main())
