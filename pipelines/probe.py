"""Finds out what an entry is, and which parts of it can become samples.

Every frame is decoded once, so that whatever is corrupt is known before anything is planned.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from pipelines.cache import local_copies
from pipelines.corpus import REFUSALS, Entry
from pipelines.errors import MediaError
from pipelines.failures import FAILURES, failed
from pipelines.images import read_image, read_image_header
from pipelines.media import (
    MAX_FILE_BYTES,
    checksum_of,
    file_sha256,
    folder_sha256,
    sniff,
)
from pipelines.scenes import bar_share, cut
from pipelines.survey import Survey, survey_folder, survey_video
from pipelines.video import MAX_LEAD_FRAMES
from schemas.plan import Span
from schemas.recipe import Recipe
from schemas.record import Outcome, Record, Status
from schemas.source import Source, SourceKind
from transforms.draw import hr_size, patch_grid, patch_size

STAGE = "probe"


class Probed(Record):
    """A source and the parts of it that can be used."""

    source: Source
    """group, split, licence and attribution are empty: planning fills them in"""
    spans: list[Span]
    """runs of frames of one scene, or of consecutive usable grid cells; empty if left out"""


_Found = tuple[Source, list[Span]]


def probe(entry: Entry, recipe: Recipe, seed: int) -> Probed | None:
    """Probe one entry.

    Args:
        entry: a file, or a folder of numbered files.
        recipe: says what is usable.
        seed: the dataset's seed; places the patch grid of images.

    Returns:
        What was found; None for a folder that is no clip: its files are entries of their own.
    """
    if entry.refused:
        return _probed(
            entry, _left_out(_unknown_source(entry), entry.refused, REFUSALS[entry.refused])
        )
    with local_copies(entry.paths) as paths:
        local = replace(entry, paths=tuple(paths))
        found = (
            _probe_folder(local, recipe) if entry.is_folder else _probe_file(local, recipe, seed)
        )
    return None if found is None else _probed(entry, found)


def _probed(entry: Entry, found: _Found) -> Probed:
    source, spans = found
    return Probed(source=source, spans=spans)


def not_probed(entry: Entry, reason: str, detail: str) -> Probed:
    """The row of an entry that took its worker process with it."""
    outcome = failed(STAGE, reason, detail)
    return _probed(entry, (_unknown_source(entry).model_copy(update=dict(outcome)), []))


def files_of(entry: Entry) -> list[Entry]:
    """The files of a folder, each by itself."""
    return [
        Entry(
            uri=f"{entry.uri}/{os.path.basename(path)}",
            paths=(path,),
            is_folder=False,
            sizes=entry.sizes[index : index + 1],
        )
        for index, path in enumerate(entry.paths)
    ]


def _probe_file(entry: Entry, recipe: Recipe, seed: int) -> _Found:
    path = entry.paths[0]
    source = _unknown_source(entry)
    try:
        source = _identify(source, path)
        if source.kind is SourceKind.UNKNOWN:
            raise MediaError("not_media", "neither an image nor a video by its content")
        if source.kind is SourceKind.VIDEO:
            return _probe_video(source, path, recipe)
        return _probe_image(source, path, recipe, seed)
    except MediaError as error:
        return _left_out(source, error.reason, error.detail)


def _unknown_source(entry: Entry) -> Source:
    return Source(
        source_id="",
        kind=SourceKind.UNKNOWN,
        uris=[entry.uri],
        group="",
        split="",
        licence="",
        attribution="",
        size=0,
    )


def _left_out(source: Source, reason: str, detail: str) -> _Found:
    filtered = Outcome(status=Status.FILTERED, stage=STAGE, reason=reason, detail=detail)
    outcome = failed(STAGE, reason, detail) if reason in FAILURES else filtered
    return source.model_copy(update=dict(outcome)), []


def _identify(source: Source, path: str) -> Source:
    """Add the hash, the size and the kind, as far as they can be found out."""
    try:
        size = os.path.getsize(path)
        if not size:
            raise MediaError("empty_file", "0 bytes")
        if size > MAX_FILE_BYTES:
            raise MediaError("too_large", f"{size} bytes, at most {MAX_FILE_BYTES}")
        digest = file_sha256(path)
        kind = SourceKind(sniff(path) or SourceKind.UNKNOWN)
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from error
    return source.model_copy(update={"source_id": digest, "size": size, "kind": kind})


def _size_obstacle(recipe: Recipe, height: int, width: int) -> tuple[str, str] | None:
    hr = hr_size(recipe, height, width)
    if all(patch_size(recipe, *hr)):
        return None
    patch = f"{recipe.hr.patch_width}x{recipe.hr.patch_height}"
    return "too_small", f"{width}x{height}, {hr[1]}x{hr[0]} as HR, for patches of {patch}"


def _bar_obstacle(recipe: Recipe, share: float) -> tuple[str, str] | None:
    if share <= recipe.hr.max_bar_share:
        return None
    return "letterboxed", f"{share:.3f} in black bars, at most {recipe.hr.max_bar_share}"


def _probe_image(source: Source, path: str, recipe: Recipe, seed: int) -> _Found:
    header = read_image_header(path)
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    facts = {"width": width, "height": height, "num_frames": 1, "rotation": header.rotation}
    names = {"codec": header.format.lower(), "pixel_format": header.mode}
    source = source.model_copy(update=facts | names)
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    obstacle = _size_obstacle(recipe, height, width) or _bar_obstacle(recipe, bar_share(luma))
    if obstacle:
        return _left_out(source, *obstacle)
    spans = _cell_spans(luma, source.source_id, recipe, seed)
    if not spans:
        detail = f"no patch with a standard deviation of {recipe.hr.min_std} or more"
        return _left_out(source, "flat", detail)
    return source, spans


def _cell_spans(luma: np.ndarray, source_id: str, recipe: Recipe, seed: int) -> list[Span]:
    """Runs of the first usable cells, as many as the recipe takes from an image."""
    height, width = hr_size(recipe, *luma.shape)
    rows, columns = patch_size(recipe, height, width)
    # For a statistic, averaging stands in well enough for the bicubic of the HR patches.
    hr = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    usable = [
        index
        for index, (top, left) in enumerate(patch_grid(recipe, seed, source_id, height, width))
        if hr[top : top + rows, left : left + columns].std() >= recipe.hr.min_std
    ]
    runs = _runs(usable[: recipe.pseudo_video.patches_per_image])
    return [Span(source_id=source_id, start=start, count=count) for start, count in runs]


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """(start, count) of the runs of consecutive numbers in an increasing sequence."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


