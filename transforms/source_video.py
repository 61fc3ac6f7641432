"""Foreign video: what may be opened, how its colours are read, how its frames were coded.

The demuxer goes by a file's first bytes, never by its name. FFmpeg may use those named here and
the one file it was given, so that a playlist cannot open others.

Colour policy. An untagged YUV matrix is BT.601 below 720 rows and BT.709 from there. An
untagged range is limited, of yuvj formats full. HDR (PQ, HLG, BT.2020 transfer) and BT.2020
primaries are refused: there is no tone or gamut mapping here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
from av.video.frame import PictureType

from schemas.record import UNKNOWN
from schemas.sample import FrameType
from transforms.color import is_gray, is_rgb
from transforms.pictures import MAX_PIXELS

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,obu,ivf,nut,"
    "flv,asf,ogg,yuv4mpegpipe,mxf"
)
OPEN_OPTIONS = {
    "format_whitelist": DEMUXERS,
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
}

SNIFFED_BYTES = 1024
_DEMUXER_BY_START = {
    b"\x1aE\xdf\xa3": "matroska",
    b"FLV": "flv",
    b"OggS": "ogg",
    b"DKIF": "ivf",
    b"YUV4MPEG2": "yuv4mpegpipe",
    b"nut/multimedia container": "nut",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\x06\x0e\x2b\x34": "mxf",
    b"\x12\0\x0a": "obu",
    b"\0\0\1\xba": "mpeg",
    b"\0\0\1\xb3": "mpegvideo",
    b"\0\0\1": "",  # H.264, HEVC, MPEG-4: FFmpeg tells them apart
    b"\0\0\0\1": "",
}
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"free", b"skip", b"wide", b"pnot")
_ISO_STILL_BRANDS = (b"avif", b"heic", b"heix", b"mif1")  # pictures in the container of MP4
_TS_PACKET_BYTES = (188, 192)

_UNTAGGED = 2
_HDR_TRANSFERS = {14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084 (PQ)", 18: "arib-std-b67 (HLG)"}
_BT2020_PRIMARIES = 9
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m"}
_RANGES = {1: "tv", 2: "pc"}
_HD_ROWS = 720

# The rarer kinds: switching pictures, MPEG-4's sprites, intra pictures in the place of B frames.
_FRAME_TYPES = {
    PictureType.I: FrameType.I,
    PictureType.SI: FrameType.I,
    PictureType.BI: FrameType.I,
    PictureType.P: FrameType.P,
    PictureType.SP: FrameType.P,
    PictureType.S: FrameType.P,
    PictureType.B: FrameType.B,
}


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's demuxer for a video that starts like this; empty where FFmpeg must find out.

    Args:
        head: the first SNIFFED_BYTES bytes.

    Returns:
        None if it is no video.
    """
    if head[4:8] in _ISO_BOXES:
        return "mov" if head[8:12] not in _ISO_STILL_BRANDS else None
    if is_riff(head, b"AVI "):
        return "avi"
    if any(head[size - 188 :: size][:4] == b"GGGG" for size in _TS_PACKET_BYTES):
        return "mpegts"
    found = (name for start, name in _DEMUXER_BY_START.items() if head.startswith(start))
    return next(found, None)


def is_riff(head: bytes, form: bytes) -> bool:
    """Whether a file that starts like this is a RIFF file of that form."""
    return head[:4] == b"RIFF" and head[8:12] == form


class ColorError(Exception):
    """A video's colours cannot be read.

    Attributes:
        reason: short code to count by: hdr, wide_gamut or unsupported_matrix.
        detail: one line for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Color:
    """How the pixels of a video are to be read."""

    matrix: str
    """FFmpeg's name of the YUV matrix, empty for RGB"""
    range: str
    """tv or pc, empty for RGB"""
    origin: str
    """tags, or assumed where the file does not say"""


def color_of(frame: av.VideoFrame) -> Color:
    """How to read a video, by the tags of its first frame and the policy above.

    Raises:
        ColorError: hdr, wide_gamut or unsupported_matrix.
    """
    if frame.color_trc in _HDR_TRANSFERS:
        raise ColorError("hdr", f"transfer {_HDR_TRANSFERS[frame.color_trc]}")
    if _BT2020_PRIMARIES in (frame.color_primaries, frame.colorspace):
        raise ColorError("wide_gamut", "BT.2020 primaries or matrix")
    if is_rgb(frame):
        return Color(matrix="", range="", origin="tags")
    is_jpeg = frame.format.name.startswith("yuvj")
    color_range = "pc" if is_jpeg else _RANGES.get(int(frame.color_range))
    matrix = _matrix_of(frame)
    origin = "tags" if matrix and color_range else "assumed"
    assumed = "bt709" if frame.height >= _HD_ROWS else "bt601"
    return Color(matrix=matrix or assumed, range=color_range or "tv", origin=origin)


def _matrix_of(frame: av.VideoFrame) -> str | None:
    tag = int(frame.colorspace)
    if tag in (_UNTAGGED, *_MATRICES) or is_gray(frame):
        return _MATRICES.get(tag)
    raise ColorError("unsupported_matrix", f"YUV matrix {tag} of ITU-T H.273")


class SourceFrame(NamedTuple):
    """A decoded frame and where its packet was."""

    picture: av.VideoFrame
    """decoded with motion vectors, where the decoder exports any"""
    coding_index: int
    """position of its packet in the stream"""


class SourceCoding(NamedTuple):
    """How a frame was coded (`transforms.motion.Coding`)."""

    coding_index: int
    """position in the stream"""
    frame_type: FrameType | None
    """None where the decoder does not tell"""
    key_frame: bool
    """nothing refers across it"""

    @property
    def code(self) -> int:
        """The type's number in tensors, -1 where it is not known."""
        return UNKNOWN if self.frame_type is None else self.frame_type.code


def source_coding(frames: Sequence[SourceFrame]) -> list[SourceCoding]:
    """How frames that follow each other were coded, as their decoder tells.

    Args:
        frames: in presentation order.

    Returns:
        One for each frame. A key frame that others are shown before, though they are coded after
        it and may refer across it (of an open GOP), does not count as one.
    """
    codings, latest = [], UNKNOWN
    for picture, index in frames:
        is_closed = picture.key_frame and latest < index
        latest = max(latest, index)
        frame_type = _FRAME_TYPES.get(PictureType(picture.pict_type))
        codings.append(SourceCoding(index, frame_type, is_closed))
    return codings
