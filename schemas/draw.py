"""What was drawn: every parameter of a sample, so that making it needs no randomness.

A draw holds only numbers that were decided; a stage that a recipe applies with some
probability is simply absent where it was not drawn, and stages that a recipe shuffles stand in
the order that was drawn. Lists marked "per frame" have one entry for the whole clip, or one a
frame.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from schemas.manifest import sha256_json
from schemas.record import Record

T = TypeVar("T")

BlurKernel = Literal[
    "isotropic",
    "anisotropic",
    "generalized_isotropic",
    "generalized_anisotropic",
    "plateau_isotropic",
    "plateau_anisotropic",
    "sinc",
]
ResizeKernel = Literal[
    "matlab_bicubic",
    "matlab_bilinear",
    "bd",
    "gaussian",
    "area",
    "bilinear",
    "bicubic",
    "torch_area",
    "torch_bilinear",
    "torch_bicubic",
]
NoiseKind = Literal["gaussian", "poisson", "speckle", "camera"]
StillCodec = Literal["jpeg", "webp", "avif", "diffjpeg"]
Codec = Literal[
    "h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "h263p", "vp8", "vp9", "av1", "mjpeg"
]
RateMode = Literal["crf", "qscale", "bitrate"]
PixelFormat = Literal["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
Matrix = Literal["bt709", "bt601"]
ColorRange = Literal["tv", "pc"]
ChromaLocation = Literal["left", "center", "topleft"]


def at(values: Sequence[T], frame: int) -> T:
    """The entry of a per-frame list that holds for a frame."""
    return values[frame if len(values) > 1 else 0]


class BlurDraw(Record):
    """Convolution with a kernel of one family and size, mirrored borders."""

    op: Literal["blur"] = "blur"
    """tells the stages of a draw apart"""
    kernel: BlurKernel
    """the family"""
    size: int
    """taps a side, odd"""
    sigma_x: list[float]
    """per frame: standard deviation along the kernel's first axis, pixels; 0 for sinc"""
    sigma_y: list[float]
    """per frame: standard deviation along its second axis, pixels; 0 for sinc"""
    theta: list[float]
    """per frame: rotation, radians"""
    beta: list[float]
    """per frame: shape of generalised and plateau kernels, 1 otherwise"""
    cutoff: list[float]
    """per frame: cutoff of a sinc kernel, radians a pixel, 0 otherwise"""


class ResizeDraw(Record):
    """Resampling to a size; centres stay where they are, unless `factor` says otherwise."""

    op: Literal["resize"] = "resize"
    """tells the stages of a draw apart"""
    height: list[int]
    """per frame: rows after"""
    width: list[int]
    """per frame: columns after"""
    kernel: ResizeKernel
    """matlab_*: antialiased, MATLAB's imresize; bd: the 12x12 Gaussian of sigma 1.6; gaussian: of
    `sigma`, 25 taps; area, bilinear, bicubic: OpenCV's, aliased; torch_*: torch's interpolate"""
    sigma: float = 0
    """of the gaussian kernel, pixels before; 0 for others"""
    factor: list[float] = []
    """per frame: torch_* kernels take positions from this factor, not from the sizes, as
    interpolate(scale_factor=...) does; empty: from the sizes"""


class NoiseDraw(Record):
    """Noise that is added to each frame."""

    op: Literal["noise"] = "noise"
    """tells the stages of a draw apart"""
    kind: NoiseKind
    """independent of the signal, growing with it as photon counts do, proportional to it, or a
    camera's: shot and read noise of linear light"""
    level: list[float]
    """per frame: standard deviation of Gaussian noise on the 0-255 scale; factor on Poisson noise;
    standard deviation of speckle relative to the signal; shot noise of a camera, variance at full
    signal"""
    read_level: list[float] = [0.0]
    """per frame: read noise of a camera, variance; 0 for others"""
    gray: list[bool]
    """per frame: one pattern for all channels"""
    static: list[bool] = [False]
    """per frame: the pattern is that of all such frames of the clip, not the frame's own"""
    covariance: list[float] = []
    """of Gaussian noise or speckle between channels, 9 numbers row by row, largest eigenvalue at
    most 1; empty: none"""
    bgr: bool = False
    """luma is taken of channels in the wrong order, as VCISR's release does"""
    seed: int
    """of the noise samples"""


