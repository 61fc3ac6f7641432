"""The semantic and the pixel grade of one sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.audit.dataset import read_members
from pipelines.audit.material import RemakeTask
from pipelines.audit.pixels import check_pixels
from pipelines.audit.report import Finding
from pipelines.verify.draws import Planned, draw_problems, planned_problems, read_draw
from pipelines.verify.headers import stream_problems
from pipelines.verify.members import container_problems, hr_problems, motion_problems
from pipelines.verify.problem import Problem
from schemas.manifest import Environment
from schemas.recipe import Recipe
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample, SampleRow, lr_member, mv_member
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
    same_libraries: frozenset[str]
    """those of the environment that have the same version here"""
    planned: Planned | None
    """what the sample was drawn from; None where the plan cannot be read"""
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
        members = read_members(task.tar, task.row.members)
        sample = Sample.model_validate_json(members[JSON_MEMBER])
        problems = list(_problems(task, sample, members))
    except (OSError, ValueError, LookupError) as error:  # ShardError and pydantic's among them
        told = f"members or record cannot be made sense of: {error!r}"
        unreadable = Problem("member", JSON_MEMBER, told)
        return CheckedSample([_finding(task, unreadable)], 0, 0, [f"{task.row.key}: its streams"])
    findings = [_finding(task, problem) for problem in problems]
    skipped: list[str] = []
    if task.remake is not None and problems:
        skipped = [f"{task.row.key}: its pixels: its records are wrong already"]
    elif task.remake is not None:
        pixels = check_pixels(task.remake, members)
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
    if task.planned is not None:
        is_drawn_again = "numpy" in task.same_libraries
        planned, recipe = task.planned, task.recipe
        yield from planned_problems(sample, draw, planned, recipe, is_drawn_again=is_drawn_again)
    for index, stream in enumerate(sample.streams):
        nut, motion = members[lr_member(index)], members[mv_member(index)]
        problems = list(stream_problems(stream, draw.stored_codec(index), nut))
        yield from problems
        if not problems and "libavformat" in task.same_libraries:
            yield from container_problems(stream, nut)
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
