"""Which run a folder belongs to, so that none goes on with the work of another."""

import shutil
from collections.abc import Sequence, Set
from dataclasses import asdict

from pydantic import ValidationError

from pipelines.corpus import Entry, SourceRule
from pipelines.errors import UserError
from pipelines.generations import num_generations
from pipelines.job import Job
from pipelines.layout import Layout, publish_bytes
from pipelines.licences import ANY_LICENCE, LicencePolicy
from pipelines.probing import file_sizes, forget_probed
from pipelines.store import remove, remove_tree
from schemas.manifest import Environment, sha256_json
from schemas.record import SCHEMA_VERSION, Record, SchemaVersionError, check_schema_version
from schemas.store import Place
from schemas.wording import counted


class GenerationInputs(Record):
    """What one generation of sources was found in."""

    generation: int = 0
    """its number"""
    inputs_sha256: str
    """of the names and sizes of all input files; of a published manifest, if there is one"""
    source_list_sha256: str
    """of the source list; empty if a published manifest decides"""

    def is_like(self, other: "GenerationInputs") -> bool:
        """Whether both are of the same inputs and source list."""
        return self == other.model_copy(update={"generation": self.generation})


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
    generations: list[GenerationInputs]
    """in order; the last one may not be committed yet, see `pipelines.generations`"""
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
    *,
    adds: bool = False,
) -> int:
    """Take the output folder for this run, or find that it is this run's already.

    Args:
        job: the run.
        entries: its inputs.
        rules: its source list.
        policy: which licences it may hold.
        adds: whether other inputs than before are a new generation of sources.

    Returns:
        The generation that the inputs are of.

    Raises:
        UserError: if it cannot be written, holds something else, or nothing to add to.
    """
    given = GenerationInputs(
        inputs_sha256=sha256_json([(entry.uri, file_sizes(entry)) for entry in entries]),
        source_list_sha256=sha256_json([asdict(rule) for rule in rules]),
    )
    return _claim(job, given, policy, adds=adds)


def claim_for_manifest(job: Job, manifest_sha256: str) -> None:
    """Take the output folder for the dataset that a manifest describes, wherever its sources lie.

    Raises:
        UserError: as `claim_output`.
    """
    given = GenerationInputs(inputs_sha256=manifest_sha256, source_list_sha256="")
    _claim(job, given, ANY_LICENCE, adds=False)


def _claim(job: Job, given: GenerationInputs, policy: LicencePolicy, *, adds: bool) -> int:
    wanted = RunIdentity(
        recipe_name=job.recipe.name,
        recipe_sha256=job.recipe.sha256,
        seed=job.seed,
        generations=[given],
        licences=policy,
        environment=job.environment,
        code_sha256=job.code_sha256,
    )
    layout = job.layout
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        if layout.run.is_file():
            wanted = _go_on(layout, _read(layout.run), wanted, adds=adds)
        elif _holds_anything(layout):
            raise UserError(
                f"{layout.root} is not empty and holds no run of this command: "
                "choose another --output, or empty the folder"
            )
        elif adds:
            raise _nothing_to_add_to(layout)
        shutil.rmtree(layout.staging, ignore_errors=True)  # of runs that were killed
        publish_bytes(wanted.model_dump_json(indent=1).encode(), layout.run, layout)
    except OSError as error:
        raise UserError(
            f"cannot write to {layout.root}: {error.strerror}; choose another --output"
        ) from error
    return next(one.generation for one in wanted.generations if one.is_like(given))


