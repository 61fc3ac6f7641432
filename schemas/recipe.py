"""Everything that decides a dataset's content, apart from its inputs and its seed."""

import difflib
import tomllib
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from schemas.draw import BlurKernel, Codec, PixelFormat, RateMode, ResizeKernel
from schemas.manifest import sha256_json
from schemas.record import Record

Key = TypeVar("Key")


class Range(Record):
    """A number drawn uniformly."""

    min: float
    """least value"""
    max: float
    """largest value"""
    step: float = 0
    """draw among min, min + step, ... up to max; 0 draws a real number"""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max or self.step < 0:
            raise ValueError(f"{self.min = }, {self.max = }, {self.step = }: need min <= max")
        return self


Number = float | Range | Annotated[list[float], Field(min_length=1)]
"""A fixed value, `{min, max, step}` (uniform), or a list (one of them, equally likely)."""


def _ends(number: Number) -> list[float]:
    if isinstance(number, Range):
        return [number.min, number.max]
    return number if isinstance(number, list) else [number]


def _check_between(number: Number, least: float, most: float) -> None:
    for value in _ends(number):
        if not least <= value <= most:
            raise ValueError(f"{value:g} is not between {least:g} and {most:g}")


def _between(least: float, most: float) -> AfterValidator:
    def check(number: Number) -> Number:
        _check_between(number, least, most)
        return number

    return AfterValidator(check)


def _check_odd(number: Number) -> Number:
    # A kernel with an even number of taps has no middle, and shifts the picture by half a pixel.
    steps = [number.step] if isinstance(number, Range) and number.min < number.max else [2.0]
    if any(value % 2 != 1 for value in _ends(number)) or any(s <= 0 or s % 2 for s in steps):
        raise ValueError("give odd whole numbers; a range of them needs an even step")
    return number


def _check_some_weight(weights: dict[Key, float]) -> dict[Key, float]:
    if weights and not sum(weights.values()):
        raise ValueError("all weights are 0")
    return weights


Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class HrSettings(Record):
    """What the ground truth of a sample is."""

    patch_height: Annotated[int, Field(ge=0)] = 256
    """rows of the HR patch, a multiple of 2 * scale; 0 takes whole frames"""
    patch_width: Annotated[int, Field(ge=0)] = 256
    """columns of the HR patch, a multiple of 2 * scale; 0 takes whole frames"""
    tile: Annotated[int, Field(ge=16)] = 256
    """side of the tiles in which HR is stored, pixels"""
    pre_downscale: Annotated[float, Field(ge=1)] = 1
    """shrink sources first (antialiased bicubic): for soft or already compressed sources"""
    min_std: Annotated[float, Field(ge=0)] = 3
    """leave out patches whose luma varies less than this standard deviation, 0-255"""
    max_bar_share: Probability = 0.04
    """leave out sources with black bars on more than this share of their rows or columns"""
    keep_interlaced: bool = False
    """take videos that are flagged as interlaced, combing and all"""


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


class PseudoVideoSettings(Record):
    """How images are packed into pseudo-videos."""

    frames: Annotated[int, Field(ge=1)] = 32
    """patches in a pack, at most; the last pack of a split is shorter"""
    patches_per_image: Annotated[int, Field(ge=1)] = 16
    """HR patches taken from an image, side by side, at most"""


class Scaling(Record):
    """A size factor: up, down or neither."""

    up: Weight = 0
    """weight of enlarging"""
    down: Weight = 0
    """weight of shrinking"""
    keep: Weight = 1
    """weight of leaving the size alone"""
    up_factor: Annotated[Number, _between(1, 8)] = Range(min=1, max=1.5)
    """factor when enlarging"""
    down_factor: Annotated[Number, _between(0.01, 1)] = Range(min=0.5, max=1)
    """factor when shrinking"""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.up + self.down + self.keep == 0:
            raise ValueError("the weights of up, down and keep are all 0")
        return self


