"""Makes samples again from their stored draws, and says how alike they are and why not.

A sample comes from its sources where they are at hand. Without them it comes from its stored HR,
unless that was sharpened after what is degraded had been taken.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from pipelines.audit.compare import (
    Stored,
    Verdict,
    compare,
    pixels_sha256,
    record_differences,
    verdict_of,
)
from pipelines.audit.environment import differences, host_differences
from pipelines.audit.material import RemakeTask
from pipelines.audit.report import Finding
from pipelines.environment import describe_host
from pipelines.errors import MediaError
from pipelines.job import Job, library_versions
from pipelines.make import left_out, make_drawn, read_pictures
from schemas.manifest import Environment
from schemas.record import Outcome, Record, Status
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, lr_member
from schemas.shard import ShardError, read_member
from schemas.store import place
from transforms.codec import CodecError
from transforms.cut import scene_frames
from transforms.decode import decode_hr, decode_lr
from transforms.degrade import MadeSample

_MOST_FIELDS = 5
_BAD_DATA = (CodecError, ValueError, LookupError)
"""What decoding raises of a record or a bitstream that is not what it should be."""


class Comparison(Record):
    """A sample made again, against the stored one."""

    key: str
    """the sample"""
    verdict: Verdict
    """of the whole sample"""
    members: dict[str, Verdict]
    """of each member; none where the sample could not be made"""
    absent: list[str]
    """a line for each source that is not at hand; the sample is made from its stored HR then"""
    reasons: list[str]
    """why it may differ, a line each; empty for identical bytes"""


class PixelCheck(NamedTuple):
    """What checking a sample to the pixel found."""

    findings: list[Finding]
    not_looked_at: list[str]
    """what could not be proved, and why"""


def remake(task: RemakeTask, stored_hr: np.ndarray | None) -> MadeSample | Outcome:
    """Make a sample again, as it was drawn.

    Args:
        task: the sample.
        stored_hr: (T, H, W, 3) uint8, what is taken where a source is not at hand; None if that is
            not at hand, either.
    """
    if not task.absent:
        try:
            _, hr, degraded = scene_frames(task.scene, read_pictures(task.work))
        except MediaError as error:
            return left_out(Status.FAILED, "read", error.reason, error.detail)
    elif stored_hr is not None and task.scene.sharpen != "target":
        hr = degraded = stored_hr
    else:
        why = "; the stored HR is sharpened, and what was degraded is not" if task.tar else ""
        return left_out(Status.FAILED, "read", "unreadable", "; ".join(task.absent) + why)
    return make_drawn(task.work, task.work.rows[0], task.scene, task.draws, hr, degraded)


def read_stored(task: RemakeTask) -> Stored:
    """What is stored of the sample.

    Raises:
        ShardError: if a member is not what the table says.
        OSError: if the shard cannot be read.
    """
    if not task.tar:
        return Stored(task.row, task.streams, {})
    with place(task.tar).open("rb") as tar:
        members = {member.name: read_member(tar, member) for member in task.row.members}
    return Stored(task.row, task.streams, members)


def remake_and_compare(task: RemakeTask) -> tuple[MadeSample | Outcome, Comparison]:
    """Make a sample again and compare it. Runs in a worker process."""
    try:
        stored, damage = read_stored(task), ""
    except (ShardError, OSError) as error:
        stored, damage = (
            Stored(task.row, task.streams, {}),
            f"the stored sample is damaged: {error}",
        )
    made = remake(task, _hr_of(stored))
    reasons = [damage] if damage else []
    if isinstance(made, Outcome):
        reasons += [f"{made.reason}: {made.detail}"]
        members, verdict = {}, Verdict.DIFFERENT
    else:
        members = compare(made, stored)
        verdict = Verdict.DIFFERENT if damage else verdict_of(members)
        reasons += _reasons(task, made, stored, members)
    return made, Comparison(
        key=task.row.key,
        verdict=verdict,
        members=members,
        absent=task.absent,
        reasons=reasons,
    )


def check_pixels(task: RemakeTask) -> PixelCheck:
    """Prove a stored sample by its pixels. Runs in a worker process.

    Every stream is decoded again, HR is compared with its source, and everything is made again,
    which proves the settings that no bitstream carries.
    """
    try:
        stored = read_stored(task)
        sample = Sample.model_validate_json(stored.members[JSON_MEMBER])
    except (ShardError, OSError, ValidationError, KeyError) as error:
        return PixelCheck([_finding(task, "member", "", f"cannot be read: {error}")], [])
    findings = list(_decoding_findings(task, sample, stored))
    if findings:
        return PixelCheck(findings, [])
    skipped = [f"{task.row.key}: HR against its source: {line}" for line in task.absent]
    made = remake(task, decode_hr(sample, stored.members[HR_MEMBER]))
    if isinstance(made, Outcome):
        return PixelCheck([], [*skipped, f"{task.row.key}: not made again: {made.detail}"])
    remade = list(_remake_findings(task, made, stored))
    if remade and (others := _other_environment(task, made)):
        # Other libraries may make other bytes of the same draw: this proves nothing.
        members = ", ".join(finding.member for finding in remade)
        skipped.append(f"{task.row.key}: {members} differ if made again here; {'; '.join(others)}")
        remade = []
    return PixelCheck(remade, skipped)


def _decoding_findings(task: RemakeTask, sample: Sample, stored: Stored) -> Iterator[Finding]:
    for stream in sample.streams:
        name = lr_member(stream.stream)
        try:
            digest = pixels_sha256(decode_lr(stream, stored.members[name]))
        except _BAD_DATA as error:
            yield _finding(task, "decoded", name, f"does not decode: {error}")
            continue
        if digest != stream.decoded_sha256:
            told = f"decodes to pixels of SHA-256 {digest}, was {stream.decoded_sha256}"
            others = _libraries(task)
            yield _finding(task, "decoded", name, "; ".join([told, *others]))
    try:
        decode_hr(sample, stored.members[HR_MEMBER])
    except _BAD_DATA as error:
        yield _finding(task, "decoded", HR_MEMBER, f"does not decode: {error}")


def _remake_findings(task: RemakeTask, made: MadeSample, stored: Stored) -> Iterator[Finding]:
    members = compare(made, stored)
    if verdict_of(members) is Verdict.BYTES:
        return
    reasons = "; ".join(_reasons(task, made, stored, members))
    for name, verdict in members.items():
        if verdict is not Verdict.BYTES:
            is_other_hr = name == HR_MEMBER and verdict is Verdict.DIFFERENT
            check = "hr_source" if is_other_hr else "remade"
            told = f"made again from its draw: {verdict}; {reasons}"
            yield _finding(task, check, name, told)


def _reasons(
    task: RemakeTask, made: MadeSample, stored: Stored, members: dict[str, Verdict]
) -> list[str]:
    """Why a sample may differ; empty if it does not."""
    if verdict_of(members) is Verdict.BYTES:
        return []
    known = [*_other_environment(task, made), *_other_host(task)]
    known = known or ["no known reason: please report it"]
    if members[HR_MEMBER] is Verdict.DIFFERENT and not stored.members:
        known.append(f"{HR_MEMBER}: its pixels are not at hand to be compared, only its checksum")
    if members[JSON_MEMBER] is not Verdict.BYTES and JSON_MEMBER in stored.members:
        fields = record_differences(made.sample, stored.members[JSON_MEMBER])
        others = f" and {len(fields) - _MOST_FIELDS} more" if len(fields) > _MOST_FIELDS else ""
        known.append(f"the record differs in {', '.join(fields[:_MOST_FIELDS])}{others}")
    return known


def _other_environment(task: RemakeTask, made: MadeSample) -> list[str]:
    """Libraries and encoders that are not those that the dataset was made with."""
    found = {stream.codec: stream.encoder_build for stream in made.sample.streams}
    builds = {codec: build for codec, build in task.environment.encoders.items() if codec in found}
    here = {codec: found[codec] for codec in builds}
    made_with = Environment(libraries=task.environment.libraries, encoders=builds)
    there = differences(made_with, Environment(libraries=library_versions(), encoders=here))
    return [str(difference) for difference in there]


def _libraries(task: RemakeTask) -> list[str]:
    made_with = Environment(libraries=task.environment.libraries, encoders={})
    here = Environment(libraries=library_versions(), encoders={})
    return [str(difference) for difference in differences(made_with, here)]


def _other_host(task: RemakeTask) -> list[str]:
    """What else is different here from where the shard was made."""
    job = Job(
        output="",
        recipe=task.work.recipe,
        seed=task.work.seed,
        num_workers=1,
        environment=task.environment,
    )
    return host_differences(task.host, describe_host(job))


def _hr_of(stored: Stored) -> np.ndarray | None:
    """The stored HR; None where it is not at hand or damaged."""
    if not stored.members:
        return None
    try:
        sample = Sample.model_validate_json(stored.members[JSON_MEMBER])
        return decode_hr(sample, stored.members[HR_MEMBER])
    except _BAD_DATA:
        return None


def _finding(task: RemakeTask, check: str, member: str, detail: str) -> Finding:
    row = task.row
    return Finding(
        check=check,
        path=f"data/{row.shard}.tar",
        shard=row.shard,
        key=row.key,
        member=member,
        detail=" ".join(detail.split()),
    )
