"""What was drawn: every parameter of a sample, so that making it needs no randomness.

A draw holds only numbers that were decided; a stage that a recipe applies with some
probability is simply absent where it was not drawn. Per-frame lists have one entry a frame.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.record import Record
from schemas.sample import Origin

BlurKernel = Literal[
    "isotropic",
    "anisotropic",
    "generalized_isotropic",
    "generalized_anisotropic",
    "plateau_isotropic",
    "plateau_anisotropic",
    "sinc",
]
ResizeKernel = Literal["matlab_bicubic", "bd", "area", "bilinear", "bicubic"]
Codec = Literal["h264", "hevc", "mpeg4", "mpeg2video"]
RateMode = Literal["crf", "qscale", "bitrate"]
PixelFormat = Literal["yuv420p", "yuv444p"]


class BlurDraw(Record):
    """Convolution with one kernel, mirrored borders; the same for every frame."""

    op: Literal["blur"] = "blur"
    """tells the stages of a draw apart"""
    kernel: BlurKernel
    """the family"""
    size: int
    """taps a side, odd"""
    sigma_x: float
    """standard deviation along the kernel's first axis, pixels; 0 for sinc"""
    sigma_y: float
    """standard deviation along its second axis, pixels; 0 for sinc"""
    theta: float
    """rotation, radians"""
    beta: float
    """shape of generalised and plateau kernels, 1 otherwise"""
    cutoff: float
    """cutoff of a sinc kernel, radians a pixel, 0 otherwise"""


class ResizeDraw(Record):
    """Resampling to a size; centres stay where they are."""

    op: Literal["resize"] = "resize"
    """tells the stages of a draw apart"""
    height: int
    """rows after"""
    width: int
    """columns after"""
    kernel: ResizeKernel
    """matlab_bicubic is antialiased, bd the 12x12 Gaussian; the others are OpenCV's, aliased"""


class NoiseDraw(Record):
    """Additive Gaussian or signal-dependent Poisson noise, fresh in every frame."""

    op: Literal["noise"] = "noise"
    """tells the stages of a draw apart"""
    kind: Literal["gaussian", "poisson"]
    """independent of the signal, or growing with it"""
    level: list[float]
    """per frame: standard deviation on the 0-255 scale, or the Poisson scale"""
    gray: list[bool]
    """per frame: one pattern for all channels"""
    seed: int
    """of the noise samples"""


class JpegDraw(Record):
    """JPEG, 4:2:0, each frame by itself."""

    op: Literal["jpeg"] = "jpeg"
    """tells the stages of a draw apart"""
    quality: list[int]
    """per frame, 1 to 100"""


class CodecDraw(Record):
    """One encode and decode of the clip."""

    op: Literal["codec"] = "codec"
    """tells the stages of a draw apart"""
    codec: Codec
    """the coded format"""
    rate_mode: RateMode
    """rate control"""
    rate_value: float
    """the rate factor, the quantiser, or bits per second"""
    preset: str
    """empty where the encoder has none"""
    gop_frames: int
    """longest distance between key frames"""
    b_frames: int
    """most consecutive B frames"""
    pixel_format: PixelFormat
    """chroma subsampling"""
    fps: int
    """nominal frame rate"""
    height: int
    """rows of the picture that is encoded, before padding"""
    width: int
    """columns of it; differs from the LR width where the picture is stored anamorphic"""


StageDraw = Annotated[
    BlurDraw | ResizeDraw | NoiseDraw | JpegDraw | CodecDraw, Field(discriminator="op")
]


class SceneDraw(Record):
    """What all streams of a sample share. Seeded by (dataset seed, source, clip)."""

    height: int
    """rows of the HR patch"""
    width: int
    """columns of the HR patch"""
    origins: list[Origin]
    """the rectangle of every frame"""
    stages: list[StageDraw]
    """applied to HR, before the streams part"""


class StreamDraw(Record):
    """What one stream adds. Seeded by (dataset seed, source, clip, stream)."""

    stages: list[StageDraw]
    """applied to the outcome of the shared stages"""
