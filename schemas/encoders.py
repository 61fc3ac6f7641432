"""What each codec's encoder takes: the one table that recipes are checked against.

`transforms.codec` turns a draw into these encoders' own options. What the table does not list
cannot be asked for, so no label ever names a setting that had no effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.draw import Codec, ColorDraw, PixelFormat, RateMode

OptionalSetting = Literal[
    "vbv", "refs", "b_pyramid", "weighted_prediction", "slices", "scene_cut", "lost"
]
"""Fields of a `CodecDraw` that not every encoder has; vbv: `max_bitrate` and `buffer_bits`; lost:
slices can be taken out of the stream."""


@dataclass(frozen=True, kw_only=True)
class EncoderTraits:
    """One codec: who writes and reads it, and with which settings.

    Ranges are inclusive. A value of (0, 0) means that there is no such rate mode.
    """

    encoder: str
    """FFmpeg's name of the encoder"""
    decoder: str
    """FFmpeg's name of the decoder"""
    rate_modes: tuple[RateMode, ...]
    """rate controls"""
    crf: tuple[float, float] = (0, 0)
    """rate factors, best to worst"""
    whole_crf: bool = False
    """the rate factor is a whole number; tenths otherwise"""
    qscale: tuple[int, int] = (0, 0)
    """constant quantisers, finest to coarsest, in the encoder's own scale"""
    max_bitrate: int = 1_000_000_000
    """most bits per second; more is drawn as that"""
    bitrate_step: int = 1
    """bitrates and buffers are multiples of this, bits; the encoder would round others"""
    presets: tuple[str, ...] = ()
    """names of its speeds, fastest first: libvpx's cpu-used, SVT-AV1's preset numbers"""
    default_preset: str = ""
    """the one to take where none is asked for"""
    tunes: tuple[str, ...] = ()
    """what it can be tuned for"""
    tunes_without_b_frames: frozenset[str] = frozenset()
    """those of them that it refuses along with B frames"""
    profiles: Mapping[str, tuple[PixelFormat, ...]] = field(default_factory=dict)
    """profiles that can be asked for, upper limits all, and the pixel formats that each allows"""
    pixel_formats: tuple[PixelFormat, ...] = ("yuv420p",)
    """chroma subsampling and depth, FFmpeg's names"""
    max_b_frames: int = 0
    """most consecutive B frames"""
    max_b_frames_of_preset: Mapping[str, int] = field(default_factory=dict)
    """presets that take fewer, since they look ahead no further"""
    max_refs: int = 16
    """most reference frames"""
    max_gop_frames: int = 600
    """longest distance between key frames"""
    frame_rates: tuple[int, ...] = ()
    """the only frame rates it knows; empty: any"""
    takes: frozenset[OptionalSetting] = frozenset()
    """optional settings; what is not here stays at its default in a `CodecDraw`"""
    vbv_rate_modes: tuple[RateMode, ...] = ()
    """rate controls under which a bitrate cap holds"""
    default_color: ColorDraw
    """what a correct player takes the stream for"""


