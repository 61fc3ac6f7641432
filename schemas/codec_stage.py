"""The codec in a recipe: which encoders, how they are set, what happens around them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.draw import Codec, PixelFormat, RateMode, ResizeKernel
from schemas.encoders import ENCODERS, EncoderTraits, OptionalSetting
from schemas.number import (
    Number,
    Once,
    Probability,
    Scaling,
    Weight,
    between,
    check_between,
    check_some_weight,
    ends,
)
from schemas.record import Record


class ColorSettings(Record):
    """Conversions around a codec that do not fit each other, on purpose."""

    wrong_matrix_probability: Probability = 0
    """of written BT.601 and read BT.709, or the other way round"""
    wrong_range_probability: Probability = 0
    """of written limited and read full, or the other way round"""
    wrong_location_probability: Probability = 0
    """of chroma that is put back where it was not taken"""
    scaler: Literal["exact", "fast"] = "exact"
    """fast: FFmpeg's default conversion, which darkens by a level and knows no chroma location"""

    @model_validator(mode="after")
    def _check_location(self) -> Self:
        if self.scaler == "fast" and self.wrong_location_probability:
            raise ValueError("the fast scaler knows no chroma location that could be wrong")
        return self


class EncoderSettings(Record):
    """One way to encode, and how often it is taken. What each codec takes: `schemas.encoders`."""

    codec: Codec
    """the coded format"""
    weight: Weight = 1
    """how often, relative to the stage's other encoders"""
    crf: Annotated[Number, Once] | None = None
    """constant rate factor; exactly one of crf, qscale, bits_per_pixel, bits_per_second is given"""
    qscale: Annotated[Number, Once] | None = None
    """constant quantiser, on the codec's own scale"""
    bits_per_pixel: Annotated[Number, between(0.001, 100), Once] | None = None
    """average bitrate, given per pixel so that it means the same at every size"""
    bits_per_second: Annotated[Number, between(1000, 1e9), Once] | None = None
    """average bitrate whatever the size, as some releases have it"""
    max_bits_per_pixel: Annotated[Number, between(0.001, 100), Once] | None = None
    """cap of the bitrate over `buffer_seconds`, as streaming services set it; no less than an
    average bitrate"""
    buffer_seconds: Annotated[Number, between(0.1, 60), Once] = 2
    """of the cap's buffer, which holds one frame at least"""
    presets: Annotated[dict[str, Weight], AfterValidator(check_some_weight)] = {}
    """weights of the encoder's presets; empty: its default"""
    tunes: Annotated[dict[str, Weight], AfterValidator(check_some_weight)] = {"": 1}
    """weights of what the encoder is tuned for; an empty name: for nothing"""
    profiles: Annotated[dict[str, Weight], AfterValidator(check_some_weight)] = {"": 1}
    """weights of profiles; an empty name: the encoder's choice"""
    gop_frames: Annotated[Number, between(1, 600), Once] | None = None
    """longest distance between key frames; by default 250, or what the codec allows"""
    scene_cut: bool = True
    """the encoder may put key frames where the scene changes"""
    b_frames: Annotated[Number, between(0, 16), Once] | None = None
    """most consecutive B frames, fewer than gop_frames; by default 3, 4 (HEVC) or none"""
    b_pyramid: bool = True
    """B frames may be references (H.264 and HEVC)"""
    refs: Annotated[Number, between(0, 16), Once] = 0
    """most reference frames; 0: what the preset says"""
    weighted_prediction: bool = True
    """P frames may weigh their references (H.264 and HEVC), if the preset does"""
    slices: Annotated[Number, between(1, 16), Once] = 1
    """slices a frame (H.264; MPEG-1 and -2 have one a row of blocks)"""
    loss: Annotated[Number, between(0, 0.5), Once] = 0
    """share of slices that are lost after encoding; those of the first frame are kept"""
    pixel_formats: Annotated[dict[PixelFormat, Weight], AfterValidator(check_some_weight)] = {
        "yuv420p": 1
    }
    """weights of chroma subsamplings and depths"""

    @property
    def traits(self) -> EncoderTraits:
        """What the codec takes."""
        return ENCODERS[self.codec]

    @property
    def rate(self) -> tuple[RateMode, Number]:
        """The rate control and its value; of a bitrate the value is per pixel or per second."""
        modes: list[tuple[RateMode, Number | None]] = [
            ("crf", self.crf),
            ("qscale", self.qscale),
            ("bitrate", self.bits_per_pixel),
            ("bitrate", self.bits_per_second),
        ]
        return next((mode, value) for mode, value in modes if value is not None)

    @model_validator(mode="after")
    def _check_rate(self) -> Self:
        given = [self.crf, self.qscale, self.bits_per_pixel, self.bits_per_second]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of crf, qscale, bits_per_pixel and bits_per_second")
        mode, number = self.rate
        if mode not in self.traits.rate_modes:
            raise ValueError(
                f"{self.codec} has no {mode}, only {', '.join(self.traits.rate_modes)}"
            )
        limits = {"crf": self.traits.crf, "qscale": self.traits.qscale}
        if mode in limits:
            check_between(number, *limits[mode])
        return self

    @model_validator(mode="after")
    def _check_what_the_encoder_takes(self) -> Self:
        traits = self.traits
        for what, names, known in (
            ("presets", self.presets, traits.presets),
            ("tunes", self.tunes, ("", *traits.tunes)),
            ("profiles", self.profiles, ("", *traits.profiles)),
            ("pixel formats", self.pixel_formats, traits.pixel_formats),
        ):
            if unknown := set(names) - set(known):
                wanted = f"choose from {known}" if any(known) else "it has none"
                raise ValueError(f"{self.codec}: unknown {what} {sorted(unknown)}, {wanted}")
        if self.b_frames is not None and max(ends(self.b_frames)) > traits.max_b_frames:
            raise ValueError(f"{self.codec} takes {traits.max_b_frames} B frames at most")
        if self.gop_frames is not None and max(ends(self.gop_frames)) > traits.max_gop_frames:
            raise ValueError(f"{self.codec} takes {traits.max_gop_frames} frames a GOP at most")
        asked: dict[OptionalSetting, bool] = {
            "vbv": self.max_bits_per_pixel is not None,
            "refs": self.refs != 0,
            "b_pyramid": not self.b_pyramid,
            "weighted_prediction": not self.weighted_prediction,
            "slices": self.slices != 1,
            "scene_cut": not self.scene_cut,
            "lost": self.loss != 0,
        }
        refused = [
            name for name, is_asked in asked.items() if is_asked and name not in traits.takes
        ]
        if refused:
            raise ValueError(f"{self.codec} has no setting {', '.join(refused)} here")
        if self.max_bits_per_pixel is not None and self.rate[0] not in traits.vbv_rate_modes:
            raise ValueError(f"{self.codec}: a cap goes with {traits.vbv_rate_modes} only")
        return self

    @model_validator(mode="after")
    def _check_what_goes_together(self) -> Self:
        formats = [name for name, weight in self.pixel_formats.items() if weight]
        for profile, weight in self.profiles.items():
            excluded = set(formats) - set(self.traits.profiles.get(profile, formats))
            if weight and excluded:
                raise ValueError(f"{self.codec}: profile {profile} has no {sorted(excluded)}")
        without_b_frames = {"baseline", *self.traits.tunes_without_b_frames} & {
            name for name, weight in (self.profiles | self.tunes).items() if weight
        }
        if without_b_frames and self.b_frames != 0:
            raise ValueError(f"{self.codec}: {sorted(without_b_frames)}: needs b_frames = 0")
        for preset, most in self.traits.max_b_frames_of_preset.items():
            if self.presets.get(preset) and max(ends(self.b_frames or 0)) > most:
                raise ValueError(f"{self.codec}: preset {preset} takes {most} B frames at most")
        if max(ends(self.refs)) > self.traits.max_refs:
            raise ValueError(f"{self.codec} takes {self.traits.max_refs} reference frames at most")
        if (
            self.codec == "av1"
            and self.rate[0] == "bitrate"
            and self.gop_frames is not None
            and min(ends(self.gop_frames)) == 1
        ):
            raise ValueError("av1: a bitrate needs more than one frame a GOP")
        if self.loss != 0 and any(name.endswith("10le") for name in formats):
            raise ValueError("loss: FFmpeg's decoder conceals gaps in 8-bit pictures only")
        if self.loss != 0 and "slices" in self.traits.takes and min(ends(self.slices)) < 2:
            raise ValueError(f"{self.codec}: loss leaves one slice of each frame: needs slices > 1")
        return self


