"""Make a published dataset again: `python -m pipelines.materialize PUBLISHED --input SOURCES
--output DATASET`.

Sources are found by content, wherever they lie. Interrupted, the same command goes on where it
stopped. In the end every file is compared with what was published.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.audit.report import EXIT_INTERRUPTED, EXIT_USER_ERROR
from pipelines.beam_log import is_interruption
from pipelines.errors import UserError
from pipelines.materialize.run import Options, materialize
from pipelines.options import parse_with_beam
from pipelines.pool import available_cores
from schemas.manifest import DatasetError
from schemas.store import StoreError, place_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    logging.basicConfig(level=logging.WARNING)
    try:
        options = _parse(arguments)
        report = materialize(options)
        if options.json:
            report.write(options.json)
    except (UserError, DatasetError, StoreError) as error:
        sys.stderr.write(f"pipelines.materialize: {error}\n")
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interruption(error):
            raise
        sys.stderr.write("pipelines.materialize: interrupted; the same command goes on from here\n")
        return EXIT_INTERRUPTED
    sys.stdout.write(report.describe())
    return report.exit_status


def _parse(arguments: Sequence[str] | None) -> Options:
    ours, beam = parse_with_beam(_parser(), arguments)
    if ours.workers < 1:
        raise UserError(f"--workers is {ours.workers}, and must be 1 or more")
    return Options(
        published=ours.published,
        inputs=ours.input,
        output=ours.output.absolute(),
        allow_missing=ours.allow_missing,
        other_libraries=ours.other_libraries,
        json=ours.json,
        num_workers=ours.workers,
        beam=beam,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.materialize",
        description="Make a published dataset again from its sources, and prove that it is the "
        "same. Interrupted, the same command goes on where it stopped.",
        epilog="Other options go to Beam and its runner, such as --runner=DirectRunner. Exit "
        "status: 0 if it is the same, 1 if not, 2 for a mistake.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "published", type=place_argument, metavar="PUBLISHED", help="what pipelines.publish wrote"
    )
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="PATH",
        help="where the sources lie; folder, file or glob, repeatable. They are told by content, "
        "whatever they are called",
    )
    parser.add_argument(
        "--output",
        type=place_argument,
        required=True,
        metavar="DATASET",
        help="where the dataset goes",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="make what can be made of the sources that are there",
    )
    parser.add_argument(
        "--other-libraries",
        action="store_true",
        help="try with other versions of libraries and encoders than it was made with",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        metavar="N",
        help="worker processes per machine; default: all cores",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