_X264_PRESETS = (
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
_X264_TUNES = (
    "film",
    "animation",
    "grain",
    "stillimage",
    "psnr",
    "ssim",
    "fastdecode",
    "zerolatency",
)
_CPU_USED = ("5", "4", "3", "2", "1", "0")
_420: tuple[PixelFormat, ...] = ("yuv420p",)
_420_10: tuple[PixelFormat, ...] = ("yuv420p10le",)
_422: tuple[PixelFormat, ...] = ("yuv422p", "yuv422p10le")
_444: tuple[PixelFormat, ...] = ("yuv444p", "yuv444p10le")
_ALL_FORMATS = _420 + _420_10 + _422 + _444


def _color(
    matrix: Literal["bt709", "bt601"],
    color_range: Literal["tv", "pc"],
    location: Literal["left", "center"],
) -> ColorDraw:
    return ColorDraw(
        written_matrix=matrix,
        read_matrix=matrix,
        written_range=color_range,
        read_range=color_range,
        written_location=location,
        read_location=location,
    )


_BT709 = _color("bt709", "tv", "left")
# H.261's picture, kept by H.263 and MPEG-1: chroma in the middle of four luma samples, and the
# studio colours of its day. Neither stream has a field that could say otherwise.
_H261 = _color("bt601", "tv", "center")
# RFC 6386 knows one colour space, that of BT.601; a bitstream cannot ask for another. It leaves
# the siting open, and players take for left what is not tagged.
_VP8 = _color("bt601", "tv", "left")
# JFIF: BT.601, full range, chroma centred.
_JFIF = _color("bt601", "pc", "center")

ENCODERS: dict[Codec, EncoderTraits] = {
    "h264": EncoderTraits(
        encoder="libx264",
        decoder="h264",
        rate_modes=("crf", "qscale", "bitrate"),
        crf=(1, 51),
        qscale=(1, 51),
        bitrate_step=1000,
        presets=_X264_PRESETS,
        default_preset="medium",
        tunes=_X264_TUNES,
        profiles={
            "baseline": _420,
            "main": _420,
            "high": _420,
            "high10": _420 + _420_10,
            "high422": _420 + _420_10 + _422,
            "high444": _ALL_FORMATS,
        },
        pixel_formats=_ALL_FORMATS,
        max_b_frames=16,
        takes=frozenset(
            {"vbv", "refs", "b_pyramid", "weighted_prediction", "slices", "scene_cut", "lost"}
        ),
        vbv_rate_modes=("crf", "bitrate"),
        default_color=_BT709,
    ),
    "hevc": EncoderTraits(
        encoder="libx265",
        decoder="hevc",
        rate_modes=("crf", "qscale", "bitrate"),
        crf=(1, 51),
        qscale=(1, 51),
        bitrate_step=1000,
        presets=_X264_PRESETS,
        default_preset="medium",
        tunes=("animation", "grain", "psnr", "ssim", "fastdecode", "zerolatency"),
        tunes_without_b_frames=frozenset({"zerolatency"}),
        profiles={
            "main": _420,
            "main10": _420 + _420_10,
            "main422-10": _420 + _420_10 + _422,
            "main444-8": ("yuv420p", "yuv422p", "yuv444p"),
            "main444-10": _ALL_FORMATS,
        },
        pixel_formats=_ALL_FORMATS,
        max_b_frames=8,
        max_b_frames_of_preset={"ultrafast": 4},
        max_refs=8,
        takes=frozenset({"vbv", "refs", "b_pyramid", "weighted_prediction", "scene_cut"}),
        vbv_rate_modes=("crf", "bitrate"),
        default_color=_BT709,
    ),
    "mpeg4": EncoderTraits(
        encoder="mpeg4",
        decoder="mpeg4",
        rate_modes=("qscale", "bitrate"),
        qscale=(1, 31),
        max_b_frames=16,
        takes=frozenset({"vbv", "scene_cut"}),
        vbv_rate_modes=("bitrate",),
        default_color=_BT709,  # what ISO/IEC 14496-2 says of a stream without tags, as ours are
    ),
    "mpeg2video": EncoderTraits(
        encoder="mpeg2video",
        decoder="mpeg2video",
        rate_modes=("qscale", "bitrate"),
        qscale=(1, 31),
        pixel_formats=("yuv420p", "yuv422p"),
        max_b_frames=16,
        frame_rates=(24, 25, 30, 50, 60),
        takes=frozenset({"vbv", "scene_cut", "lost"}),
        vbv_rate_modes=("bitrate",),
        default_color=_BT709,
    ),
    "mpeg1video": EncoderTraits(
        encoder="mpeg1video",
        decoder="mpeg1video",
        rate_modes=("qscale", "bitrate"),
        qscale=(1, 31),
        max_b_frames=16,
        frame_rates=(24, 25, 30, 50, 60),
        takes=frozenset({"vbv", "scene_cut"}),  # a frame is one slice, which cannot be lost
        vbv_rate_modes=("bitrate",),
        default_color=_H261,
    ),
    "h263p": EncoderTraits(
        encoder="h263p",
        decoder="h263",
        rate_modes=("qscale", "bitrate"),
        qscale=(3, 31),  # its key frames are never finer
        takes=frozenset({"scene_cut"}),
        default_color=_H261,
    ),
    "vp8": EncoderTraits(
        encoder="libvpx",
        decoder="vp8",
        # Its rate factor only works below a bitrate ceiling, so it is none.
        rate_modes=("qscale", "bitrate"),
        qscale=(1, 63),
        bitrate_step=1000,
        presets=_CPU_USED,
        default_preset="4",
        tunes=("ssim",),
        takes=frozenset({"scene_cut"}),
        default_color=_VP8,
    ),
    "vp9": EncoderTraits(
        encoder="libvpx-vp9",
        decoder="vp9",
        rate_modes=("crf", "qscale", "bitrate"),
        crf=(1, 63),
        whole_crf=True,
        qscale=(1, 63),
        bitrate_step=1000,
        presets=_CPU_USED,
        default_preset="4",
        pixel_formats=("yuv420p", "yuv422p", "yuv444p"),
        takes=frozenset({"scene_cut"}),
        default_color=_BT709,
    ),
    "av1": EncoderTraits(
        encoder="libsvtav1",
        decoder="libdav1d",
        rate_modes=("crf", "bitrate"),
        crf=(1, 63),
        whole_crf=True,
        presets=tuple(str(number) for number in range(13, -1, -1)),
        default_preset="10",
        pixel_formats=("yuv420p", "yuv420p10le"),
        max_bitrate=100_000_000,
        takes=frozenset({"scene_cut"}),  # it puts no key frames of its own
        default_color=_BT709,
    ),
    "mjpeg": EncoderTraits(
        encoder="mjpeg",
        decoder="mjpeg",
        rate_modes=("qscale", "bitrate"),
        qscale=(1, 31),
        pixel_formats=("yuv420p", "yuv422p", "yuv444p"),
        max_gop_frames=1,
        default_color=_JFIF,
    ),
}
"""What each codec takes."""
