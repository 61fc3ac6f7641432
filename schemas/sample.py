"""What one sample is: an HR patch sequence, K LR streams of it, and how they came to be.

The classes nest to form the `json` member of a sample (`Sample`); the `...Row` classes are
the same fields flattened into the Parquet tables under `index/`.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.draw import Origin, PostStep
from schemas.record import SCHEMA_VERSION, UNKNOWN, Outcome, Record


class FrameType(StrEnum):
    """How a frame was coded. Members are listed in the order of their `code`."""

    I = "I"  # noqa: E741 - the codec's own name
    """Intra: predicted from itself alone."""
    P = "P"
    """Predicted from one reference a block, in every codec here from the past."""
    B = "B"
    """Predicted from up to two references a block, past and future."""

    @property
    def code(self) -> int:
        """The number that stands for this type in tensors: I 0, P 1, B 2."""
        return list(FrameType).index(self)


class SampleKind(StrEnum):
    """What the frames of a sample have to do with each other."""

    CLIP = "clip"
    """Consecutive frames of one video, within one scene."""
    PSEUDO_VIDEO = "pseudo_video"
    """Unrelated patches of images, packed as frames of one video (VCISR, section 3)."""
    CAMERA = "camera"
    """Views of one image, as a virtual camera pans, zooms and turns over it."""


class LrKind(StrEnum):
    """What the bitstream of an LR stream stands for."""

    CODEC = "codec"
    """The degradation itself: the bytes that the codec made."""
    LOSSLESS = "lossless"
    """A container only: the LR frames, stored exactly, since no codec is in their chain."""


class HrTile(Record):
    """One tile of one HR frame: an image file at a byte range of the `hr.zip` member. It is
    lossless WebP, or JPEG if the sample has `hr_jpeg`."""

    frame: int
    """display index of the frame, 0-based"""
    top: int
    """first row of the tile in the HR patch, pixels"""
    left: int
    """first column of the tile in the HR patch, pixels"""
    height: int
    """rows"""
    width: int
    """columns"""
    offset: int
    """first byte of the file inside the member"""
    size: int
    """bytes of the file"""


class HrJpeg(Record):
    """How HR is stored that is not stored exactly: as baseline JPEG files, 4:4:4."""

    quality: int
    """on libjpeg's scale, 1 to 100, as the quantisation tables of all tiles tell"""
    mse: float
    """mean squared difference of stored and exact HR, over all frames, pixels and channels, of
    8-bit levels; the PSNR is 10 log10(255^2 / mse) dB"""


class Frame(Record):
    """One coded frame of one LR stream, as its bitstream and its decoder tell it."""

    display_index: int
    """0-based position in presentation order; row t of every decoded array"""
    coding_index: int
    """0-based position in the stream"""
    frame_type: FrameType
    """I, P or B"""
    key_frame: bool
    """decoding can start here"""
    damaged: bool
    """slices of it were lost, so that its quantisers and vectors are not known"""
    qp_mean: float
    """mean quantiser of the frame in the codec's own scale, -1 where it is not known"""
    qp_min: float
    """least quantiser of a block, -1 where blocks are not told apart"""
    qp_max: float
    """largest quantiser of a block, -1 where blocks are not told apart"""
    packet_position: int
    """first byte of the coded packet inside the `lr<k>.nut` member"""
    packet_bytes: int
    """size of the coded packet, headers included"""
    pts: int
    """presentation time in frames of the stream"""
    dts: int
    """decoding time in frames of the stream: in coding order, as late as every pts allows"""


class CodingFields(Record):
    """How a clip was encoded, as far as the bitstream and its decoder tell it."""

    codec: str
    """FFmpeg's name of the coded format, such as h264"""
    encoder: str
    """FFmpeg's name of the encoder, such as libx264"""
    encoder_build: str
    """the build that wrote the stream, from the bitstream or, where it carries none, the library"""
    settings_from: Literal["bitstream", "draw"]
    """where rate, gop_frames and b_frames were read; draw where the codec stores no settings"""
    rate_mode: Literal["crf", "qscale", "bitrate", "lossless"]
    """rate control: constant rate factor, constant quantiser, average bitrate, or none"""
    rate_value: float
    """the rate factor, the quantiser, or bits per second; 0 for lossless"""
    preset: str
    """the encoder's preset as drawn (no bitstream names it); empty where there is none"""
    gop_frames: int
    """longest distance between key frames that was allowed, frames"""
    b_frames: int
    """most consecutive B frames that were allowed"""
    pixel_format: str
    """FFmpeg's name, such as yuv420p, as decoded"""
    color_matrix: str
    """as the bitstream is tagged: bt709, bt601, rgb or unspecified"""
    color_range: str
    """as the bitstream is tagged: tv, pc or unspecified"""
    fps: float
    """nominal frame rate of the stream, frames per second"""
    coded_height: int
    """rows of the coded picture"""
    coded_width: int
    """columns of the coded picture"""
    stream_bytes: int
    """bytes of all packets"""
    lost_slices: int
    """slices taken out after encoding; the decoder conceals the gaps"""

    @property
    def crf(self) -> float:
        """The constant rate factor, -1 where rate was controlled otherwise, or not at all."""
        return self.rate_value if self.rate_mode == "crf" else UNKNOWN


class Generation(CodingFields):
    """One encode and decode before the last one of a stream."""

    frame_types: str
    """I, P or B of each coded frame, in presentation order, such as IPBBP"""
    qp_mean: float
    """mean quantiser of all frames in the codec's own scale, -1 where it is not known"""


