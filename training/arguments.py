"""What the commands about a stream share: the options that decide its batches, and errors."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from schemas.interruption import interruptions_kept
from schemas.manifest import DatasetError
from schemas.record import SchemaVersionError
from schemas.store import StoreError, place_argument
from training.batches import Part
from training.config import StreamSettings, UserError
from training.parts import match_parts

_TOLD_ERRORS = (UserError, DatasetError, SchemaVersionError, StoreError)
"""What becomes one line and exit status 2: their messages are complete."""

logger = logging.getLogger(__name__)


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Add what `stream_parts` takes, and an option for each field of `StreamSettings`."""
    defaults = StreamSettings()
    add = parser.add_argument
    add(
        "datasets",
        nargs="+",
        type=place_argument,
        metavar="DATASET",
        help="datasets, folders or URLs; where they are several, the first is that of validation",
    )
    add(
        "--ratio",
        nargs="+",
        type=at_least(1),
        default=[],
        metavar="N",
        help="batches of each dataset, to those of the others; default: equally many",
    )
    add(
        "--view",
        action="append",
        type=Path,
        default=[],
        metavar="PARQUET",
        help="what to train on, of the dataset that it was written of; default: the whole split",
    )
    add("--frames", type=at_least(1), default=defaults.frames, help="frames of a window")
    add("--crop", type=at_least(1), default=defaults.crop, help="side of the crop, LR pixels")
    add("--batch-size", type=at_least(1), default=defaults.batch_size, help="samples in a batch")
    add(
        "--mixed-shards",
        type=at_least(1),
        default=defaults.mixed_shards,
        help="shards whose samples are shuffled together",
    )
    add(
        "--uneven",
        choices=["drop", "pad"],
        default=defaults.uneven,
        help="batches that do not divide evenly among ranks: leave them out, or take some more",
    )
    add(
        "--damaged",
        choices=["refuse", "skip"],
        default=defaults.damaged,
        help="samples whose bytes are not those that were written: end, or take others",
    )
    add("--seed", type=int, default=defaults.seed, help="of order, crops and initial weights")


def stream_parts(given: argparse.Namespace) -> list[Part]:
    """What the options of `add_stream_options` say to train on.

    Raises:
        DatasetError: if a dataset is not there.
        UserError: if datasets, views and ratios do not fit together.
    """
    return match_parts(given.datasets, given.view, given.ratio)


def stream_settings(given: argparse.Namespace) -> StreamSettings:
    """The settings that the options of `add_stream_options` say."""
    return StreamSettings(**{name: getattr(given, name) for name in StreamSettings.model_fields})


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number with a lower bound."""

    def count(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is less than {least}")
        return number

    return count


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, but for those that say nothing, or that the text tells already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default in (None, []) or isinstance(action.default, bool)
        if says_nothing or "default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def run_command(work: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Run a command; mistakes and damaged datasets become one line each.

    Args:
        work: does it.
        interrupted: what to say at Ctrl-C.

    Returns:
        The exit status: 0, 2 for a mistake, 130 if interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with interruptions_kept():
            work()
    except _TOLD_ERRORS as error:
        logger.error("error: %s", _message(error))
        return 2
    except KeyboardInterrupt:
        logger.error(interrupted)
        return 130
    return 0


def _message(error: Exception) -> str:
    text = str(error)
    if text.startswith("Caught "):  # in a loader's process: torch puts a traceback before it
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text
