"""Everything that decides a dataset's content, apart from its inputs and its seed."""

import re
import tomllib
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from schemas.chain import check_chain, flat
from schemas.codec_stage import CodecStage, EncoderSettings
from schemas.manifest import sha256_json
from schemas.number import Number, Once, Probability, Range, between
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION, Record
from schemas.source import TRAIN
from schemas.stages import Stage
from schemas.wording import did_you_mean


class HrSettings(Record):
    """What the ground truth of a sample is."""

    patch_height: Annotated[int, Field(ge=0)] = 256
    """rows of the HR patch, a multiple of 2 * scale; 0 takes whole frames"""
    patch_width: Annotated[int, Field(ge=0)] = 256
    """columns of the HR patch, a multiple of 2 * scale; 0 takes whole frames"""
    tile: Annotated[int, Field(ge=16)] = 256
    """side of the tiles in which HR is stored, pixels"""
    jpeg_quality: Annotated[int, Field(ge=75, le=100)] | None = Field(
        default=None, exclude_if=lambda quality: quality is None
    )
    """of the train split's stored HR, as JPEG 4:4:4: smaller and faster to read and write, but not
    exact; none: lossless WebP, as the validation split always has it"""
    pre_downscale: Annotated[float, Field(ge=1)] = 1
    """shrink sources first (antialiased bicubic): for soft or already compressed sources"""
    min_std: Annotated[float, Field(ge=0)] = 3
    """leave out patches whose luma varies less than this standard deviation, 0-255"""
    max_bar_share: Probability = 0.04
    """leave out sources with black bars on more than this share of their rows or columns"""
    keep_interlaced: bool = False
    """take videos that are flagged as interlaced, combing and all"""
    sharpen: Literal["off", "target", "target_and_input"] = "off"
    """unsharp masking of the stored HR (Real-ESRGAN's target), or also of what is degraded"""

    def stored_quality(self, split: str) -> int | None:
        """The JPEG quality of a split's stored HR; None where it is exact, as it always is in
        validation: metrics compare with it."""
        return self.jpeg_quality if split == TRAIN else None


class ClipSettings(Record):
    """How videos and frame folders are cut into clips."""

    frames: Annotated[int, Field(ge=1)] = 32
    """frames encoded together, at least; up to twice as many, so that none is lost"""
    min_frames: Annotated[int, Field(ge=0)] = 0
    """leave out shorter scenes, of sources that are longer as a whole; 0: as many as frames"""
    patches: Annotated[int, Field(ge=1)] = 1
    """HR patches per clip, side by side, at most"""
    scene_cut_score: Annotated[float, Field(gt=0, le=100)] = 10
    """FFmpeg's scdet score from which on a frame starts a new scene"""


class CameraSettings(Record):
    """How a virtual camera moves over a still picture; each number is drawn once a clip."""

    pan: Annotated[Number, between(0, 64), Once] = Range(min=0, max=6)
    """speed, HR pixels a frame, in a random direction"""
    zoom: Annotated[Number, between(0.9, 1.1), Once] = Range(min=0.99, max=1.01)
    """factor a frame"""
    turn: Annotated[Number, between(-0.1, 0.1), Once] = Range(min=-0.005, max=0.005)
    """rotation, radians a frame"""
    jitter: Annotated[Number, between(0, 16), Once] = Range(min=0, max=1)
    """standard deviation of the shake, HR pixels, fresh in every frame"""


class PseudoVideoSettings(Record):
    """How images are packed into pseudo-videos."""

    packing: Literal["patches", "camera", "intra"] = "patches"
    """patches: neighbouring patches, as VCISR has it; camera: views of one image as a camera moves
    over it, so that prediction between frames works; intra: patches, each frame coded alone"""
    frames: Annotated[int, Field(ge=1)] = 32
    """frames of a pack, at most; the last pack of patches of a split is shorter"""
    patches_per_image: Annotated[int, Field(ge=1)] = 16
    """HR patches taken from an image, side by side, at most; or camera clips"""
    camera: CameraSettings = CameraSettings()
    """the motion of camera packing"""


