"""The command line: our options, and whatever belongs to Beam or to its runner."""

import argparse
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from pipelines.command import add_retry, add_workers, check_workers
from pipelines.engines import LOCAL_RUNNERS, choose_engine
from pipelines.errors import UserError
from pipelines.licences import LicencePolicy
from schemas.recipe_files import shipped_recipes
from schemas.store import is_url, lies_in, place

DEFAULT_RECIPE = "cavsr"
DEMO_OUTPUT = "build/demo/dataset"
_SEEDS = 2**63  # what a table stores
_S3_VARIABLES = {
    "s3_access_key_id": ["AWS_ACCESS_KEY_ID"],
    "s3_secret_access_key": ["AWS_SECRET_ACCESS_KEY"],
    "s3_session_token": ["AWS_SESSION_TOKEN"],
    "s3_endpoint_url": ["AWS_ENDPOINT_URL"],
    "s3_region_name": ["AWS_REGION", "AWS_DEFAULT_REGION"],
}


class Options(NamedTuple):
    """What the user asked for."""

    inputs: list[str]
    """folders, files and globs; empty for the demo corpus"""
    output: str
    recipe: str
    seed: int
    sources: str
    """path of the source list, empty for none"""
    licences: LicencePolicy
    num_workers: int
    follow_links: bool
    add_sources: bool
    """inputs that the dataset does not hold become its next generation"""
    plan_only: bool
    retries: bool
    """make shards again that lack samples which may be made now"""
    beam: PipelineOptions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.synthesize",
        description="Degrade images and videos with real codecs, into WebDataset shards.",
        epilog="Other options go to Beam and its runner, such as --runner=DirectRunner. "
        "--worker_timeout=SECONDS: how long workers may be silent before the run ends.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="PATH",
        help="folder, file or glob of images, videos and frame folders, also s3://BUCKET/PATH or "
        "gs://BUCKET/PATH; repeatable. "
        "Default: the demo corpus",
    )
    parser.add_argument(
        "--output",
        default="",
        metavar="FOLDER",
        help=f"where the dataset goes, also by URL; default with the demo corpus: {DEMO_OUTPUT}",
    )
    parser.add_argument(
        "--recipe",
        default=DEFAULT_RECIPE,
        help=f"{', '.join(shipped_recipes())}, or a TOML or YAML file; default {DEFAULT_RECIPE}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws; default 0")
    parser.add_argument(
        "--sources",
        default="",
        metavar="CSV",
        help="source list: pattern, and any of group, split, licence, attribution",
    )
    parser.add_argument(
        "--licences",
        metavar="LIST",
        help="leave out sources whose licence in the source list is none of these, such as "
        "CC0-1.0,CC-BY-[0-9]* (CC-BY-* would take NC, ND and SA, too); default: take all",
    )
    parser.add_argument(
        "--separate-licences", action="store_true", help="give each licence shards of its own"
    )
    add_workers(parser, " per machine")
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="take files outside of an input that links in it lead to: only for inputs you trust",
    )
    parser.add_argument(
        "--add-sources",
        action="store_true",
        help="add what is new in the inputs to the dataset in --output: a generation of shards of "
        "its own; shards, splits and groups that are there stay as they are",
    )
    add_retry(parser)
    parser.add_argument("--plan-only", action="store_true", help="say what would be made, and stop")
    return parser


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line.

    Raises:
        UserError: if an option is of no one, a value is impossible, or the output is missing.
    """
    ours, beam = parse_with_beam(_parser(), arguments)
    if ours.input and not ours.output:
        raise UserError("say where the dataset goes: --output FOLDER")
    if not 0 <= ours.seed < _SEEDS:
        raise UserError(f"--seed is {ours.seed}, and must be from 0 to {_SEEDS - 1}")
    return Options(
        inputs=ours.input,
        output=ours.output or DEMO_OUTPUT,
        recipe=ours.recipe,
        seed=ours.seed,
        sources=ours.sources,
        licences=_licences(ours.licences, ours.separate_licences),
        num_workers=check_workers(ours.workers),
        follow_links=ours.follow_links,
        add_sources=ours.add_sources,
        plan_only=ours.plan_only,
        retries=bool(ours.retry),
        beam=beam,
    )


def _licences(listed: str | None, separate: bool) -> LicencePolicy:
    allowed = tuple(sorted({name.strip() for name in (listed or "").split(",")} - {""}))
    if listed is not None and not allowed:
        raise UserError("--licences names none: give some, such as CC0-1.0,CC-BY-[0-9]*")
    return LicencePolicy(allowed=allowed, separate=separate)


def parse_with_beam(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, PipelineOptions]:
    """Parse a command's own options; the others are Beam's and its runner's.

    Raises:
        UserError: if an option is of no one, or the runner cannot be used.
    """
    ours, others = parser.parse_known_args(arguments)
    _check_others(others, parser)
    options = choose_engine(others)
    _export_store_options(options)
    return ours, options


def _export_store_options(options: PipelineOptions) -> None:
    """Put what Beam is told of S3 where pyarrow and worker processes find it, too."""
    told = options.view_as(S3Options).get_all_options(drop_default=True)
    for option, variables in _S3_VARIABLES.items():
        if told.get(option):
            os.environ.update(dict.fromkeys(variables, told[option]))


def check_apart(output: str, inputs: Sequence[str]) -> None:
    """Refuse an output that lies in an input.

    Raises:
        UserError: if it does.
    """
    for text in inputs:
        if _lies_in(output, text):
            raise UserError(
                f"--output {output} lies in the input {text!r}, which would find its own outcome "
                "the next time: choose a folder outside"
            )


def _lies_in(output: str, text: str) -> bool:
    if is_url(text):
        return lies_in(place(output), place(text))
    return os.path.isdir(text) and Path(output).is_relative_to(os.path.abspath(text))


def _check_others(others: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse what neither we nor Beam know; a runner of its own may know more."""
    known: Any = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(known)
    parsed, unknown = known.parse_known_args(others)
    own = [flag for action in parser._actions for flag in action.option_strings]
    for argument in unknown:
        flag = argument.split("=")[0]
        similar = difflib.get_close_matches(flag, own, n=1, cutoff=0.75)
        if similar or (parsed.runner or LOCAL_RUNNERS[0]) in LOCAL_RUNNERS:
            hint = f", did you mean {similar[0]}?" if similar else " (see --help)"
            if not flag.startswith("-"):
                hint = f", did you mean --input {argument}?"
            raise UserError(f"unknown option {argument!r}{hint}")
