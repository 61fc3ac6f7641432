"""Whether a dataset is what its records say: `python -m pipelines.verify DATASET`.

Three grades, each of which includes those before it. Structural: every file is there, whole, and
says the same as all others. Semantic: every stream is parsed again, and every record is compared
with its bitstream and its draw. Pixel: everything is decoded and made again.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.audit.report import check_json
from pipelines.command import (
    add_inputs,
    add_json,
    add_workers,
    check_has_pixels,
    check_workers,
    run_command,
)
from pipelines.errors import UserError
from pipelines.verify.run import Grade, Settings, verify
from schemas.store import place_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command("verify", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_json(options.json)
    check_has_pixels(options.dataset)
    report = verify(_settings(options))
    sys.stdout.write(report.describe())
    if options.json:
        report.write(options.json)
    return report.exit_status


def _settings(options: argparse.Namespace) -> Settings:
    if not 0 <= options.sample_rate <= 1:
        raise UserError(f"--sample-rate is {options.sample_rate:g}, and must be from 0 to 1")
    if options.input and options.grade != Grade.PIXEL:
        raise UserError("--input is for --grade pixel: the others need no sources")
    return Settings(
        root=options.dataset,
        grade=Grade(options.grade),
        sample_rate=options.sample_rate,
        inputs=options.input,
        num_workers=check_workers(options.workers),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.verify",
        description="Check a dataset: every byte, every record against its bitstream, every pixel.",
        epilog="Exit status: 0 if all is as it should be, 1 if something is not, 2 for a mistake.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "dataset", type=place_argument, metavar="DATASET", help="a dataset: a folder or a URL"
    )
    parser.add_argument(
        "--grade",
        choices=[grade.value for grade in Grade],
        default=Grade.SEMANTIC.value,
        help="structural: files, hashes, tars, tables; semantic: also each stream parsed again, "
        "against its record and its draw; pixel: also decoded and made again; default semantic",
    )
    parser.add_argument(
        "--sample-rate",
        type=float,
        default=1,
        metavar="SHARE",
        help="share of the samples for the semantic and the pixel grade, 0 to 1, the same ones "
        "every time; default 1",
    )
    add_inputs(parser, "where to look for sources that are not where they were (pixel grade)")
    add_json(parser)
    add_workers(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
