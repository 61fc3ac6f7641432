"""Which samples of two datasets differ, and by what: `python -m pipelines.diff A B`.

Manifests and tables are read, and nothing else, so that what is published without pixels can be
compared, too. Exit status: 0 if all samples are the same, 1 if not, 2 for a user's mistake.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.audit.fields import differing_fields
from pipelines.audit.report import check_json, write_json
from pipelines.command import add_json, run_command
from pipelines.diff.explain import Explainer
from pipelines.diff.report import Comparison, Difference
from pipelines.diff.side import Side
from pipelines.errors import UserError
from pipelines.progress import watched
from schemas.manifest import DataFile, Shard
from schemas.store import place_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run_command("diff", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.limit < 0:
        raise UserError(f"--limit is {options.limit}, and must be 0 or more")
    check_json(options.json)
    comparison = compare_datasets(open_dataset(options.a), open_dataset(options.b))
    sys.stdout.write(comparison.describe(options.limit))
    if options.json:
        write_json(comparison, options.json)
    return comparison.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.diff",
        description="Say which samples of two datasets differ, and by what.",
        allow_abbrev=False,
    )
    parser.add_argument("a", type=place_argument, metavar="A", help="a dataset, or its publication")
    parser.add_argument("b", type=place_argument, metavar="B", help="another one")
    add_json(parser)
    parser.add_argument(
        "--limit", type=int, default=10, metavar="N", help="examples to print; default: 10"
    )
    return parser


def compare_datasets(a: Dataset, b: Dataset) -> Comparison:
    """Compare two datasets, sample by sample.

    Raises:
        DatasetError: if a table is missing or damaged.
    """
    skipped = _equal_shards(a, b)
    sides = Side(a, skipped), Side(b, skipped)
    num_skipped = sum(rows for rows in skipped.values())
    recipe = [str(found) for found in differing_fields(a.manifest.recipe, b.manifest.recipe)]
    libraries = _libraries(a, b)
    explainer = Explainer(*sides, recipe, libraries)
    pairs = dict(_pairs(*sides))
    unequal = [
        (key, other)
        for key, other in pairs.items()
        if sides[0].fingerprints[key] != sides[1].fingerprints[other]
    ]
    differences = [
        *(explainer.pair(*pair) for pair in watched(unequal, len(unequal), "comparing", "sample")),
        *(explainer.only(key, in_a=True) for key in sides[0].keys if key not in pairs),
        *_only_in_b(explainer, sides[1], pairs.values()),
    ]
    environments = (side.manifest.environment.encoders for side in (a, b))
    return Comparison(
        a=str(a.layout.root),
        b=str(b.layout.root),
        manifest_sha256=[a.manifest.sha256, b.manifest.sha256],
        recipe=recipe,
        seed=[a.manifest.seed, b.manifest.seed],
        environment=[*libraries, *(str(found) for found in differing_fields(*environments))],
        num_samples=[num_skipped + len(side.keys) for side in sides],
        num_equal=num_skipped + len(pairs) - len(unequal),
        differences=sorted(differences, key=lambda found: (found.key, found.side)),
    )


def _equal_shards(a: Dataset, b: Dataset) -> dict[str, int]:
    """Shards whose tables of samples and streams are the same to the byte, with their samples.

    The tables hold the checksum of every member and the hash of all decoded LR frames.
    """
    described = [
        {shard.shard: tuple(_fingerprint(side, shard)) for shard in side.manifest.shards}
        for side in (a, b)
    ]
    return {
        name: samples.rows
        for name, (samples, *_) in dict(described[0].items() & described[1].items()).items()
    }


def _fingerprint(side: Dataset, shard: Shard) -> Iterator[DataFile]:
    paths = [
        side.layout.relative(side.layout.table(name, shard.shard))
        for name in ("samples", "streams")
    ]
    return (file for path in paths for file in shard.files if file.path == path)


def _libraries(a: Dataset, b: Dataset) -> list[str]:
    libraries = (side.manifest.environment.libraries for side in (a, b))
    return [str(found) for found in differing_fields(*libraries)]


def _pairs(a: Side, b: Side) -> Iterator[tuple[str, str]]:
    """Samples that stand for each other: of equal key, or else of equal place."""
    common = a.fingerprints.keys() & b.fingerprints.keys()
    yield from ((key, key) for key in a.keys if key in common)
    by_place = defaultdict[tuple[object, ...], list[list[str]]](lambda: [[], []])
    for index, side in enumerate((a, b)):
        for key in side.keys:
            if key not in common:
                by_place[side.place(key)][index].append(key)
    for of_a, of_b in by_place.values():
        yield from zip(of_a, of_b, strict=False)  # the others are in one alone


def _only_in_b(explainer: Explainer, b: Side, paired: Iterable[str]) -> Iterator[Difference]:
    known = set(paired)
    return (explainer.only(key, in_a=False) for key in b.keys if key not in known)


if __name__ == "__main__":
    sys.exit(main())
