"""What all commands have in common: exit statuses, messages, options."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.beam_log import file_failure, is_interruption, told_error
from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.pool import available_cores
from schemas.interruption import interruptions_kept
from schemas.manifest import DatasetError
from schemas.recipe import RecipeError
from schemas.record import SchemaVersionError, Status
from schemas.shard import ShardError
from schemas.store import Place, StoreError, absolute, lies_in, place

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
        with interruptions_kept():
            return work()
    except _TOLD as error:
        told, status = str(error), EXIT_USER_ERROR
    except (KeyboardInterrupt, RuntimeError) as error:
        if is_interruption(error):
            told = "interrupted" + ("; the same command goes on from here" if goes_on else "")
            status = EXIT_INTERRUPTED
        elif failure := told_error(error):
            told, status = str(failure), EXIT_USER_ERROR
        else:
            raise
    sys.stderr.write(f"pipelines.{name}: {told}\n")
    return status


@contextmanager
def writing_to(output: str | Place) -> Iterator[None]:
    """Tell a full or read-only disk as what it is, wherever in a run it showed.

    A file that the system names and that lies elsewhere, such as an input, is told by its name.

    Raises:
        UserError: in the place of what was raised then.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if (failure := file_failure(error)) is None:
            raise
        where = Layout(place(absolute(str(output)))).local
        named = failure.filename
        is_other = isinstance(named, str) and not lies_in(Path(named), where)
        problem = named if is_other else f"cannot write to {where}"
        raise UserError(
            f"{problem}: {failure.strerror}; once that is mended, the same command goes on from "
            "here"
        ) from error


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


def check_has_pixels(root: Place) -> None:
    """Refuse a publication, for commands that need samples.

    Raises:
        UserError: if it is one.
    """
    layout = Layout(root)
    if layout.manifest.is_file() and not layout.has_shards:
        raise UserError(
            f"{root} is published without its pixels; make the dataset first: "
            f"python -m pipelines.materialize {root} --input SOURCES --output DATASET"
        )


def add_retry(parser: argparse.ArgumentParser) -> None:
    """Add --retry."""
    parser.add_argument(
        "--retry",
        choices=[Status.FAILED_RETRYABLE.value],
        help="make the shards again that lack samples for a reason which may have passed, such as "
        "a source that was not at hand; all others stay as they are",
    )


RETRY = f"--retry {Status.FAILED_RETRYABLE}"
"""What to tell whoever lacks such samples."""


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
