"""Samples made again, against what is stored: how alike they are, and why not."""

from pipelines.audit.compare import Verdict, compare, verdict_of
from pipelines.audit.making import read_stored, remake, stored_hr
from pipelines.audit.material import RemakeTask
from pipelines.audit.reasons import reasons
from schemas.record import Outcome, Record
from transforms.degrade import MadeSample


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


def remake_and_compare(task: RemakeTask) -> tuple[MadeSample | Outcome, Comparison]:
    """Make a sample again and compare it. Runs in a worker process."""
    stored = read_stored(task)
    told = [f"the stored sample is damaged: {line}" for line in stored.damaged.values()]
    if task.host.unreadable:
        told.append(task.host.unreadable)
    made = remake(task, stored_hr(task, stored))
    if isinstance(made, Outcome):
        told.append(f"{made.reason}: {made.detail}")
        members, verdict = dict[str, Verdict](), Verdict.DIFFERENT
    else:
        members = compare(made, stored)
        verdict = Verdict.DIFFERENT if stored.damaged else verdict_of(members)
        told = [] if verdict is Verdict.BYTES else [*told, *reasons(task, made, stored, members)]
    return made, Comparison(
        key=task.row.key,
        verdict=verdict,
        members=members,
        absent=task.absent,
        reasons=[" ".join(line.split()) for line in told],
    )
