"""Which run a folder belongs to, so that none goes on with the work of another."""

import os
import shutil
from collections.abc import Sequence, Set
from dataclasses import asdict

from pydantic import ValidationError

from pipelines.corpus import Entry, SourceRule
from pipelines.errors import UserError
from pipelines.job import Job
from pipelines.layout import Layout, publish_bytes
from pipelines.licences import ANY_LICENCE, LicencePolicy
from pipelines.store import remove, remove_tree
from schemas.manifest import Environment, sha256_json
from schemas.record import SCHEMA_VERSION, Record, SchemaVersionError, check_schema_version
from schemas.store import Place
from schemas.wording import counted


class RunIdentity(Record):
    """What a dataset is being made from. Another value of any field is another dataset."""

    schema_version: str = SCHEMA_VERSION
    """of what is written"""
    recipe_name: str
    """the recipe"""
    recipe_sha256: str
    """of the resolved recipe"""
    seed: int
    """the dataset's seed"""
    inputs_sha256: str
    """of the names and sizes of all input files; of a published manifest, if there is one"""
    source_list_sha256: str
    """of the source list; empty if a published manifest decides"""
    licences: LicencePolicy = ANY_LICENCE
    """which licences it may hold"""
    environment: Environment
    """libraries and encoders"""
    code_sha256: str
    """of this package's code that makes datasets"""


_WORDS = {
    "recipe_sha256": "another recipe",
    "seed": "another seed",
    "inputs_sha256": "other inputs",
    "source_list_sha256": "another source list",
    "licences": "other --licences or --separate-licences",
    "environment": "other library or encoder versions",
    "code_sha256": "another version of this package's code",
}


def claim_output(
    job: Job,
    entries: Sequence[Entry],
    rules: Sequence[SourceRule],
    policy: LicencePolicy = ANY_LICENCE,
) -> None:
    """Take the output folder for this run, or find that it is this run's already.

    Raises:
        UserError: if it cannot be written, or holds something else.
    """
    inputs_sha256 = sha256_json(
        [(entry.uri, [] if entry.refused else _sizes(entry)) for entry in entries]
    )
    source_list_sha256 = sha256_json([asdict(rule) for rule in rules])
    _claim(job, inputs_sha256, source_list_sha256, policy)


def claim_for_manifest(job: Job, manifest_sha256: str) -> None:
    """Take the output folder for the dataset that a manifest describes, wherever its sources lie.

    Raises:
        UserError: as `claim_output`.
    """
    _claim(job, manifest_sha256, "", ANY_LICENCE)


def _claim(job: Job, inputs_sha256: str, source_list_sha256: str, policy: LicencePolicy) -> None:
    wanted = RunIdentity(
        recipe_name=job.recipe.name,
        recipe_sha256=job.recipe.sha256,
        seed=job.seed,
        inputs_sha256=inputs_sha256,
        source_list_sha256=source_list_sha256,
        licences=policy,
        environment=job.environment,
        code_sha256=job.code_sha256,
    )
    root, file = job.layout.root, job.layout.run
    try:
        root.mkdir(parents=True, exist_ok=True)
        if file.is_file() and job.layout.has_shards:
            _check_same(root, _read(file), wanted)
        elif file.is_file():
            _forget_plan_of_another(job.layout, wanted)
        elif _holds_anything(job.layout):
            raise UserError(
                f"{root} is not empty and holds no run of this command: "
                "choose another --output, or empty the folder"
            )
        shutil.rmtree(job.layout.staging, ignore_errors=True)  # of runs that were killed
        publish_bytes(wanted.model_dump_json(indent=1).encode(), file, job.layout)
    except OSError as error:
        raise UserError(
            f"cannot write to {root}: {error.strerror}; choose another --output"
        ) from error


def _forget_plan_of_another(layout: Layout, wanted: RunIdentity) -> None:
    """Nothing was made yet, so a plan holds nobody back: plans are there to be changed.

    The record of the run goes last, by being replaced: until then it says whose all of this is.
    """
    if _read(layout.run) != wanted:
        remove_tree(layout.plan.parent)
        for path in layout.logs.iterdir():
            if path.is_dir():
                remove_tree(path)
            elif path != layout.run:
                remove(path)


def _holds_anything(layout: Layout) -> bool:
    """Whether there is more in the folder than what a run leaves that was killed at once."""
    ours = (layout.staging, layout.lock, layout.logs)
    others = any(path not in ours for path in layout.root.iterdir())
    return others or (layout.logs.exists() and any(layout.logs.iterdir()))


def _sizes(entry: Entry) -> list[int]:
    if entry.sizes:
        return list(entry.sizes)
    return [os.path.getsize(path) if os.path.isfile(path) else 0 for path in entry.paths]


def _read(file: Place) -> RunIdentity:
    text = file.read_bytes()
    try:
        return RunIdentity.model_validate_json(text)
    except ValidationError as error:
        raise UserError(
            f"{file} is not readable ({counted(error.error_count(), 'problem')}): another release "
            "wrote it; choose another --output, or delete the folder"
        ) from error


def _check_same(root: Place, found: RunIdentity, wanted: RunIdentity) -> None:
    try:
        check_schema_version(found.schema_version, str(root))
    except SchemaVersionError as error:
        raise UserError(str(error)) from error
    # Another recipe may use other encoders; of those that both use, the builds count.
    shared = found.environment.encoders.keys() & wanted.environment.encoders.keys()
    found, wanted = (_with_encoders(identity, shared) for identity in (found, wanted))
    differing = [
        words for name, words in _WORDS.items() if getattr(found, name) != getattr(wanted, name)
    ]
    if differing:
        raise UserError(
            f"{root} holds a dataset (recipe {found.recipe_name}, seed {found.seed}) made with "
            f"{' and '.join(differing)}: choose another --output, or delete the folder"
        )


def _with_encoders(identity: RunIdentity, names: Set[str]) -> RunIdentity:
    encoders = {name: identity.environment.encoders[name] for name in sorted(names)}
    environment = identity.environment.model_copy(update={"encoders": encoders})
    return identity.model_copy(update={"environment": environment})