class StillDraw(Record):
    """A still picture codec, each frame by itself."""

    op: Literal["still"] = "still"
    """tells the stages of a draw apart"""
    codec: StillCodec
    """diffjpeg: the differentiable JPEG of the Real-ESRGAN family, unlike any real one"""
    quality: list[float]
    """per frame, 1 to 100; whole numbers but for diffjpeg"""
    subsampling: Literal["420", "444"] = "420"
    """of chroma; WebP always is 4:2:0"""
    effort: int = 4
    """of WebP (method 0 to 6) and AVIF (speed, 10 - effort): how hard the encoder tries"""
    truncate: bool = False
    """8 bits are reached by cutting off and wrapping around, as APISR's release does"""
    bgr: bool = False
    """channels are coded in the wrong order, as in VCISR's release"""


class SharpenDraw(Record):
    """Unsharp masking: x + amount * (x - blurred), where that differs by more than a threshold."""

    op: Literal["sharpen"] = "sharpen"
    """tells the stages of a draw apart"""
    amount: list[float]
    """per frame: weight of the detail that is added"""
    sigma: float
    """of the Gaussian blur, pixels"""
    threshold: float
    """least difference that is sharpened, levels 0-255; the mask is blurred alike (Real-ESRGAN)"""


class DenoiseDraw(Record):
    """FFmpeg's hqdn3d, a denoiser over space and time, as transcoders use it."""

    op: Literal["denoise"] = "denoise"
    """tells the stages of a draw apart"""
    strength: float
    """luma strength in space; the others follow in the filter's proportions"""


class RetimeDraw(Record):
    """Frames dropped and shown again."""

    op: Literal["retime"] = "retime"
    """tells the stages of a draw apart"""
    frames: list[int]
    """for each frame after: which frame before it shows"""


class PadDraw(Record):
    """Extension by repeating the border."""

    op: Literal["pad"] = "pad"
    """tells the stages of a draw apart"""
    top: int
    """rows added above"""
    left: int
    """columns added at the left"""
    height: int
    """rows after"""
    width: int
    """columns after"""


class CropDraw(Record):
    """A rectangle cut out."""

    op: Literal["crop"] = "crop"
    """tells the stages of a draw apart"""
    top: int
    """first row that stays"""
    left: int
    """first column that stays"""
    height: int
    """rows after"""
    width: int
    """columns after"""


class ColorDraw(Record):
    """How RGB becomes the codec's YUV, and what a reader takes that YUV for.

    Both sides agree, unless a recipe asks for a player that gets it wrong; the bitstream is
    tagged with what the reader believes, as far as its format has tags.
    """

    written_matrix: Matrix = "bt709"
    """of the conversion to YUV"""
    read_matrix: Matrix = "bt709"
    """of the conversion back"""
    written_range: ColorRange = "tv"
    """limited or full, of the conversion to YUV"""
    read_range: ColorRange = "tv"
    """limited or full, of the conversion back"""
    written_location: ChromaLocation = "left"
    """where subsampled chroma is taken"""
    read_location: ChromaLocation = "left"
    """where it is put back"""
    scaler: Literal["exact", "fast"] = "exact"
    """fast: FFmpeg's default conversion, which darkens by a level (as VCISR's and mmagic's)"""


class LostSlice(Record):
    """A slice that did not arrive; the decoder conceals the gap."""

    packet: int
    """the packet, in coding order"""
    slice: int
    """which of its slices, 0-based"""


