"""Makes samples again from their stored draws.

A sample comes from its sources where they are at hand. Without them it comes from its stored HR,
unless that was sharpened after what is degraded had been taken, or is not exact.
"""

import numpy as np
from pydantic import ValidationError

from pipelines.audit.bounds import draw_problem, record_problem
from pipelines.audit.compare import BAD_DATA, Stored
from pipelines.audit.dataset import read_members
from pipelines.audit.material import RemakeTask
from pipelines.errors import MediaError
from pipelines.failures import failed
from pipelines.make import make_drawn, read_pictures
from schemas.record import Outcome
from schemas.sample import HR_MEMBER, JSON_MEMBER, Sample
from schemas.store import place
from transforms.cut import scene_frames
from transforms.decode import decode_hr
from transforms.degrade import MadeSample


def impossible(task: RemakeTask) -> str:
    """What of the plan or of the stored draw cannot be; empty if all can."""
    if task.fault:
        return task.fault
    try:
        scene, draws = task.scene, task.draws
    except ValidationError as error:
        return f"no draw: {error}"
    return draw_problem(task.work.rows[0], task.work.sources, task.work.recipe, scene, draws)


def remake(task: RemakeTask, stored_hr: np.ndarray | None) -> MadeSample | Outcome:
    """Make a sample again, as it was drawn.

    Args:
        task: the sample.
        stored_hr: (T, H, W, 3) uint8, what is taken where a source is not at hand; None if that is
            not at hand, either.

    Returns:
        The sample; or why there is none, of stage `read` where what it takes is not at hand, `draw`
        where it was not drawn so, `encode` where an encoder fails.
    """
    if told := impossible(task):
        return failed("draw", "impossible", told)
    if not task.absent:
        try:
            _, hr, degraded = scene_frames(task.scene, read_pictures(task.work))
        except MediaError as error:
            return failed("read", error.reason, error.detail)
        except BAD_DATA as error:
            return failed("draw", "impossible", f"cannot be cut out: {error!r}")
    elif stored_hr is not None and not _what_hr_is(task):
        hr = degraded = stored_hr
    else:
        why = [*task.absent, _what_hr_is(task) if task.tar else ""]
        return failed("read", "unreadable", "; ".join(filter(None, why)))
    try:
        return make_drawn(task.work, task.work.rows[0], task.scene, task.draws, hr, degraded)
    except BAD_DATA as error:
        return failed("draw", "impossible", f"cannot be carried out: {error!r}")


def _what_hr_is(task: RemakeTask) -> str:
    """Why the stored HR is not what was degraded; empty where it is."""
    if task.scene.sharpen == "target":
        return "the stored HR is sharpened, and what was degraded is not"
    return "" if task.is_hr_exact else "the stored HR is JPEG, and what was degraded is exact"


def read_stored(task: RemakeTask) -> Stored:
    """What is stored of the sample, each member by itself."""
    whole: dict[str, bytes] = {}
    damaged: dict[str, str] = {}
    for member in task.row.members if task.tar else []:
        try:
            whole |= read_members(place(task.tar), [member])
        except (OSError, ValueError) as error:  # ShardError among them
            damaged[member.name] = str(error)
    return Stored(task.row, task.streams, whole, damaged)


def stored_hr(task: RemakeTask, stored: Stored) -> np.ndarray | None:
    """The stored HR; None where it is not needed, not at hand, damaged or not as drawn."""
    if not task.absent or impossible(task) or not {JSON_MEMBER, HR_MEMBER} <= stored.members.keys():
        return None
    try:
        sample = Sample.model_validate_json(stored.members[JSON_MEMBER])
        if record_problem(sample, task.scene):
            return None
        return decode_hr(sample, stored.members[HR_MEMBER])
    except BAD_DATA:
        return None
