"""From HR clips to LR as coded: BD downsampling, then x264 at its defaults over the whole clip.

The settings are those of the shipped recipes `cavsr` (4:2:0) and `cavsr-444`, but for the rate
factor; frame types and motion are read back from the bitstream.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from schemas.codec_stage import CodecStage
from schemas.draw import SceneDraw, StreamDraw
from schemas.encoders import ENCODERS
from schemas.recipe import Recipe, StreamSettings
from schemas.recipe_files import load_recipe
from training.config import UserError
from transforms.codec import CodecError
from transforms.degrade import make_streams
from transforms.draw_stages import ChainDrawer
from transforms.motion import Flow, dense_flow, lr_size
from transforms.seeding import generator

PixelFormat = Literal["yuv420p", "yuv444p"]

SCALE = 4
"""HR size divided by LR size: the BD kernel is one for a factor of 4."""
CRF_RANGE = ENCODERS["h264"].crf
"""(least, most) of x264."""

_RECIPES: dict[PixelFormat, str] = {"yuv420p": "cavsr", "yuv444p": "cavsr-444"}
_SUBSAMPLINGS: dict[PixelFormat, str] = {"yuv420p": "4:2:0", "yuv444p": "4:4:4"}


@dataclasses.dataclass(frozen=True)
class Condition:
    """How the LR clip is compressed."""

    crf: float | None = None
    """x264's rate factor; None where it is not compressed"""
    pixel_format: PixelFormat = "yuv420p"
    """chroma subsampling; no matter where it is not compressed"""

    @property
    def label(self) -> str:
        """Such as CRF 25 4:2:0; clean where it is not compressed."""
        return (
            "clean" if self.crf is None else f"CRF {self.crf:g} {_SUBSAMPLINGS[self.pixel_format]}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodedClip:
    """An LR clip, and what its bitstream says of it."""

    condition: Condition
    """how it is compressed"""
    lr: np.ndarray
    """(T, h, w, 3) uint8 RGB"""
    frame_types: str
    """I, P or B for each frame; without compression, those of lossless H.264"""
    frame_type: np.ndarray
    """(T,) int64, `FrameType.code`"""
    flow: Flow
    """the codec's motion, (T, h, w, ...)"""
    stream_bytes: int
    """size of the bitstream; without compression, of lossless H.264"""
    encoder_build: str
    """what the encoder says of itself; empty where it does not"""


def conditions_of(
    crfs: Sequence[float | None], pixel_formats: Sequence[PixelFormat]
) -> list[Condition]:
    """All combinations, in the order of pixel formats, each once; clean has no pixel format."""
    every = [
        Condition() if crf is None else Condition(crf, pixel_format)
        for pixel_format in pixel_formats
        for crf in crfs
    ]
    return list(dict.fromkeys(every))


def degrade(hr: np.ndarray, conditions: Sequence[Condition]) -> Iterator[CodedClip]:
    """Downsample and compress a clip in each way, lazily.

    Args:
        hr: (T, 4 * h, 4 * w, 3) uint8 RGB.
        conditions: the ways.

    Raises:
        UserError: if the encoder refuses, such as pictures that are too large.
    """
    size = (hr.shape[1], hr.shape[2])
    streams = [_stream_settings(condition) for condition in conditions]
    recipe = load_recipe("cavsr").model_copy(update={"streams": streams})
    scene = SceneDraw(
        height=size[0],
        width=size[1],
        origins=[],
        stages=_chain(recipe, hr).draw(recipe.shared, _nothing_random()),
    )
    draws = [_stream_draw(recipe, hr, scene, stream) for stream in streams]
    try:
        for condition, made in zip(conditions, make_streams(recipe, scene, draws, hr), strict=True):
            records, stream = made.stream.frames, made.stream
            yield CodedClip(
                condition=condition,
                lr=made.decoded,
                frame_types="".join(frame.frame_type for frame in records),
                frame_type=np.array([frame.frame_type.code for frame in records], np.int64),
                flow=dense_flow(made.blocks, stream, *lr_size(stream), 0, len(records)),
                stream_bytes=stream.stream_bytes,
                encoder_build=stream.encoder_build,
            )
    except CodecError as error:
        raise UserError(
            f"a clip of {len(hr)} frames of {size[1]}x{size[0]} cannot be coded ({error}): "
            "leave it out"
        ) from error


def _stream_settings(condition: Condition) -> StreamSettings:
    if condition.crf is None:
        return StreamSettings(name="clean")
    (stage,) = load_recipe(_RECIPES[condition.pixel_format]).streams[-1].stages
    assert isinstance(stage, CodecStage)
    encoder = stage.encoders[0].model_copy(update={"crf": condition.crf})
    return StreamSettings(name="coded", stages=[stage.model_copy(update={"encoders": [encoder]})])


def _stream_draw(
    recipe: Recipe, hr: np.ndarray, scene: SceneDraw, stream: StreamSettings
) -> StreamDraw:
    chain = _chain(recipe, hr)
    chain.follow(scene.stages)
    return StreamDraw(stages=chain.draw(stream.stages, _nothing_random()))


def _chain(recipe: Recipe, hr: np.ndarray) -> ChainDrawer:
    return ChainDrawer((hr.shape[1], hr.shape[2]), recipe.scale, len(hr))


def _nothing_random() -> np.random.Generator:
    """What a chain of fixed values takes, and does not use."""
    return generator("evaluation")