class CodecDraw(Record):
    """One encode and decode of the clip, a generation."""

    op: Literal["codec"] = "codec"
    """tells the stages of a draw apart"""
    codec: Codec
    """the coded format"""
    rate_mode: RateMode
    """rate control"""
    rate_value: float
    """the rate factor, the quantiser, or bits per second"""
    max_bitrate: int = 0
    """cap of the video buffering verifier, bits per second; 0: none"""
    buffer_bits: int = 0
    """its buffer; 0: none"""
    preset: str
    """speed of the encoder, by its own name; empty where it has none"""
    tune: str = ""
    """what the encoder is tuned for, by its own name; empty: nothing"""
    profile: str = ""
    """by the encoder's own name; empty: its choice"""
    gop_frames: int
    """longest distance between key frames"""
    scene_cut: bool = True
    """the encoder may put key frames where the scene changes"""
    b_frames: int
    """most consecutive B frames"""
    b_pyramid: bool = True
    """B frames may be references (H.264 and HEVC)"""
    refs: int = 0
    """most reference frames; 0: what the preset says"""
    weighted_prediction: bool = True
    """P frames may weigh their references (H.264 and HEVC), if the preset does"""
    slices: int = 1
    """slices a frame, H.264 only (MPEG-1 and -2 have one a row of blocks)"""
    lost: list[LostSlice] = []
    """what the decoder does not get"""
    pixel_format: PixelFormat
    """chroma subsampling and depth"""
    color: ColorDraw = ColorDraw()
    """the conversions around the codec"""
    fps: int
    """nominal frame rate"""
    height: int
    """rows of the picture that is encoded; those in front of it in the chain have this size"""
    width: int
    """columns of it"""


FrameStageDraw = BlurDraw | ResizeDraw | NoiseDraw | StillDraw | SharpenDraw | PadDraw | CropDraw
"""Stages that act on each frame by itself."""
StageDraw = Annotated[
    FrameStageDraw | DenoiseDraw | RetimeDraw | CodecDraw, Field(discriminator="op")
]
PostStep = Annotated[FrameStageDraw, Field(discriminator="op")]
"""A stage after the last codec, done by the reference decoder."""


class Origin(Record):
    """Where one HR frame came from."""

    source_id: str
    """the source's content hash"""
    frame: int
    """0-based frame of the source; 0 for an image"""
    top: int
    """first row of the rectangle, pixels of the source after orientation and pre-downscale"""
    left: int
    """first column of the rectangle"""


class View(Record):
    """Where a virtual camera over a still picture looks in one frame.

    Positions are those of pixel centres: the first row of the picture lies at 0.
    """

    y: float
    """row of the window's centre, pixels of the picture"""
    x: float
    """column of it"""
    zoom: float
    """pixels of the window per pixel of the picture"""
    angle: float
    """rotation of the window, radians, clockwise as displayed"""


class SceneDraw(Record):
    """What all streams of a sample share. Seeded by (dataset seed, source, clip, variant)."""

    pre_downscale: float = 1
    """sources are shrunk by this first, antialiased bicubic"""
    sharpen: Literal["off", "target", "target_and_input"] = "off"
    """unsharp masking of the stored HR, or also of what is degraded"""
    height: int
    """rows of the HR patch"""
    width: int
    """columns of the HR patch"""
    origins: list[Origin]
    """the rectangle of every frame"""
    views: list[View] = []
    """of every frame, where a virtual camera moves over a still picture; else empty"""
    stages: list[StageDraw]
    """applied to HR, before the streams part"""

    @property
    def hr_id(self) -> str:
        """Identifies the stored HR pixels: what degrades them plays no part."""
        decisive = self.model_dump(mode="json", exclude={"stages", "sharpen"})
        return sha256_json({**decisive, "is_sharpened": self.sharpen != "off"})


class StreamDraw(Record):
    """What one stream adds. Seeded by (dataset seed, source, clip, variant, stream)."""

    stages: list[StageDraw]
    """applied to the outcome of the shared stages"""

    def draw_id(self, shared: Sequence[StageDraw]) -> str:
        """Identifies a degradation, shared stages first: what it is applied to plays no part."""
        return sha256_json([stage.model_dump(mode="json") for stage in (*shared, *self.stages)])
