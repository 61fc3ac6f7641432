"""Export a dataset as folders of PNG frames: `python -m pipelines.export DATASET --output FOLDER`.

Interrupt it when you like: the same command goes on where it stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import EXIT_FINDINGS, EXIT_OK, add_workers, run_command
from pipelines.export.run import Report, export
from pipelines.export.tree import DEFAULT_WINDOWS, MvUnits, Settings, TreeName
from schemas.source import SPLITS, TRAIN
from schemas.store import place_argument
from schemas.wording import counted

_BYTES_PER_MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command("export", lambda: _run(options), goes_on=True)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    settings, report = export(options)
    for shard, details in report.damaged.items():
        others = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        sys.stderr.write(f"pipelines.export: {shard} is damaged: {details[0]}{others}\n")
    sys.stdout.write(_describe(options.output, settings, report, time.monotonic() - started))
    return EXIT_FINDINGS if report.damaged else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.export",
        description="Export a dataset as folders of PNG frames, for training code that reads "
        "those. Interrupted, the same command goes on where it stopped.",
        epilog="What lies where, and which loader reads it: the docstring of "
        "pipelines/export/tree.py. Exit status: 0, 1 if something is damaged, 2 for a mistake.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "dataset", type=place_argument, metavar="DATASET", help="a dataset: a folder or a URL"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the folders go: new, empty, or an export of the same that is to go on",
    )
    parser.add_argument(
        "--layout",
        choices=[name.value for name in TreeName],
        default=TreeName.BASICSR.value,
        help="basicsr: pairs of pictures and REDS-like clips; cavsr: GT, BD, BD_<crf> and meta, as "
        "CAVSR's release tests; cavsr-vimeo: in septuplets, as it trains; default basicsr",
    )
    parser.add_argument(
        "--split", default=TRAIN, metavar="NAME", help=f"{' or '.join(SPLITS)}; default {TRAIN}"
    )
    parser.add_argument(
        "--stream",
        action="append",
        default=[],
        metavar="NAME",
        help="an LR stream to export; repeatable, default: all",
    )
    parser.add_argument(
        "--mv-units",
        choices=[units.value for units in MvUnits],
        help="of src - dst in CAVSR's metadata. official: quarter pixels and scale 4, exact after "
        "the loader's division; pixels: whole pixels and scale 1; default official",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="frames of a training window, for the list that REDSRecurrentDataset needs; default "
        f"{DEFAULT_WINDOWS[TreeName.BASICSR]} for basicsr, {DEFAULT_WINDOWS[TreeName.CAVSR]} for "
        "cavsr",
    )
    add_workers(parser)
    return parser


def _describe(output: Path, settings: Settings, report: Report, seconds: float) -> str:
    left_out = [f"{count} {reason}" for reason, count in sorted(report.left_out.items())]
    missing = counted(report.missing, "sample")
    damaged = f"{counted(len(report.damaged), 'shard')}, {missing} missing"
    lines = [
        f"Done: {counted(report.samples, 'sample')}, {counted(report.frames, 'frame')} in "
        f"{counted(report.files, 'file')}, "
        f"{report.bytes / _BYTES_PER_MIB:.1f} MiB, {seconds:.1f} s",
        f"  layout    {settings.layout}, split {settings.split}",
        f"  streams   {', '.join(f'{s} in {folder}' for s, folder in settings.folders.items())}",
        f"  left out  {', '.join(left_out) or 'nothing'}",
        f"  damaged   {damaged if report.damaged else 'nothing'}",
        f"  output    {output}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
