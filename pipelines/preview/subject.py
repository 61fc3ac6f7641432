"""The patch or clip of an input that is looked at, as synthesis would take it."""

from typing import NamedTuple

import numpy as np

from pipelines.corpus import Entry, discover
from pipelines.errors import MediaError, UserError
from pipelines.make import MakeTask, read_pictures, sizes_of
from pipelines.plan import make_plan
from pipelines.probe import Probed, probe
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.sample import SampleKind
from schemas.tables import table_of
from transforms.cut import Pictures, cut_frames
from transforms.draw import draw_scene

_KINDS = {
    SampleKind.CLIP: "clip",
    SampleKind.PSEUDO_VIDEO: "pack of patches",
    SampleKind.CAMERA: "camera over a picture, views",
}


class Subject(NamedTuple):
    """What is degraded."""

    name: str
    """of the input"""
    planned: PlannedSample
    """which frames they are"""
    pictures: Pictures
    """what they are cut out of"""
    fps: float
    """of the source, 0 for images"""
    recipe: Recipe
    """which decides the patch and its motion"""
    plain: np.ndarray
    """(T, H, W, 3) uint8, HR without sharpening"""

    @property
    def shown(self) -> int:
        """Display index of the frame that pictures show: the middle one."""
        return len(self.plain) // 2


def find_subject(path: str, recipe: Recipe, seed: int, sample: int, num_frames: int) -> Subject:
    """Read an input as synthesis would.

    Args:
        path: an image, a video, or a folder of frames.
        recipe: decides patch and frames.
        seed: the dataset's seed.
        sample: number of the clip or pack, of all that the input gives.
        num_frames: frames at most; 0 for as many as synthesis would take.

    Raises:
        UserError: if nothing can be made of it.
    """
    entry = _only_entry(path)
    probed = _probed(entry, path, recipe, seed)
    planned = _planned(probed, path, recipe, seed, sample)
    if num_frames:
        planned = planned.model_copy(update={"spans": _first(planned, num_frames)})
    return _read(entry, probed, planned, recipe, seed)


def as_for(recipe: Recipe, subject: Subject) -> Recipe:
    """A recipe that takes the subject's patch and motion instead of its own.

    Raises:
        UserError: if the patch does not go with the recipe's scale.
    """
    unit = 2 * recipe.scale
    height, width = subject.plain.shape[1:3]
    if height % unit or width % unit:
        raise UserError(
            f"the patch of {width} x {height} pixels does not go with recipe {recipe.name!r}: its "
            f"scale of {recipe.scale} needs multiples of {unit}; compare recipes of one scale"
        )
    patch = {"patch_height": height, "patch_width": width}
    patch |= {"pre_downscale": subject.recipe.hr.pre_downscale}
    camera = {"camera": subject.recipe.pseudo_video.camera}
    return recipe.model_copy(
        update={
            "hr": recipe.hr.model_copy(update=patch),
            "pseudo_video": recipe.pseudo_video.model_copy(update=camera),
        }
    )


def describe(subject: Subject, seed: int) -> str:
    """A line that says what pictures of a subject show."""
    count, height, width, _ = subject.plain.shape
    return (
        f"{subject.name}, x{subject.recipe.scale}, {_KINDS[subject.planned.kind]} of "
        f"{width} x {height}, frame {subject.shown + 1} of {count}, seed {seed}"
    )


def _only_entry(path: str) -> Entry:
    entries = discover([path])
    if len(entries) > 1:
        raise UserError(
            f"{path!r} holds {len(entries)} files that are no numbered series: name one image, one "
            "video, or one folder of frames"
        )
    return entries[0]


def _probed(entry: Entry, path: str, recipe: Recipe, seed: int) -> Probed:
    probed = probe(entry, recipe, seed)
    if probed is None:
        raise UserError(
            f"the files of {path!r} are no frames of one clip (not all pictures, of several sizes, "
            "or with nothing in common): name one of them"
        )
    if probed.source.status is not Status.OK:
        reason, detail = probed.source.reason, probed.source.detail
        raise UserError(f"{path!r} cannot be used with recipe {recipe.name!r}: {reason}: {detail}")
    return probed


def _planned(probed: Probed, path: str, recipe: Recipe, seed: int, sample: int) -> PlannedSample:
    # With one source there is nothing to split; draws do not depend on it.
    alone = recipe.model_copy(update={"validation_fraction": 0.0})
    plan = make_plan([table_of(Probed, [probed])], [], alone, seed)
    samples = sorted((row for rows in plan.shards() for row in rows), key=lambda row: row.clip)
    if not 0 <= sample < len(samples):
        raise UserError(
            f"--sample is {sample}, but {path!r} gives {len(samples)} with recipe {recipe.name!r}: "
            f"choose from 0 to {len(samples) - 1}"
        )
    return samples[sample]


def _first(planned: PlannedSample, num_frames: int) -> list[Span]:
    """The spans of the first frames."""
    spans = list[Span]()
    for span in planned.spans:
        count = min(span.count, num_frames - sum(taken.count for taken in spans))
        # The checksum is that of the whole span.
        spans.append(span.model_copy(update={"count": count, "crc32": 0}))
    return [span for span in spans if span.count > 0]


def _read(
    entry: Entry, probed: Probed, planned: PlannedSample, recipe: Recipe, seed: int
) -> Subject:
    source = probed.source
    task = MakeTask(
        recipe=recipe,
        seed=seed,
        rows=[planned],
        sources={source.source_id: source},
        paths={source.source_id: list(entry.paths)},
    )
    try:
        pictures = read_pictures(task)
    except MediaError as error:
        raise UserError(f"{entry.uri!r} cannot be read: {error}") from error
    scene = draw_scene(recipe, seed, planned, sizes_of(pictures))
    plain = cut_frames(scene, pictures)
    return Subject(entry.uri, planned, pictures, source.fps, recipe, plain)
