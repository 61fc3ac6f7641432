"""Proves a stored sample by its pixels: decodes it again, and makes it again.

One rule holds where libraries are others than those that the dataset was made with. What is read
again (pixels decoded, HR cut out, vectors and records extracted) must be the same with any: a
difference is a finding, which names the libraries. What is encoded or degraded again may be
different: a difference proves nothing, and that is told.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from pipelines.audit.bounds import record_problem
from pipelines.audit.compare import BAD_DATA, Stored, Verdict, compare, pixels_sha256
from pipelines.audit.fields import differing_fields
from pipelines.audit.making import impossible, read_stored, remake
from pipelines.audit.material import RemakeTask
from pipelines.audit.reasons import other_environment, other_libraries, reasons
from pipelines.audit.report import PROVES_NOTHING, Finding
from pipelines.audit.reread import read_again, record_differences
from schemas.record import Outcome
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, SampleFields, lr_member, mv_member
from transforms.decode import decode_hr, decode_lr
from transforms.degrade import MadeSample
from transforms.streams import split_at_last_codec


class PixelCheck(NamedTuple):
    """What checking a sample to the pixel found."""

    findings: list[Finding]
    not_looked_at: list[str]
    """what could not be proved, and why"""


def check_pixels(task: RemakeTask, members: Mapping[str, bytes] | None = None) -> PixelCheck:
    """Prove a stored sample by its pixels. Runs in a worker process.

    Every stream is decoded again, HR is compared with its source, and everything is made again,
    which proves the settings that no bitstream carries.

    Args:
        task: the sample.
        members: its members, where they were read already; None reads them.
    """
    if told := impossible(task):
        check, member = ("planned", "") if task.fault else ("draw", JSON_MEMBER)
        return PixelCheck([_finding(task, check, member, told)], [])
    stored = read_stored(task) if members is None else Stored(task.row, task.streams, members, {})
    sample = _read_sample(task, stored)
    if not isinstance(sample, Sample):
        return PixelCheck(sample, [])
    findings, hr = _decode(task, sample, stored)
    if hr is None or findings:
        return PixelCheck(findings, [])
    skipped = [f"{task.row.key}: HR against its source: {line}" for line in task.absent]
    if task.host.unreadable:
        skipped.append(f"{task.row.key}: what host made it: {task.host.unreadable}")
    found, unproved = _make_again(task, sample, stored, hr)
    return PixelCheck(found, [*skipped, *unproved])


def _read_sample(task: RemakeTask, stored: Stored) -> Sample | list[Finding]:
    """The record, if all members are there and it is of the size that was drawn."""
    missing = {JSON_MEMBER, HR_MEMBER} - stored.members.keys() - stored.damaged.keys()
    damaged = {**stored.damaged, **{name: f"{name} is not there" for name in missing}}
    if damaged:
        return [_finding(task, "member", name, told) for name, told in damaged.items()]
    try:
        sample = Sample.model_validate_json(stored.members[JSON_MEMBER])
    except ValidationError as error:
        return [_finding(task, "member", JSON_MEMBER, f"no record: {error}")]
    told = record_problem(sample, task.scene)
    return [_finding(task, "draw", JSON_MEMBER, told)] if told else sample


def _decode(
    task: RemakeTask, sample: Sample, stored: Stored
) -> tuple[list[Finding], np.ndarray | None]:
    """What decoding found, and HR."""
    findings = []
    for stream in sample.streams:
        name = lr_member(stream.stream)
        try:
            digest = pixels_sha256(decode_lr(stream, stored.members[name]))
        except BAD_DATA as error:
            findings.append(_finding(task, "decoded", name, f"does not decode: {error!r}"))
            continue
        if digest != stream.decoded_sha256:
            told = f"decodes to pixels of SHA-256 {digest}, was {stream.decoded_sha256}"
            told = "; ".join([told, *other_libraries(task)])
            findings.append(_finding(task, "decoded", name, told))
    try:
        return findings, decode_hr(sample, stored.members[HR_MEMBER])
    except BAD_DATA as error:
        told = f"does not decode: {error!r}"
        return [*findings, _finding(task, "decoded", HR_MEMBER, told)], None


def _make_again(
    task: RemakeTask, sample: Sample, stored: Stored, hr: np.ndarray
) -> tuple[list[Finding], list[str]]:
    """What making it again found, and what it did not prove."""
    made = remake(task, hr)
    key = task.row.key
    if isinstance(made, Outcome):
        if made.stage == "read":
            read = _reading_findings(task, sample, stored)
            return list(read), [f"{key}: not made again: {made.detail}"]
        told, others = f"cannot be made again: {made.detail}", other_libraries(task)
        if made.stage == "encode" and others:
            read = _reading_findings(task, sample, stored)
            return list(read), [f"{key}: {told}, which {PROVES_NOTHING}{'; '.join(others)}"]
        return [_finding(task, "remade", JSON_MEMBER, told)], []
    members = compare(made, stored)
    differing = [name for name, verdict in members.items() if verdict is not Verdict.BYTES]
    if not differing:
        return [], []
    others = other_environment(task, made)
    if not others:
        return list(_remake_findings(task, made, stored, members)), []
    findings = [
        *_source_findings(task, made, sample, members, others),
        *_reading_findings(task, sample, stored),
    ]
    why = f"{', '.join(differing)} differ if made again here, which {PROVES_NOTHING}"
    return findings, [f"{key}: {why}{'; '.join(others)}"]


def _remake_findings(
    task: RemakeTask, made: MadeSample, stored: Stored, members: Mapping[str, Verdict]
) -> Iterator[Finding]:
    why = "; ".join(reasons(task, made, stored, members))
    for name, verdict in members.items():
        if verdict is not Verdict.BYTES:
            is_other_hr = name == HR_MEMBER and verdict is Verdict.DIFFERENT
            check = "hr_source" if is_other_hr else "remade"
            yield _finding(task, check, name, f"made again from its draw: {verdict}; {why}")


def _source_findings(
    task: RemakeTask,
    made: MadeSample,
    sample: Sample,
    members: Mapping[str, Verdict],
    others: list[str],
) -> Iterator[Finding]:
    """What of HR and of the record differs, that comes from plan, draw and source alone."""
    if task.is_hr_exact and members[HR_MEMBER] is Verdict.DIFFERENT:
        told = "; ".join(["not the pixels of its source", *others])
        yield _finding(task, "hr_source", HR_MEMBER, told)
    fields = set(SampleFields.model_fields)
    both = (one.model_dump(mode="json", include=fields) for one in (sample, made.sample))
    if differing := list(map(str, differing_fields(*both))):
        told = "; ".join(["not what plan, draw and source give", *differing[:5]])
        yield _finding(task, "remade", JSON_MEMBER, told)


def _reading_findings(task: RemakeTask, sample: Sample, stored: Stored) -> Iterator[Finding]:
    """What of the streams' records and vectors is not what their bitstreams give."""
    for stream, draw in zip(sample.streams, task.draws, strict=True):
        lr, mv = lr_member(stream.stream), mv_member(stream.stream)
        try:
            codec = split_at_last_codec(draw.stages)[1]
            frames, vectors = read_again(stream, codec, stored.members[lr])
        except BAD_DATA as error:
            yield _finding(task, "decoded", lr, f"does not decode: {error!r}")
            continue
        others = other_libraries(task)
        if differing := list(record_differences(stream.frames, frames)):
            told = "; ".join([f"frames read again: {', '.join(differing[:5])}", *others])
            yield _finding(task, "reread", JSON_MEMBER, f"stream {stream.stream}: {told}")
        if vectors != stored.members.get(mv):
            told = "; ".join(["not the motion vectors of its stream", *others])
            yield _finding(task, "reread", mv, told)


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