def _probe_video(source: Source, path: str, recipe: Recipe) -> _Found:
    survey = survey_video(path)
    source = source.model_copy(update=survey.facts)
    if source.interlaced and not recipe.hr.keep_interlaced:
        return _left_out(source, "interlaced", "a frame is flagged as interlaced")
    return _cut_into_clips(source, survey, recipe)


def _probe_folder(entry: Entry, recipe: Recipe) -> _Found | None:
    """The clip in a folder; None where its files are no frames of one clip."""
    survey = survey_folder(entry.paths)
    if survey is None:
        return None
    source = _unknown_source(entry)
    try:
        source = _identify_folder(source, entry.paths).model_copy(update=survey.facts)
        if survey.damage:
            raise survey.damage
        return _cut_into_clips(source, survey, recipe)
    except MediaError as error:
        return _left_out(source, error.reason, error.detail)


def _identify_folder(source: Source, paths: Sequence[str]) -> Source:
    files = [_identify(source, path) for path in paths]
    digest = folder_sha256(file.source_id for file in files)
    size = sum(file.size for file in files)
    return source.model_copy(update={"source_id": digest, "size": size, "kind": SourceKind.FRAMES})


def _cut_into_clips(source: Source, survey: Survey, recipe: Recipe) -> _Found:
    obstacle = _size_obstacle(recipe, source.height, source.width)
    obstacle = obstacle or _bar_obstacle(recipe, survey.watch.bar_share())
    if obstacle:
        return _left_out(source, *obstacle)
    settings = recipe.clips
    scores = survey.watch.cut_scores()
    min_frames = settings.min_frames or settings.frames
    clips = cut(scores, settings.scene_cut_score, settings.frames, min_frames)
    if not clips:
        detail = f"{len(scores)} frames, but no scene of {min_frames} or more"
        return _left_out(source, "too_short", detail)
    clips = [(start, count) for start, count in clips if survey.leads[start] <= MAX_LEAD_FRAMES]
    if not clips:
        detail = f"each clip is more than {MAX_LEAD_FRAMES} frames away from a key frame"
        return _left_out(source, "sparse_keyframes", detail)
    spans = [
        Span(
            source_id=source.source_id,
            start=start,
            count=count,
            start_pts=survey.times[start] or 0,
            start_crc32=survey.checksums[start],
            crc32=checksum_of(survey.checksums[start : start + count]),
        )
        for start, count in clips
    ]
    return source, spans
