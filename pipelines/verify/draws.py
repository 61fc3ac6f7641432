"""The stored draw of a sample against what its record says was made."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.audit.bounds import draw_problem, plan_problem
from pipelines.audit.fields import differing_fields
from pipelines.verify.problem import Problem
from schemas.draw import CodecDraw, ColorDraw, SceneDraw, StageDraw, StreamDraw
from schemas.encoders import ENCODERS
from schemas.manifest import Environment
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION, Record
from schemas.sample import (
    JSON_MEMBER,
    CodingFields,
    LrKind,
    Sample,
    SampleKind,
    Stream,
)
from schemas.source import Source
from transforms.codec import LOSSLESS_CODEC, LOSSLESS_ENCODER
from transforms.draw import draw_scene, draw_stream, hr_size
from transforms.motion import lr_size
from transforms.streams import split_at_last_codec

_LAST_DIGITS = 1e-9


class SampleDraw(NamedTuple):
    """The draws that a sample's record holds."""

    scene: SceneDraw
    streams: list[StreamDraw]

    def stored_codec(self, stream: int) -> CodecDraw | None:
        """How the codec was drawn whose bitstream is stored; None where there is none."""
        return split_at_last_codec(self.streams[stream].stages)[1]


def read_draw(sample: Sample) -> SampleDraw | Problem:
    """The draws in a record, or what is wrong with them."""
    try:
        draw = SampleDraw(
            SceneDraw.model_validate_json(sample.scene_draw),
            [StreamDraw.model_validate_json(stream.draw) for stream in sample.streams],
        )
        for index in range(len(draw.streams)):
            draw.stored_codec(index)
    except ValueError as error:  # pydantic's, and of an order that cannot be
        return Problem("draw", JSON_MEMBER, f"no draw: {error}")
    return draw


