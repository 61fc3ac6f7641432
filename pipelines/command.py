"""What all commands have in common: exit statuses, messages, options."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pipelines.beam_log import is_interruption, store_error
from pipelines.errors import UserError
from pipelines.pool import available_cores
from schemas.manifest import DatasetError
from schemas.recipe import RecipeError
from schemas.record import SchemaVersionError
from schemas.shard import ShardError
from schemas.store import StoreError

EXIT_OK, EXIT_FINDINGS, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130
_TOLD = (UserError, RecipeError, DatasetError, SchemaVersionError, ShardError, StoreError)


def run_command(name: str, work: Callable[[], int], *, goes_on: bool = False) -> int:
    """Run a command; mistakes, damaged datasets, failing stores and Ctrl-C become one line each.

    Args:
        name: such as verify.
        work: does it, and returns the exit status.
        goes_on: whether the same command goes on where it was interrupted.

    Returns:
        The exit status.
    """
    try:
        return work()
    except _TOLD as error:
        told, status = str(error), EXIT_USER_ERROR
    except (KeyboardInterrupt, RuntimeError) as error:
        if is_interruption(error):
            told = "interrupted" + ("; the same command goes on from here" if goes_on else "")
            status = EXIT_INTERRUPTED
        elif failure := store_error(error):
            told, status = str(failure), EXIT_USER_ERROR
        else:
            raise
    sys.stderr.write(f"pipelines.{name}: {told}\n")
    return status


def add_workers(parser: argparse.ArgumentParser, scope: str = "") -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help=f"worker processes{scope}; default: all cores",
    )


def check_workers(number: int) -> int:
    """The number, if it is one of workers.

    Raises:
        UserError: if it is not.
    """
    if number < 1:
        raise UserError(f"--workers is {number}, and must be 1 or more")
    return number


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")


def add_inputs(parser: argparse.ArgumentParser, purpose: str, *, required: bool = False) -> None:
    """Add --input, where to look for the sources of a dataset."""
    parser.add_argument(
        "--input",
        action="append",
        default=None if required else [],
        required=required,
        metavar="PATH",
        help=f"{purpose}; folder, file or glob, repeatable. They are told by content, whatever "
        "they are called",
    )
