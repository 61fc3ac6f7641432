"""Applying a draw: HR frames in, a finished sample out. Nothing here is random."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from schemas.draw import (
    CodecDraw,
    DenoiseDraw,
    FrameStageDraw,
    RetimeDraw,
    SceneDraw,
    StageDraw,
    StreamDraw,
)
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION
from schemas.sample import HR_MEMBER, Generation, Sample, lr_member, mv_member
from transforms.denoise import denoise
from transforms.frame_stages import apply_frame_stages
from transforms.motion import write_blocks
from transforms.pixels import to_float, to_uint8
from transforms.streams import MadeStream, make_stream, split_at_last_codec, transcode
from transforms.tiles import pack_jpeg_tiles, pack_tiles


class MadeSample(NamedTuple):
    """A sample ready to be written."""

    sample: Sample
    members: dict[str, bytes]
    """every member but the json, by extension"""


class Clip(NamedTuple):
    """A clip on its way through a chain."""

    frames: Sequence[np.ndarray]
    """(H, W, 3) each, uint8, or float32 in [0, 1]; sizes may differ"""
    generations: list[Generation]
    """the codecs that it went through"""


def make_sample(
    recipe: Recipe,
    seed: int,
    planned: PlannedSample,
    scene: SceneDraw,
    stream_draws: Sequence[StreamDraw],
    hr: np.ndarray,
    fps: float,
    hr_input: np.ndarray | None = None,
) -> MadeSample:
    """Make a sample as drawn.

    Args:
        recipe: for names, scale and how HR is stored; its ranges play no part any more.
        seed: the dataset's seed, to be recorded.
        planned: the sample's row of the plan.
        scene: what the streams share.
        stream_draws: what each adds.
        hr: (T, H, W, 3) uint8 RGB, the HR patch that is stored.
        fps: frame rate of the source, 0 for images; to be recorded.
        hr_input: what is degraded, where that is not `hr`; like it.

    Raises:
        CodecError: if an encoder fails.
    """
    quality, hr_jpeg = recipe.hr.stored_quality(planned.split), None
    if quality is None:
        hr_zip, hr_tiles = pack_tiles(hr, recipe.hr.tile)
    else:
        hr_zip, hr_tiles, hr_jpeg = pack_jpeg_tiles(hr, recipe.hr.tile, quality)
    members = {HR_MEMBER: hr_zip}
    streams = []
    made_streams = make_streams(recipe, scene, stream_draws, hr if hr_input is None else hr_input)
    for index, made in enumerate(made_streams):
        members[lr_member(index)] = made.nut
        members[mv_member(index)] = write_blocks(made.blocks)
        streams.append(made.stream)
    sample = Sample(
        schema_version=LOSSY_HR_VERSION if hr_jpeg else SCHEMA_VERSION,
        key=planned.key,
        kind=planned.kind,
        split=planned.split,
        group=planned.group,
        licence=planned.licence,
        attributions=planned.attributions,
        recipe_sha256=recipe.sha256,
        seed=seed,
        clip=planned.clip,
        variant=planned.variant,
        hr_id=scene.hr_id,
        num_frames=len(hr),
        scale=recipe.scale,
        hr_height=scene.height,
        hr_width=scene.width,
        fps=fps,
        hr_sharpened=recipe.hr.sharpen != "off",
        scene_draw=scene.model_dump_json(),
        origins=scene.origins,
        hr_tiles=hr_tiles,
        hr_jpeg=hr_jpeg,
        streams=streams,
    )
    return MadeSample(sample, members)


def make_streams(
    recipe: Recipe, scene: SceneDraw, stream_draws: Sequence[StreamDraw], hr: np.ndarray
) -> Iterable[MadeStream]:
    """Degrade (T, H, W, 3) uint8 RGB frames into every stream of the recipe, lazily.

    Raises:
        CodecError: if an encoder fails.
    """
    shared = apply_stages(Clip(list(hr), []), scene.stages)
    for index, (settings, draw) in enumerate(zip(recipe.streams, stream_draws, strict=True)):
        clip = apply_stages(shared, split_at_last_codec(draw.stages)[0])
        lr = np.stack([_as_uint8(frame) for frame in clip.frames])
        yield make_stream(
            lr, draw, index, settings.name, earlier=clip.generations, shared=scene.stages
        )


def apply_stages(clip: Clip, stages: Sequence[StageDraw]) -> Clip:
    """Apply stages to a clip, codecs included.

    Raises:
        CodecError: if an encoder fails.
    """
    frame_stages: list[FrameStageDraw] = []
    for stage in stages:
        if isinstance(stage, CodecDraw | DenoiseDraw | RetimeDraw):
            clip = _apply_clip_stage(_apply_frame_stages(clip, frame_stages), stage)
            frame_stages = []
        else:
            frame_stages.append(stage)
    return _apply_frame_stages(clip, frame_stages)


def _apply_frame_stages(clip: Clip, stages: Sequence[FrameStageDraw]) -> Clip:
    if not stages:
        return clip
    # Frame by frame, so that only one is held at the sizes in between.
    frames = [
        apply_frame_stages(_as_float(frame), stages, index)
        for index, frame in enumerate(clip.frames)
    ]
    return clip._replace(frames=frames)


def _apply_clip_stage(clip: Clip, stage: CodecDraw | DenoiseDraw | RetimeDraw) -> Clip:
    match stage:
        case RetimeDraw():
            return clip._replace(frames=[clip.frames[index] for index in stage.frames])
        case DenoiseDraw():
            return clip._replace(frames=denoise([_as_uint8(f) for f in clip.frames], stage))
        case CodecDraw():
            frames, generation = transcode(np.stack([_as_uint8(f) for f in clip.frames]), stage)
            return Clip(list(frames), [*clip.generations, generation])


def _as_float(frame: np.ndarray) -> np.ndarray:
    return to_float(frame) if frame.dtype == np.uint8 else frame


def _as_uint8(frame: np.ndarray) -> np.ndarray:
    return frame if frame.dtype == np.uint8 else to_uint8(frame)