class BlurStage(Record):
    """Blur with a drawn kernel (Real-ESRGAN, section 3.2)."""

    op: Literal["blur"]
    """names the stage"""
    probability: Probability = 1
    """of being applied"""
    kernels: Annotated[
        dict[BlurKernel, Weight], Field(min_length=1), AfterValidator(_check_some_weight)
    ] = {"isotropic": 1}
    """weights of the kernel families"""
    size: Annotated[Number, _between(1, 99), AfterValidator(_check_odd)] = Range(
        min=7, max=21, step=2
    )
    """taps a side, odd"""
    sigma: Annotated[Number, _between(0.01, 50)] = Range(min=0.2, max=3)
    """standard deviation, pixels"""
    beta_generalized: Annotated[Number, _between(0.05, 20)] = Range(min=0.5, max=4)
    """shape of generalised Gaussians"""
    beta_plateau: Annotated[Number, _between(0.05, 20)] = Range(min=1, max=2)
    """shape of plateau kernels"""


class ResizeStage(Record):
    """Random resampling on the way down."""

    op: Literal["resize"]
    """names the stage"""
    scaling: Scaling
    """the factor"""
    relative_to: Literal["current", "lr"] = "current"
    """what the factor is of: the size so far, or the LR size"""
    kernels: Annotated[list[ResizeKernel], Field(min_length=1)] = ["area", "bilinear", "bicubic"]
    """one of these, equally likely"""


class NoiseStage(Record):
    """Gaussian or Poisson noise."""

    op: Literal["noise"]
    """names the stage"""
    gaussian_probability: Probability = 0.5
    """of Gaussian noise; Poisson noise otherwise"""
    sigma: Annotated[Number, _between(0, 255)] = Range(min=1, max=30)
    """standard deviation of Gaussian noise on the 0-255 scale"""
    poisson_scale: Annotated[Number, _between(0, 100)] = Range(min=0.05, max=3)
    """factor on Poisson noise"""
    gray_probability: Probability = 0.4
    """of one pattern for all channels"""


class JpegStage(Record):
    """JPEG compression of each frame."""

    op: Literal["jpeg"]
    """names the stage"""
    quality: Annotated[Number, _between(1, 100)] = Range(min=30, max=95, step=1)
    """JPEG quality, 1 to 100"""


class DownscaleStage(Record):
    """Resampling to the LR size; every chain needs one, before its first codec."""

    op: Literal["downscale"]
    """names the stage"""
    kernels: Annotated[list[ResizeKernel], Field(min_length=1)] = ["matlab_bicubic"]
    """one of these, equally likely"""


RATE_MODES: dict[Codec, tuple[RateMode, ...]] = {
    "h264": ("crf", "qscale", "bitrate"),
    "hevc": ("crf", "qscale", "bitrate"),
    "mpeg4": ("qscale", "bitrate"),
    "mpeg2video": ("qscale", "bitrate"),
}
"""The rate controls of each codec."""
MAX_QSCALE: dict[Codec, int] = {"h264": 51, "hevc": 51, "mpeg4": 31, "mpeg2video": 31}
"""The coarsest quantiser of each codec; the finest is 1."""
PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
"""Presets of x264 and x265; the MPEG encoders have none."""


class EncoderSettings(Record):
    """One way to encode, and how often it is taken."""

    codec: Codec
    """the coded format"""
    weight: Weight = 1
    """how often, relative to the stage's other encoders"""
    crf: Annotated[Number, _between(1, 51)] | None = None
    """constant rate factor, 1 to 51; exactly one of crf, qscale, bits_per_pixel is given"""
    qscale: Number | None = None
    """constant quantiser: QP (1-51) of H.264 and HEVC, quantiser scale (1-31) of the MPEG codecs"""
    bits_per_pixel: Annotated[Number, _between(0.001, 100)] | None = None
    """average bitrate, given per pixel so that it means the same at every size"""
    presets: Annotated[dict[str, Weight], AfterValidator(_check_some_weight)] = {}
    """weights of the encoder's presets; none for the MPEG codecs, default medium"""
    gop_frames: Annotated[Number, _between(1, 600)] = 250
    """longest distance between key frames"""
    b_frames: Annotated[Number, _between(0, 16)] = 3
    """most consecutive B frames; fewer than gop_frames"""
    pixel_format: PixelFormat = "yuv420p"
    """chroma subsampling"""

    @property
    def rate(self) -> tuple[RateMode, Number]:
        """The rate control and its value; of a bitrate the value is bits per pixel."""
        modes: dict[RateMode, Number | None] = {
            "crf": self.crf,
            "qscale": self.qscale,
            "bitrate": self.bits_per_pixel,
        }
        return next((mode, value) for mode, value in modes.items() if value is not None)

    @model_validator(mode="after")
    def _check_what_the_encoder_takes(self) -> Self:
        given = [
            value for value in (self.crf, self.qscale, self.bits_per_pixel) if value is not None
        ]
        if len(given) != 1:
            raise ValueError("give exactly one of crf, qscale and bits_per_pixel")
        if self.rate[0] not in RATE_MODES[self.codec]:
            raise ValueError(f"{self.codec} has no {self.rate[0]}, only {RATE_MODES[self.codec]}")
        if self.qscale is not None:
            _check_between(self.qscale, 1, MAX_QSCALE[self.codec])
        has_presets = self.codec in ("h264", "hevc")
        if self.presets and not has_presets:
            raise ValueError(f"{self.codec} has no presets")
        if unknown := set(self.presets) - set(PRESETS):
            raise ValueError(f"unknown presets {sorted(unknown)}, choose from {PRESETS}")
        if self.codec == "mpeg2video" and self.pixel_format != "yuv420p":
            raise ValueError("mpeg2video takes yuv420p here")
        if self.codec == "mpeg4" and self.pixel_format != "yuv420p":
            raise ValueError("mpeg4 takes yuv420p only")
        return self


