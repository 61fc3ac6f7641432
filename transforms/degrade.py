"""Applying a draw: HR frames in, a finished sample out. Nothing here is random."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.draw import (
    BlurDraw,
    CodecDraw,
    JpegDraw,
    NoiseDraw,
    ResizeDraw,
    SceneDraw,
    StageDraw,
    StreamDraw,
)
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.sample import HR_MEMBER, Sample, lr_member, mv_member
from transforms import filters
from transforms.motion import write_blocks
from transforms.resize import resize
from transforms.streams import make_stream
from transforms.tiles import pack_tiles


class MadeSample(NamedTuple):
    """A sample ready to be written."""

    sample: Sample
    members: dict[str, bytes]
    """every member but the json, by extension"""


def make_sample(
    recipe: Recipe,
    seed: int,
    planned: PlannedSample,
    scene: SceneDraw,
    stream_draws: Sequence[StreamDraw],
    hr: np.ndarray,
    fps: float,
) -> MadeSample:
    """Make a sample as drawn.

    Args:
        recipe: for names, scale and tile size; its ranges play no part any more.
        seed: the dataset's seed, to be recorded.
        planned: the sample's row of the plan.
        scene: what the streams share.
        stream_draws: what each adds.
        hr: (T, H, W, 3) uint8 RGB, the HR patch.
        fps: frame rate of the source, 0 for images; to be recorded.

    Raises:
        CodecError: if an encoder fails.
    """
    hr_zip, hr_tiles = pack_tiles(hr, recipe.hr.tile)
    members = {HR_MEMBER: hr_zip}
    shared = [apply_stages(filters.to_float(f), scene.stages, t) for t, f in enumerate(hr)]
    streams = []
    for index, (settings, draw) in enumerate(zip(recipe.streams, stream_draws, strict=True)):
        made = make_stream(_lr_frames(shared, draw), draw, index, settings.name)
        members[lr_member(index)] = made.nut
        members[mv_member(index)] = write_blocks(made.blocks)
        streams.append(made.stream)
    sample = Sample(
        key=planned.key,
        kind=planned.kind,
        split=planned.split,
        group=planned.group,
        licence=planned.licence,
        recipe_sha256=recipe.sha256,
        seed=seed,
        clip=planned.clip,
        num_frames=len(hr),
        scale=recipe.scale,
        hr_height=scene.height,
        hr_width=scene.width,
        fps=fps,
        scene_draw=scene.model_dump_json(),
        origins=scene.origins,
        hr_tiles=hr_tiles,
        streams=streams,
    )
    return MadeSample(sample, members)


def _lr_frames(shared: Sequence[np.ndarray], draw: StreamDraw) -> np.ndarray:
    """(T, h, w, 3) uint8: the stages that the stream has before its codec."""
    spatial = [stage for stage in draw.stages if not isinstance(stage, CodecDraw)]
    frames = [filters.to_uint8(apply_stages(frame, spatial, t)) for t, frame in enumerate(shared)]
    return np.stack(frames)


def apply_stages(image: np.ndarray, stages: Sequence[StageDraw], frame: int) -> np.ndarray:
    """Apply the stages before the codec to one frame.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        stages: none of them a codec.
        frame: display index, which picks per-frame values.
    """
    for stage in stages:
        image = _apply_stage(image, stage, frame)
    return image


def _apply_stage(image: np.ndarray, stage: StageDraw, frame: int) -> np.ndarray:
    match stage:
        case BlurDraw():
            return filters.blur(image, stage)
        case ResizeDraw():
            return np.clip(resize(image, stage.height, stage.width, stage.kernel), 0, 1)
        case NoiseDraw():
            return filters.noise(image, stage, frame)
        case JpegDraw():
            return filters.jpeg(image, stage, frame)
        case CodecDraw():
            raise TypeError("a codec acts on a clip, not on a frame")
