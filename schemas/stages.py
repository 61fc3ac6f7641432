"""The stages that a recipe's chains are made of, and the ranges that they are drawn from."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.codec_stage import CodecStage
from schemas.draw import BlurKernel, NoiseKind, ResizeKernel, StillCodec
from schemas.number import (
    Number,
    Once,
    Probability,
    Range,
    Scaling,
    Weight,
    between,
    check_between,
    check_odd,
    check_some_weight,
    ends,
)
from schemas.record import Record

_DEFAULT_EFFORT = 4  # of WebP and of AVIF


class _Stage(Record):
    """What all stages share."""

    probability: Probability = 1
    """of being applied"""


class BlurStage(_Stage):
    """Blur with a drawn kernel (Real-ESRGAN, section 3.1)."""

    op: Literal["blur"]
    """names the stage"""
    kernels: Annotated[
        dict[BlurKernel, Weight], Field(min_length=1), AfterValidator(check_some_weight)
    ] = {"isotropic": 1}
    """weights of the kernel families"""
    size: Annotated[Number, between(1, 99), AfterValidator(check_odd), Once] = Range(
        min=7, max=21, step=2
    )
    """taps a side, odd"""
    sigma: Annotated[Number, between(0.01, 50)] = Range(min=0.2, max=3)
    """standard deviation, pixels"""
    theta: Annotated[Number, between(-7, 7)] = Range(min=-math.pi, max=math.pi)
    """rotation of anisotropic kernels, radians"""
    beta_generalized: Annotated[Number, between(0.05, 20)] = Range(min=0.5, max=4)
    """shape of generalised Gaussians"""
    beta_plateau: Annotated[Number, between(0.05, 20)] = Range(min=1, max=2)
    """shape of plateau kernels"""
    cutoff: Annotated[Number, between(0.01, math.pi)] | None = None
    """of sinc kernels, radians a pixel; by default from pi/3 (below 13 taps) or pi/5 to pi"""
    cutoff_walk: Annotated[float, Field(ge=0)] = 0
    """along a clip, the most by which the default cutoff moves from frame to frame"""


class ResizeStage(_Stage):
    """Random resampling on the way down."""

    op: Literal["resize"]
    """names the stage"""
    scaling: Scaling
    """the factor"""
    relative_to: Literal["current", "lr"] = "current"
    """what the factor is of: the size so far, or the LR size"""
    kernels: Annotated[list[ResizeKernel], Field(min_length=1)] = ["area", "bilinear", "bicubic"]
    """one of these, equally likely"""
    sigma: Annotated[Number, between(0.01, 50), Once] = 1.6
    """of the gaussian kernel (BSRGAN), pixels before"""
    nominal: bool = False
    """torch_* kernels: sizes are cut off, positions follow the drawn factor (Real-ESRGAN's release:
    up to a pixel of shift at the right and the bottom)"""

    @model_validator(mode="after")
    def _check_kernels(self) -> Self:
        if "bd" in self.kernels:
            raise ValueError("the bd kernel is for the downscale stage")
        if "gaussian" in self.kernels and (len(self.kernels) > 1 or not self.whole_shrink):
            raise ValueError(
                "the gaussian kernel stands alone, and shrinks the current size by a whole factor: "
                "scaling = { down = 1, keep = 0, down_factor = 0.5 } or 0.25, for example"
            )
        return self

    @property
    def whole_shrink(self) -> int:
        """By which whole number the size is divided for certain; 0: by none."""
        factors = ends(self.scaling.down_factor)
        whole = round(1 / factors[0])
        is_whole = all(abs(factor * whole - 1) < 1e-6 for factor in factors)
        is_certain = not (self.scaling.up or self.scaling.keep or self.scaling.walk)
        return whole if is_whole and is_certain and self.relative_to == "current" else 0


class NoiseStage(_Stage):
    """Additive noise."""

    op: Literal["noise"]
    """names the stage"""
    kinds: Annotated[
        dict[NoiseKind, Weight], Field(min_length=1), AfterValidator(check_some_weight)
    ] = {"gaussian": 1, "poisson": 1}
    """weights of the kinds"""
    sigma: Annotated[Number, between(0, 255)] = Range(min=1, max=30)
    """standard deviation of Gaussian noise on the 0-255 scale"""
    poisson_scale: Annotated[Number, between(0, 100)] = Range(min=0.05, max=3)
    """factor on Poisson noise"""
    speckle: Annotated[Number, between(0, 1)] = Range(min=0.01, max=0.1)
    """standard deviation of speckle relative to the signal"""
    shot: Annotated[Number, between(0, 0.1)] = Range(min=1e-4, max=0.012, spread="log")
    """variance of a camera's shot noise at full linear signal; its read noise follows (Unprocessing
    Images, CVPR 2019, section 3.1)"""
    gray_probability: Probability = 0.4
    """of one pattern for all channels"""
    static_probability: Probability = 0
    """of one pattern for all frames of a clip, as dirt on a lens or a scanned still has it"""
    correlated_probability: Probability = 0
    """of Gaussian noise or speckle that is correlated between channels at random, which then is
    not gray (BSRGAN)"""
    static_gray: bool = False
    """gray Gaussian noise has one pattern for the whole pack (VCISR's release)"""
    bgr: bool = False
    """channels are taken in the wrong order (VCISR's release)"""


class StillStage(_Stage):
    """A still picture codec, on each frame by itself."""

    op: Literal["still"]
    """names the stage"""
    codec: StillCodec = "jpeg"
    """the format"""
    quality: Annotated[Number, between(1, 100)] = Range(min=30, max=95, step=1)
    """1 to 100"""
    subsampling: dict[Literal["420", "444"], Weight] = {"420": 1}
    """weights of the chroma subsamplings; WebP has 4:2:0 only"""
    effort: Annotated[Number, between(0, 10), Once] = _DEFAULT_EFFORT
    """of WebP (method, up to 6) and AVIF (10 - speed)"""
    truncate: bool = False
    """8 bits are reached by cutting off and wrapping around (APISR's release)"""
    bgr: bool = False
    """channels are coded in the wrong order (VCISR's release)"""

    @model_validator(mode="after")
    def _check_subsampling(self) -> Self:
        if self.codec == "webp" and "444" in self.subsampling:
            raise ValueError("webp is 4:2:0 only")
        check_some_weight(self.subsampling)
        if self.codec == "webp":
            check_between(self.effort, 0, 6)
        if self.codec in ("jpeg", "diffjpeg") and self.effort != _DEFAULT_EFFORT:
            raise ValueError(f"{self.codec} has no effort")
        if self.codec == "diffjpeg" and self.truncate:
            raise ValueError("diffjpeg works on real numbers, there is nothing to truncate")
        return self


class SharpenStage(_Stage):
    """Unsharp masking."""

    op: Literal["sharpen"]
    """names the stage"""
    amount: Annotated[Number, between(0, 5)] = 0.5
    """weight of the detail that is added"""
    sigma: Annotated[Number, between(0.1, 20), Once] = Range(min=0.5, max=3)
    """of the Gaussian that splits off the detail, pixels"""
    threshold: Annotated[Number, between(0, 255), Once] = 0
    """least difference that is sharpened, levels 0-255"""


class DenoiseStage(_Stage):
    """FFmpeg's hqdn3d, a denoiser over space and time, as transcoders use it."""

    op: Literal["denoise"]
    """names the stage"""
    strength: Annotated[Number, between(0, 50), Once] = Range(min=1, max=6)
    """luma strength in space; FFmpeg's default is 4"""


class RetimeStage(_Stage):
    """Frames that are dropped; the one before stays on screen. They still pair with HR's frames,
    so nothing is dropped from a pack of patches."""

    op: Literal["retime"]
    """names the stage"""
    freeze_probability: Annotated[Number, between(0, 1), Once] = 0.05
    """of each frame but the first to be dropped"""


class DownscaleStage(Record):
    """Resampling to the LR size; every chain has one, and no resize stage after it."""

    op: Literal["downscale"]
    """names the stage"""
    kernels: Annotated[list[ResizeKernel], Field(min_length=1)] = ["matlab_bicubic"]
    """one of these, equally likely; bd takes an HR patch that was not resized, gaussian is none"""

    @model_validator(mode="after")
    def _check_kernels(self) -> Self:
        if "gaussian" in self.kernels:
            raise ValueError("the gaussian kernel is for resize stages")
        return self


class ShuffleStage(_Stage):
    """Groups of stages in random order."""

    op: Literal["shuffle"]
    """names the stage"""
    groups: Annotated["list[list[Stage]]", Field(min_length=1)]
    """each stays together"""
    keep_order: list[int] = []
    """numbers of groups, 0-based, that keep their order among each other"""

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        unknown = [n for n in self.keep_order if not 0 <= n < len(self.groups)]
        if unknown or len(set(self.keep_order)) != len(self.keep_order):
            raise ValueError(f"keep_order: no groups {unknown or self.keep_order}, count from 0")
        return self


class Branch(Record):
    """Stages that are taken together, and how often."""

    weight: Weight = 1
    """how often, relative to the other branches"""
    stages: "list[Stage]" = []
    """one after the other; none: nothing happens"""


class ChoiceStage(_Stage):
    """One of several branches."""

    op: Literal["choice"]
    """names the stage"""
    branches: Annotated[list[Branch], Field(min_length=1)]
    """one of these, by weight"""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        check_some_weight({index: branch.weight for index, branch in enumerate(self.branches)})
        return self


Stage = Annotated[
    BlurStage
    | ResizeStage
    | NoiseStage
    | StillStage
    | SharpenStage
    | DenoiseStage
    | RetimeStage
    | DownscaleStage
    | CodecStage
    | ShuffleStage
    | ChoiceStage,
    Field(discriminator="op"),
]