def _go_on(layout: Layout, found: RunIdentity, wanted: RunIdentity, *, adds: bool) -> RunIdentity:
    """What is written down of a run on a folder that holds one already.

    Of the generations that are written down already, those that are not committed are forgotten
    with what was probed for them, unless it is theirs that this run goes on with.
    """
    (given,) = wanted.generations
    is_free = not adds and not layout.has_shards  # plans are there to be changed
    differing = _differing(found, wanted)
    if is_free and differing:
        return _forget(layout, wanted)
    num_committed = num_generations(layout)
    if adds and not num_committed:
        raise _nothing_to_add_to(layout)
    committed = [one for one in found.generations if one.generation < max(num_committed, 1)]
    is_known = any(one.is_like(given) for one in committed)
    if not is_known and is_free:
        return _forget(layout, wanted)
    if not is_known and not adds:
        differing |= _differing_inputs(committed, given)
    if differing:
        raise _refusal(layout, found, differing)
    added = [] if is_known else [given.model_copy(update={"generation": num_committed})]
    for one in found.generations:
        if one not in [*committed, *added]:
            forget_probed(layout, one.generation)
    return wanted.model_copy(update={"generations": [*committed, *added]})


def _forget(layout: Layout, wanted: RunIdentity) -> RunIdentity:
    """Remove the plan of another run, of which nothing was made.

    The record of the run goes last, by being replaced: until then it says whose all of this is.
    """
    remove_tree(layout.plan.parent)
    for path in layout.logs.iterdir():
        if path.is_dir():
            remove_tree(path)
        elif path != layout.run:
            remove(path)
    return wanted


def _nothing_to_add_to(layout: Layout) -> UserError:
    return UserError(
        f"{layout.root} holds no dataset, or no plan of one, that sources could be added to: "
        "check --output, or leave out --add-sources"
    )


def _holds_anything(layout: Layout) -> bool:
    """Whether there is more in the folder than what a run leaves that was killed at once."""
    ours = (layout.staging, layout.shared_lock, layout.logs)
    others = any(path not in ours for path in layout.root.iterdir())
    return others or (layout.logs.exists() and any(layout.logs.iterdir()))


def _read(file: Place) -> RunIdentity:
    text = file.read_bytes()
    try:
        found = RunIdentity.model_validate_json(text)
        check_schema_version(found.schema_version, str(file.parent.parent))
    except ValidationError as error:
        raise UserError(
            f"{file} is not readable ({counted(error.error_count(), 'problem')}): another release "
            "wrote it; choose another --output, or delete the folder"
        ) from error
    except SchemaVersionError as error:
        raise UserError(str(error)) from error
    return found


def _differing(found: RunIdentity, wanted: RunIdentity) -> set[str]:
    """What is not the same of what all generations share."""
    # Another recipe may use other encoders; of those that both use, the builds count.
    shared = found.environment.encoders.keys() & wanted.environment.encoders.keys()
    found, wanted = (_with_encoders(identity, shared) for identity in (found, wanted))
    names = _WORDS.keys() & RunIdentity.model_fields.keys()
    return {name for name in names if getattr(found, name) != getattr(wanted, name)}


def _differing_inputs(committed: Sequence[GenerationInputs], given: GenerationInputs) -> set[str]:
    """What of the inputs is of no generation."""
    alike = [one for one in committed if one.inputs_sha256 == given.inputs_sha256]
    lists = {one.source_list_sha256 for one in alike or committed}
    return {
        *([] if alike else ["inputs_sha256"]),
        *([] if given.source_list_sha256 in lists else ["source_list_sha256"]),
    }


def _refusal(layout: Layout, found: RunIdentity, differing: Set[str]) -> UserError:
    words = [words for name, words in _WORDS.items() if name in differing]
    can_add = {"inputs_sha256"} <= differing <= {"inputs_sha256", "source_list_sha256"}
    cure = "add them with --add-sources, " if can_add else ""
    return UserError(
        f"{layout.root} holds a dataset (recipe {found.recipe_name}, seed {found.seed}) made with "
        f"{' and '.join(words)}: {cure}choose another --output, or delete the folder"
    )


def _with_encoders(identity: RunIdentity, names: Set[str]) -> RunIdentity:
    encoders = {name: identity.environment.encoders[name] for name in sorted(names)}
    environment = identity.environment.model_copy(update={"encoders": encoders})
    return identity.model_copy(update={"environment": environment})
