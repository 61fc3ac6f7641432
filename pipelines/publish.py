"""Publish a dataset without its pixels: `python -m pipelines.publish DATASET --output FOLDER`.

Recipe, plan, tables, hashes and documents are left: `pipelines.materialize` makes the same dataset
of them again, from the sources.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.audit.files import (
    changed_files,
    changed_markers,
    check_names,
    check_outside,
    copy_file,
    described_files,
    published_paths,
)
from pipelines.command import EXIT_OK, add_workers, check_has_pixels, check_workers, run_command
from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.pool import WorkerPool, shared_pool
from pipelines.progress import watched
from schemas.store import Place, place_argument
from schemas.wording import counted

_BYTES_PER_MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command("publish", lambda: _run(options), goes_on=True)


def _run(options: argparse.Namespace) -> int:
    check_has_pixels(options.dataset)
    num_workers = check_workers(options.workers)
    sys.stdout.write(publish_dataset(options.dataset, options.output, num_workers))
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.publish",
        description="Write what is needed to make a dataset again from its sources: recipe, plan, "
        "tables, hashes and documents, no pixels.",
        epilog="Exit status: 0, or 2 for a mistake or a damaged dataset.",
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
        help="where it goes: new, empty, or a publication of the same dataset",
    )
    add_workers(parser)
    return parser


def publish_dataset(root: Place, output: Path, num_workers: int) -> str:
    """Copy all but samples and logs; returns what to say.

    Raises:
        UserError: if the dataset is not what its manifest says, or the output is taken.
        DatasetError: if a name in the manifest leads out of the dataset.
    """
    dataset = open_dataset(root)
    check_outside(output, root)
    check_names(*dataset)
    _check_whole(dataset, shared_pool(num_workers))
    paths = published_paths(*dataset)
    _check_output(root, output, paths)
    target = Layout(output)
    try:
        for path in watched(paths, len(paths), "publishing", "file"):
            copy_file(root / path, output / path, target)
        shutil.rmtree(target.staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}") from error
    before = sum(file.size for file in described_files(dataset.manifest))
    after = sum((output / path).stat().st_size for path in paths)
    return (
        f"Published {counted(len(paths), 'file')}, {after / _BYTES_PER_MIB:.2f} MiB of "
        f"{before / _BYTES_PER_MIB:.2f} MiB\n"
        f"  output    {output}\n"
        f"  remake    python -m pipelines.materialize {output} --input SOURCES --output DATASET\n"
    )


def _check_output(root: Place, output: Path, paths: Sequence[str]) -> None:
    """Only what an earlier, perhaps interrupted, publication of the same left may be there."""
    staging = Layout(output).staging
    found = output.rglob("*") if output.is_dir() else []
    for file in found:
        path = file.relative_to(output).as_posix()
        if file.is_dir() or file.is_relative_to(staging):
            continue
        if path not in paths or file.read_bytes() != (root / path).read_bytes():
            raise UserError(
                f"{output} is not empty and holds no publication of this dataset ({path}): "
                "choose another --output, or empty the folder"
            )


def _check_whole(dataset: Dataset, pool: WorkerPool) -> None:
    root, manifest = dataset.layout.root, dataset.manifest
    findings = changed_files(root, described_files(manifest), pool)
    if findings := [*findings, *changed_markers(dataset.layout, manifest)]:
        others = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise UserError(
            f"{root} is not what its manifest says: {findings[0].place}: "
            f"{findings[0].detail}{others}; see python -m pipelines.verify {root}"
        )


if __name__ == "__main__":
    sys.exit(main())