def _check_encoder_weights(encoders: list[EncoderSettings]) -> list[EncoderSettings]:
    check_some_weight({index: encoder.weight for index, encoder in enumerate(encoders)})
    return encoders


class CodecStage(Record):
    """A real video codec: the clip is encoded and decoded."""

    op: Literal["codec"]
    """names the stage"""
    probability: Probability = 1
    """of being applied"""
    encoders: Annotated[
        list[EncoderSettings], Field(min_length=1), AfterValidator(_check_encoder_weights)
    ]
    """one of these, by weight"""
    fps: Annotated[Number, between(1, 240), Once] = 25
    """nominal frame rate, whole frames per second; MPEG-1 and MPEG-2 take the nearest they know"""
    frame_rate_ratio: Annotated[Number, between(0.1, 1), Once] = 1
    """share of the frames that are encoded; each then stays on screen until the next. Only for a
    codec that another one follows, since the stored bitstream has every frame, and not for packs of
    patches, whose frames are different pictures"""
    width_ratio: Scaling = Scaling()
    """anamorphic storage: the encoded width over the width before; decoded, it is scaled back"""
    size_ratio: Scaling = Scaling()
    """ladder: the encoded size over the size before, both ways; decoded, it is scaled back"""
    resize_kernels: Annotated[list[ResizeKernel], Field(min_length=1)] = ["matlab_bicubic"]
    """of both, there and back; one of these, equally likely"""
    grid_shift: Annotated[Number, between(0, 63), Once] = 0
    """rows and columns by which the picture is off the codec's block grid, drawn for each"""
    color: ColorSettings = ColorSettings()
    """conversions that do not fit each other"""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.width_ratio.walk or self.size_ratio.walk:
            raise ValueError("a codec has one size along a clip: width_ratio, size_ratio: no walk")
        if {"bd", "gaussian"} & set(self.resize_kernels):
            raise ValueError("the bd and gaussian kernels are not for resize_kernels")
        return self
