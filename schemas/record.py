"""The ground of every stored record: immutable, closed, documented where it is defined.

The docstring under a field is its only documentation; Parquet field metadata and the
reference page are derived from it.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = "4.0"
"""MAJOR.MINOR of everything stored. A reader refuses another MAJOR; MINOR only adds fields."""

LOSSY_HR_VERSION = "5.0"
"""Of manifests and samples with HR stored as JPEG, instead: a reader that knows no such HR refuses
them by their MAJOR, and everything else stays as it was."""

UNKNOWN = -1
"""Stored where a number is not known, so that every record has every field (no nulls)."""


class Record(BaseModel):
    """A frozen value that refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SchemaVersionError(ValueError):
    """The data was written by an incompatible version of this package."""


def check_schema_version(found: str, what: str) -> None:
    """Refuse data of a major version that is not known here.

    Args:
        found: the `schema_version` stored in the data.
        what: names the data in the message.

    Raises:
        SchemaVersionError: if it is another one.
    """
    known = (SCHEMA_VERSION, LOSSY_HR_VERSION)
    if found.split(".")[0] not in [version.split(".")[0] for version in known]:
        raise SchemaVersionError(
            f"{what} has schema version {found!r}, this code reads {known[0]!r} and {known[1]!r}: "
            "read it with the release that wrote it, or synthesise the dataset again"
        )


class Status(StrEnum):
    """What became of a source or of a planned sample."""

    OK = "ok"
    FILTERED = "filtered"
    """Left out on purpose, by a rule of the recipe."""
    FAILED_RETRYABLE = "failed-retryable"
    """Could not be read or made, and may go otherwise once the source or the machine is well."""
    FAILED_PERMANENT = "failed-permanent"
    """Could not be read or made, and never will."""


class Outcome(Record):
    """How something ended. Failures are rows with these columns, never a separate stream."""

    status: Status = Status.OK
    """ok, filtered (left out by a rule), failed-retryable (could not be read or made, but may
    be another time) or failed-permanent"""
    stage: str = ""
    """where it ended: probe, plan, read, make or encode; empty when ok"""
    reason: str = ""
    """short code to count by, such as too_small, corrupt or worker_died; empty when ok"""
    detail: str = ""
    """one line for a person: the values behind the reason"""