def _check_encoder_weights(encoders: list[EncoderSettings]) -> list[EncoderSettings]:
    _check_some_weight({index: encoder.weight for index, encoder in enumerate(encoders)})
    return encoders


class CodecStage(Record):
    """A real video codec: the clip is encoded and decoded."""

    op: Literal["codec"]
    """names the stage"""
    encoders: Annotated[
        list[EncoderSettings], Field(min_length=1), AfterValidator(_check_encoder_weights)
    ]
    """one of these, by weight"""
    fps: Annotated[Number, _between(1, 240)] = 25
    """nominal frame rate, whole frames per second (MPEG-2 always takes 25)"""
    width_ratio: Scaling = Scaling()
    """anamorphic storage: the encoded width over the LR width"""


Stage = Annotated[
    BlurStage | ResizeStage | NoiseStage | JpegStage | DownscaleStage | CodecStage,
    Field(discriminator="op"),
]


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
        if any(stage.op == "codec" for stage in self.shared):
            raise ValueError("shared: a codec belongs to a stream, whose bitstream is stored")
        for stream in self.streams:
            _check_chain(stream.name, [*self.shared, *stream.stages], self.scale)
        return self

    @property
    def sha256(self) -> str:
        """Identifies the resolved recipe."""
        return sha256_json(self.model_dump(mode="json"))


def _check_chain(name: str, chain: list[Stage], scale: int) -> None:
    ops = [stage.op for stage in chain]
    if ops.count("downscale") != 1:
        raise ValueError(f"stream {name!r} needs exactly one downscale stage, has {ops}")
    downscale = ops.index("downscale")
    if "resize" in ops[downscale:] or "codec" in ops[:downscale]:
        raise ValueError(f"stream {name!r}: resize before downscale, codec after it, has {ops}")
    if ops.count("codec") > 1 or "codec" in ops[:-1]:
        raise ValueError(f"stream {name!r}: a codec is the last stage, has {ops}")
    uses_bd = [i for i, s in enumerate(chain) if "bd" in getattr(s, "kernels", ())]
    if uses_bd and (uses_bd != [downscale] or "resize" in ops or scale != 4):
        raise ValueError(
            f"stream {name!r}: the bd kernel is the x4 downscale of an unresized HR patch"
        )


class RecipeError(ValueError):
    """The text is not a recipe; the message says where and what would be right."""


class _YamlLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML would let win silently."""

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
    try:
        fields = tomllib.loads(text) if syntax == "toml" else yaml.load(text, _YamlLoader)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{origin} is not {syntax.upper()}: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{origin} holds no table of settings")
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise RecipeError("\n  ".join([f"{origin} is not a recipe:", *lines])) from error


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join(path) or "recipe"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    similar = difflib.get_close_matches(path[-1], _all_keys(), n=1)
    return f"{where}: unknown key" + (f", did you mean {similar[0]!r}?" if similar else "")


def _all_keys() -> list[str]:
    records = [value for value in globals().values() if isinstance(value, type(Record))]
    return [key for record in records for key in record.model_fields]