class StreamFields(CodingFields):
    """One LR stream without its frames."""

    stream: int
    """0-based position among the sample's streams; names the members `lr<k>.nut`, `mv<k>.npy`"""
    name: str
    """the recipe's name for it, such as clean or crf25"""
    lr_kind: LrKind
    """codec: the bitstream is the degradation; lossless: it only stores the frames"""
    earlier: list[Generation]
    """encodes and decodes before the stored one, oldest first; the stored one is this record"""
    qp_from: Literal["decoder", "encoder", "none"]
    """who told the quantisers: the bitstream's decoder, the encoder's statistics, or nobody"""
    motion_blocks: int
    """rows of the `mv<k>.npy` member; 0 where the codec gives no vectors"""
    decoded_sha256: str
    """SHA-256 of the LR frames, (T, h, w, 3) uint8 RGB, as the reference decoder returns them"""
    read_matrix: str
    """how the reference decoder takes the YUV: bt709 or bt601; empty for RGB"""
    read_range: str
    """tv or pc; empty for RGB"""
    read_location: str
    """where subsampled chroma sits: left, center or topleft; empty for RGB"""
    read_scaler: str
    """exact, or fast (FFmpeg's default conversion); empty for RGB"""
    draw: str
    """the stream's complete draw (a StreamDraw) as JSON"""
    draw_id: str
    """SHA-256 of all stages from HR to LR: equal where different HR went through the same draw"""


class Stream(StreamFields):
    """One LR stream."""

    post_steps: list[PostStep]
    """what the reference decoder does after the codec, in order: the draw's last stages"""
    frames: list[Frame]
    """in presentation order"""


class SampleFields(Record):
    """One sample without its streams."""

    key: str
    """unique in the dataset; stem of the sample's members"""
    kind: SampleKind
    """clip (consecutive frames), pseudo_video (unrelated patches) or camera (views of one image)"""
    split: str
    """train or validation; decided by the group"""
    group: str
    """what must not be on both sides of the split"""
    licence: str
    """licence of the sources, empty where unknown"""
    attributions: list[str]
    """whom to name, of all sources, each once, in the order of first use"""
    recipe_sha256: str
    """of the resolved recipe"""
    seed: int
    """the dataset's seed"""
    clip: int
    """number of the clip within its source; seeds its draw, with seed, source and variant"""
    variant: int
    """number of the sample among those of the same HR clip"""
    hr_id: str
    """SHA-256 of what decides the HR pixels: equal where the same HR went through several draws;
    empty for a sample that was not made"""
    num_frames: int
    """T, frames of HR and of every stream"""
    scale: int
    """HR size divided by LR size"""
    hr_height: int
    """rows of the HR patch, pixels"""
    hr_width: int
    """columns of the HR patch, pixels"""
    fps: float
    """frame rate of the source, 0 for images"""
    hr_sharpened: bool
    """the HR patch is unsharp masked (Real-ESRGAN's target)"""
    scene_draw: str
    """the draw that all streams share (a SceneDraw) as JSON"""
    origins: list[Origin]
    """where each HR frame came from, in presentation order"""


class Sample(SampleFields):
    """One sample: the `json` member of its tar group."""

    schema_version: str = SCHEMA_VERSION
    """version of this record"""
    hr_tiles: list[HrTile]
    """where each tile of each HR frame lies in the `hr.zip` member"""
    hr_jpeg: HrJpeg | None = Field(default=None, exclude_if=lambda jpeg: jpeg is None)
    """of tiles that are JPEG files; absent where they are lossless WebP files"""
    streams: list[Stream]
    """the LR streams, in the recipe's order"""


class Member(Record):
    """One member of a sample in its shard."""

    name: str
    """extension, such as lr0.nut"""
    offset: int
    """first byte of the member's data inside the tar"""
    size: int
    """bytes"""
    crc32: int
    """zlib.crc32 of the bytes"""


class SampleRow(SampleFields, Outcome):
    """Table `samples`: one row per planned sample, those that failed included."""

    shard: str
    """stem of the shard's files, such as train-000000"""
    index_in_shard: int = UNKNOWN
    """0-based position among the shard's samples, -1 for a sample that was not made"""
    source_ids: list[str]
    """the sources, each once, in the order of first use"""
    members: list[Member]
    """byte ranges in the tar; empty for a sample that was not made"""


class StreamRow(StreamFields):
    """Table `streams`: one row per LR stream of a sample that was made."""

    key: str
    """the sample"""


class FrameRow(Frame):
    """Table `frames`: one row per coded LR frame."""

    key: str
    """the sample"""
    stream: int
    """the stream, 0-based"""
    shard: str
    """stem of the shard's files"""
    tar_offset: int
    """first byte of the coded packet in the shard's tar"""


JSON_MEMBER = "json"
HR_MEMBER = "hr.zip"


def lr_member(stream: int) -> str:
    """The member that holds the bitstream of LR stream `stream`."""
    return f"lr{stream}.nut"


def mv_member(stream: int) -> str:
    """The member that holds the motion vectors of LR stream `stream` (`MOTION_DTYPE`)."""
    return f"mv{stream}.npy"


def member_names(num_streams: int) -> list[str]:
    """Every member of a sample with that many streams, in the order of the tar."""
    per_stream = [f(k) for k in range(num_streams) for f in (lr_member, mv_member)]
    return [JSON_MEMBER, HR_MEMBER, *per_stream]