class StreamSettings(Record):
    """One LR stream of every sample."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    """such as clean or crf25"""
    stages: list[Stage] = []
    """applied after the shared ones; without a codec the stream is stored losslessly"""


class Recipe(Record):
    """A dataset's recipe."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    """of the dataset's degradation"""
    source: str = ""
    """where its numbers come from"""
    scale: Annotated[int, Field(ge=1, le=8)] = 4
    """HR size divided by LR size"""
    validation_fraction: Probability = 0.1
    """share of groups that go to the validation split; 0 for no such split"""
    shard_mib: Annotated[float, Field(gt=0)] = 256
    """size of a shard to aim at, MiB"""
    variants: Annotated[int, Field(ge=1, le=100)] = 1
    """samples of each HR clip, each with draws of its own"""
    num_draws: Annotated[int, Field(ge=0)] = 0
    """draws that all samples share among them, dealt by hash, those of one HR clip in turn; 0: each
    sample has its own"""
    hr: HrSettings = HrSettings()
    """the ground truth"""
    clips: ClipSettings = ClipSettings()
    """from videos"""
    pseudo_video: PseudoVideoSettings = PseudoVideoSettings()
    """from images"""
    shared: list[Stage] = []
    """stages that all streams of a sample share, with the same draw"""
    streams: Annotated[list[StreamSettings], Field(min_length=1)]
    """the LR streams of a sample"""

    @field_validator("streams")
    @classmethod
    def _check_names(cls, streams: list[StreamSettings]) -> list[StreamSettings]:
        names = [stream.name for stream in streams]
        if len(set(names)) != len(names):
            raise ValueError(f"two streams have the same name: {names}")
        return streams

    @model_validator(mode="after")
    def _check_geometry(self) -> Self:
        unit = 2 * self.scale
        for side in ("patch_height", "patch_width"):
            if getattr(self.hr, side) % unit:
                raise ValueError(
                    f"hr.{side} is {getattr(self.hr, side)}: make it a multiple of {unit} "
                    "(2 * scale), so that LR sizes are even"
                )
        if (self.hr.patch_height == 0) != (self.hr.patch_width == 0):
            raise ValueError("hr.patch_height and hr.patch_width are both 0, or neither")
        if self.clips.min_frames > self.clips.frames:
            raise ValueError("clips.min_frames exceeds clips.frames")
        return self

    @model_validator(mode="after")
    def _check_chains(self) -> Self:
        for stream in self.streams:
            check_chain(stream.name, self.shared, stream.stages, self.scale)
        no_intra = any(e.codec == "av1" and e.rate[0] == "bitrate" for e in self.encoders)
        if self.pseudo_video.packing == "intra" and no_intra:
            raise ValueError("av1 has no bitrate where every frame is coded alone (intra packing)")
        return self

    @model_validator(mode="after")
    def _check_draws(self) -> Self:
        if 0 < self.num_draws < self.variants:
            raise ValueError(
                f"variants is {self.variants}, num_draws {self.num_draws}: some variants of a clip "
                "would be equal; make num_draws as large, or 0"
            )
        return self

    @property
    def stages(self) -> list[Stage]:
        """Every stage that may be drawn, those inside shuffles and choices included."""
        chains = [self.shared, *(stream.stages for stream in self.streams)]
        return [stage for chain in chains for stage in flat(chain)]

    @property
    def encoders(self) -> list[EncoderSettings]:
        """Every encoder that may be drawn."""
        codecs = [stage for stage in self.stages if isinstance(stage, CodecStage)]
        return [encoder for stage in codecs for encoder in stage.encoders]

    @property
    def sha256(self) -> str:
        """Identifies the resolved recipe."""
        return sha256_json(self.model_dump(mode="json"))

    @property
    def schema_version(self) -> str:
        """Of the manifest of a dataset that is made by it."""
        return SCHEMA_VERSION if self.hr.jpeg_quality is None else LOSSY_HR_VERSION


class RecipeError(ValueError):
    """The text is not a recipe; the message says where and what would be right."""


MAX_CHARACTERS = 2**20
"""Of a recipe: a thousand times what the shipped ones have."""
# YAML's scalars are read by Python's own functions, which raise what they like.
_SYNTAX_ERRORS = (yaml.YAMLError, ValueError, KeyError, OverflowError, RecursionError)


class _YamlLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML would let win silently, and aliases, with
    which a few lines can stand for billions."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not taken: write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for index, key in enumerate(keys) if key in keys[:index]]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def parse_recipe(text: str, syntax: Literal["toml", "yaml"], origin: str) -> Recipe:
    """Read a recipe.

    Args:
        text: the file's content.
        syntax: how it is written.
        origin: names the file in messages.

    Raises:
        RecipeError: if it cannot be parsed, has unknown keys, or asks for what is not possible.
    """
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"{origin} is no recipe: it has more than {MAX_CHARACTERS} characters")
    try:
        fields = tomllib.loads(text) if syntax == "toml" else yaml.load(text, _YamlLoader)
    except _SYNTAX_ERRORS as error:
        raise RecipeError(f"{origin} is not {syntax.upper()}: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{origin} holds no table of settings")
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise RecipeError("\n  ".join([f"{origin} is not a recipe:", *lines])) from error


def _explain(problem: Any) -> str:
    path, context = [str(part) for part in problem["loc"]], problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            what = "unknown key" + did_you_mean(path[-1], _all_keys())
        case "union_tag_invalid":
            path.append(context["discriminator"].strip("'"))
            what = _unknown_name(context["tag"], context["expected_tags"])
        case "union_tag_not_found":
            path.append(context["discriminator"].strip("'"))
            what = "Field required"
        case "literal_error":
            path = path[:-2] if path[-1] == "[key]" else path
            what = _unknown_name(str(problem["input"]), context["expected"])
        case _:
            what = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(path) or 'recipe'}: {what}"


def _unknown_name(written: str, expected: str) -> str:
    known = re.findall("'([^']*)'", expected)
    return f"unknown name {written!r}{did_you_mean(written, known)} (known: {', '.join(known)})"


def _all_keys() -> list[str]:
    schema = Recipe.model_json_schema()
    return [
        key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", ())
    ]
