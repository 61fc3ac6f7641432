"""Make a published dataset again: `python -m pipelines.materialize PUBLISHED --input SOURCES
--output DATASET`.

Sources are found by content, wherever they lie. Interrupted, the same command goes on where it
stopped. In the end every file is compared with what was published.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pipelines.command import (
    add_inputs,
    add_json,
    add_retry,
    add_workers,
    check_workers,
    run_command,
    writing_to,
)
from pipelines.materialize.run import Options, materialize
from pipelines.options import parse_with_beam
from schemas.store import absolute, place, place_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    logging.basicConfig(level=logging.WARNING)
    return run_command("materialize", lambda: _run(arguments), goes_on=True)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parse(arguments)
    with writing_to(options.output):
        report = materialize(options)
    sys.stdout.write(report.describe())
    if options.json:
        report.write(options.json)
    return report.exit_status


def _parse(arguments: Sequence[str] | None) -> Options:
    ours, beam = parse_with_beam(_parser(), arguments)
    return Options(
        published=ours.published,
        inputs=ours.input,
        output=place(absolute(str(ours.output))),
        allow_missing=ours.allow_missing,
        other_libraries=ours.other_libraries,
        retries=bool(ours.retry),
        json=ours.json,
        num_workers=check_workers(ours.workers),
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
    add_inputs(parser, "where the sources lie", required=True)
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
    add_retry(parser)
    add_json(parser)
    add_workers(parser, " per machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
