"""What a run produced. Written last: a dataset without a manifest is not finished."""

import hashlib
import json
from typing import Any

from schemas.record import SCHEMA_VERSION, Record, SchemaVersionError, check_schema_version
from schemas.store import Place

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 2**28
"""Larger files are refused before they are parsed; 100 000 shards take less than half."""
SHARD_TABLES = ("samples", "streams", "frames")
"""Tables with one Parquet file per shard, under `index/<table>/<shard>.parquet`."""


class DataFile(Record):
    """One file of the dataset."""

    path: str
    """relative to the dataset, with forward slashes"""
    size: int
    """bytes"""
    sha256: str
    """of the whole file"""
    rows: int
    """rows of a table, samples of a tar, 0 for a document"""


class Shard(Record):
    """One shard: the unit of work and of commit. Table `shards`, and each commit marker."""

    shard: str
    """stem of its files, such as train-000000"""
    split: str
    """train or validation"""
    generation: int = 0
    """0 for what was made first, 1 for what the first addition of sources made, ..."""
    plan_sha256: str
    """of everything that decides the shard's bytes; a marker with another value is made again"""
    num_samples: int
    """samples in the tar"""
    num_left_out: int
    """planned samples that were filtered or failed"""
    files: list[DataFile]
    """the tar first, then its part of each table"""


class Environment(Record):
    """What decides bytes besides inputs and recipe."""

    libraries: dict[str, str]
    """versions of Python packages and of FFmpeg's libraries"""
    encoders: dict[str, str]
    """build strings of the encoders that the recipe may use"""


class Manifest(Record):
    """The root of a dataset; a reader needs nothing but its path."""

    schema_version: str = SCHEMA_VERSION
    """version of everything in the dataset"""
    name: str
    """the recipe's name"""
    recipe_sha256: str
    """of the resolved recipe"""
    recipe: dict[str, Any]
    """the resolved recipe, defaults included"""
    seed: int
    """the dataset's seed"""
    environment: Environment
    """what decides bytes besides inputs and recipe"""
    scale: int
    """HR size divided by LR size"""
    streams: list[str]
    """names of the LR streams, in order"""
    splits: dict[str, int]
    """samples per split"""
    failures: dict[str, int]
    """sources and samples left out, by reason"""
    shards: list[Shard]
    """every shard, sorted by generation, then by name: in the order of the plan"""
    tables: list[DataFile]
    """tables that span all shards: plan, sources, shards"""
    documents: list[DataFile]
    """what is made of the rest, for people and for other tools"""

    @property
    def data(self) -> bytes:
        """The manifest file."""
        return self.model_dump_json(indent=1).encode()

    @property
    def sha256(self) -> str:
        """Identifies the dataset: SHA-256 of the manifest file, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def sha256_json(value: Any) -> str:
    """SHA-256 of `canonical_json(value)`, hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class DatasetError(ValueError):
    """The folder is not a dataset that can be read."""


def _read_bounded(path: Place) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"it has more than {MAX_MANIFEST_BYTES} bytes")
    return data


def read_manifest(dataset: Place) -> Manifest:
    """Read the manifest of a dataset.

    Args:
        dataset: the dataset's folder, local or in a store.

    Raises:
        DatasetError: if there is no finished dataset or the manifest is not one.
        SchemaVersionError: if an incompatible release wrote it.
    """
    path = dataset / MANIFEST_NAME
    if not dataset.is_dir():
        raise DatasetError(f"there is no folder {dataset}: check the path")
    if not path.is_file():
        raise DatasetError(
            f"{dataset} has no {MANIFEST_NAME}: it is no dataset, or it is not finished; run the "
            "command that makes it (pipelines.synthesize or pipelines.materialize) again"
        )
    try:
        fields = json.loads(_read_bounded(path))
        if isinstance(fields, dict):
            check_schema_version(str(fields.get("schema_version", "")), str(path))
        return Manifest.model_validate(fields)
    except SchemaVersionError:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no JSON, too deep, or not these fields
        raise DatasetError(f"{path} is not a manifest: {error}") from error