def draw_problems(
    sample: Sample, draw: SampleDraw, recipe: Recipe, environment: Environment
) -> Iterator[Problem]:
    """Compare a record with the draws that it holds.

    Args:
        sample: the record.
        draw: its draws.
        recipe: the dataset's.
        environment: what the dataset was made with.
    """
    scene = draw.scene
    yield from _compare("", _sample_claims(sample), _scene_says(sample, scene, recipe))
    if len(sample.streams) != len(recipe.streams):
        told = f"{len(sample.streams)} streams, the recipe has {len(recipe.streams)}"
        yield Problem("streams", JSON_MEMBER, told)
        return
    for index, stream in enumerate(sample.streams):
        before, codec, after = split_at_last_codec(draw.streams[index].stages)
        name = f"stream {index}: "
        claims = {
            "stream": stream.stream,
            "name": stream.name,
            "draw_id": stream.draw_id,
            "post_steps": stream.post_steps,
            "frame_count": len(stream.frames),
            "lr_size": lr_size(stream),
            "encoder_build": stream.encoder_build,
            "lr_kind": stream.lr_kind,
            "settings_from": stream.settings_from,
        }
        says = {
            "stream": index,
            "name": recipe.streams[index].name,
            "draw_id": draw.streams[index].draw_id(scene.stages),
            "post_steps": after,
            "frame_count": sample.num_frames,
            "lr_size": (scene.height // recipe.scale, scene.width // recipe.scale),
            "encoder_build": environment.encoders.get(stream.codec),
            "lr_kind": LrKind.CODEC if codec else LrKind.LOSSLESS,
            "settings_from": "bitstream" if stream.codec == "h264" else "draw",
        }
        yield from _compare(name, claims, says)
        yield from _compare(name, _stored_claims(stream), _codec_says(codec))
        yield from earlier_problems(name, stream, [*scene.stages, *before], environment)


class Planned(NamedTuple):
    """What a sample was drawn from, beside the recipe."""

    row: PlannedSample
    """its row of the plan"""
    sources: Mapping[str, Source]
    """all of the dataset, by id"""
    seed: int
    """the dataset's"""


def planned_problems(
    sample: Sample, draw: SampleDraw, planned: Planned, recipe: Recipe, *, is_drawn_again: bool
) -> Iterator[Problem]:
    """Compare draws with what they were drawn from.

    Args:
        sample: the record.
        draw: its draws.
        planned: its row of the plan, and the sources.
        recipe: the dataset's.
        is_drawn_again: draw once more, which takes the same version of NumPy.
    """
    row, sources, seed = planned
    if told := plan_problem(row, sources, recipe):
        yield Problem("planned", JSON_MEMBER, told)
        return
    if told := draw_problem(row, sources, recipe, draw.scene, draw.streams):
        yield Problem("draw", JSON_MEMBER, told)
    ids = {span.source_id for span in row.spans}
    fps = sources[row.spans[0].source_id].fps
    if sample.fps != fps:
        told = f"the record says {sample.fps:g}, the table of sources {fps:g}"
        yield Problem("fps", JSON_MEMBER, told)
    if not is_drawn_again:
        return
    sizes = {name: hr_size(recipe, sources[name].height, sources[name].width) for name in ids}
    scene = draw_scene(recipe, seed, row, sizes)
    again = [draw_stream(recipe, seed, row, scene, k) for k in range(len(recipe.streams))]
    yield from _drawn_differently("scene_draw", draw.scene, scene)
    for index, (found, wanted) in enumerate(zip(draw.streams, again, strict=False)):
        yield from _drawn_differently(f"stream {index}", found, wanted)


def _drawn_differently(where: str, found: Record, again: Record) -> Iterator[Problem]:
    pair = found.model_dump(mode="json"), again.model_dump(mode="json")
    for name, one, other in differing_fields(*pair):
        # C libraries differ in the last digits of logarithms.
        is_number = isinstance(one, float) and isinstance(other, float)
        if not is_number or not math.isclose(one, other, rel_tol=_LAST_DIGITS):
            told = f"{where}: {name} is {_short(one)}, drawn again {_short(other)}"
            yield Problem("drawn", JSON_MEMBER, told)
            return


def _compare(where: str, claims: Mapping[str, Any], says: Mapping[str, Any]) -> Iterator[Problem]:
    for name, wanted in says.items():
        if claims[name] != wanted:
            told = f"{where}the record says {_short(claims[name])}, drawn was {_short(wanted)}"
            yield Problem(name, JSON_MEMBER, told)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _sample_claims(sample: Sample) -> dict[str, Any]:
    return {
        "scene_draw": sample.scene_draw,
        "origins": sample.origins,
        "hr_id": sample.hr_id,
        "hr_size": (sample.hr_height, sample.hr_width),
        "hr_sharpened": sample.hr_sharpened,
        "num_frames": sample.num_frames,
        "num_views": sample.num_frames if sample.kind is SampleKind.CAMERA else 0,
        "sharpen": sample.hr_sharpened,
        "scale": sample.scale,
        "schema_version": sample.schema_version,
        "hr_jpeg": sample.hr_jpeg.quality if sample.hr_jpeg else None,
    }


def _scene_says(sample: Sample, scene: SceneDraw, recipe: Recipe) -> dict[str, Any]:
    quality = recipe.hr.stored_quality(sample.split)
    return {
        "scene_draw": scene.model_dump_json(),
        "origins": scene.origins,
        "hr_id": scene.hr_id,
        "hr_size": (scene.height, scene.width),
        "hr_sharpened": scene.sharpen != "off",
        "num_frames": len(scene.origins),
        "num_views": len(scene.views),
        "sharpen": recipe.hr.sharpen != "off",
        "scale": recipe.scale,
        "schema_version": SCHEMA_VERSION if quality is None else LOSSY_HR_VERSION,
        "hr_jpeg": quality,
    }


def _stored_claims(stream: Stream) -> dict[str, Any]:
    read = ("read_matrix", "read_range", "read_location", "read_scaler")
    return _claims(stream) | {name: getattr(stream, name) for name in read}


def _claims(fields: CodingFields) -> dict[str, Any]:
    names = (
        *("codec", "encoder", "rate_mode", "rate_value", "preset", "gop_frames", "b_frames"),
        *("fps", "coded_height", "coded_width", "lost_slices"),
    )
    claims = {name: getattr(fields, name) for name in names}
    return {**claims, "pixel_format": plain_format(fields.pixel_format)}


def _codec_says(codec: CodecDraw | None) -> dict[str, Any]:
    """The fields of a stream's record; of a lossless one those that are the same for all."""
    if codec is None:
        read = dict.fromkeys(("read_matrix", "read_range", "read_location", "read_scaler"), "")
        fixed = {"codec": LOSSLESS_CODEC, "encoder": LOSSLESS_ENCODER, "rate_mode": "lossless"}
        return {**read, **fixed, "rate_value": 0, "preset": "", "lost_slices": 0}
    color: ColorDraw = codec.color
    read = {
        "read_matrix": color.read_matrix,
        "read_range": color.read_range,
        "read_location": color.read_location,
        "read_scaler": color.scaler,
    }
    return {**_coding_says(codec), **read}


def plain_format(pixel_format: str) -> str:
    """Decoders call 8-bit YUV of full range by a name of its own."""
    return pixel_format.replace("yuvj", "yuv")


def _coding_says(codec: CodecDraw) -> dict[str, Any]:
    return {
        "codec": codec.codec,
        "encoder": ENCODERS[codec.codec].encoder,
        "rate_mode": codec.rate_mode,
        "rate_value": codec.rate_value,
        "preset": codec.preset,
        "gop_frames": codec.gop_frames,
        "b_frames": codec.b_frames,
        "fps": codec.fps,
        "coded_height": codec.height,
        "coded_width": codec.width,
        "lost_slices": len(codec.lost),
        "pixel_format": codec.pixel_format,
    }


def earlier_problems(
    where: str, stream: Stream, stages: Sequence[StageDraw], environment: Environment
) -> Iterator[Problem]:
    """The generations before the stored one, of which no bitstream is left."""
    codecs = [stage for stage in stages if isinstance(stage, CodecDraw)]
    if len(codecs) != len(stream.earlier):
        told = f"{where}{len(stream.earlier)} earlier generations, drawn were {len(codecs)}"
        yield Problem("earlier", JSON_MEMBER, told)
        return
    for index, (generation, codec) in enumerate(zip(stream.earlier, codecs, strict=True)):
        name = f"{where}generation {index}: "
        build = {"encoder_build": environment.encoders.get(codec.codec)}
        yield from _compare(name, {"encoder_build": generation.encoder_build}, build)
        yield from _compare(name, _claims(generation), _coding_says(codec))
