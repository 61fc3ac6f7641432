"""The semantic and the pixel grade of one sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.audit.material import RemakeTask
from pipelines.audit.remake import check_pixels
from pipelines.audit.report import Finding
from pipelines.verify.draws import draw_problems, read_draw
from pipelines.verify.headers import stream_problems
from pipelines.verify.members import hr_problems, motion_problems
from pipelines.verify.problem import Problem
from schemas.manifest import Environment
from schemas.recipe import Recipe
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, SampleRow, lr_member, mv_member
from schemas.shard import read_member
from schemas.store import Place


@dataclass(frozen=True, kw_only=True)
class SampleTask:
    """A sample to look at."""

    tar: Place
    """its shard"""
    path: str
    """the same, relative to the dataset"""
    row: SampleRow
    """of the table"""
    recipe: Recipe
    environment: Environment
    remake: RemakeTask | None
    """what it takes to make the sample again, for the pixel grade"""


class CheckedSample(NamedTuple):
    """What looking at a sample gave."""

    findings: list[Finding]
    num_streams: int
    num_frames: int
    not_looked_at: list[str]


def check_sample(task: SampleTask) -> CheckedSample:
    """Look at a sample. Runs in a worker process, since it changes the level of FFmpeg's log."""
    try:
        with task.tar.open("rb") as tar:
            members = {member.name: read_member(tar, member) for member in task.row.members}
        sample = Sample.model_validate_json(members[JSON_MEMBER])
        problems = list(_problems(task, sample, members))
    except (OSError, ValueError, LookupError) as error:  # ShardError and pydantic's among them
        told = f"members or record cannot be made sense of: {error!r}"
        unreadable = Problem("member", JSON_MEMBER, told)
        return CheckedSample([_finding(task, unreadable)], 0, 0, [])
    findings = [_finding(task, problem) for problem in problems]
    skipped: list[str] = []
    if task.remake is not None:
        pixels = check_pixels(task.remake)
        findings += pixels.findings
        skipped = pixels.not_looked_at
    num_frames = sum(len(stream.frames) for stream in sample.streams)
    return CheckedSample(findings, len(sample.streams), num_frames, skipped)


def _problems(task: SampleTask, sample: Sample, members: dict[str, bytes]) -> Iterator[Problem]:
    yield from hr_problems(sample, task.recipe.hr.tile, members[HR_MEMBER])
    draw = read_draw(sample)
    if isinstance(draw, Problem):
        yield draw
        return
    yield from draw_problems(sample, draw, task.recipe, task.environment)
    for index, stream in enumerate(sample.streams):
        nut, motion = members[lr_member(index)], members[mv_member(index)]
        yield from stream_problems(stream, draw.stored_codec(index), nut)
        yield from motion_problems(stream, motion)


def _finding(task: SampleTask, problem: Problem) -> Finding:
    return Finding(
        check=problem.check,
        path=task.path,
        shard=task.row.shard,
        key=task.row.key,
        member=problem.member,
        detail=" ".join(problem.detail.split()),
    )
