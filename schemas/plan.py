"""The committed plan: which samples there will be, from what, in which shard."""

from schemas.record import Record
from schemas.sample import SampleKind


class Span(Record):
    """A run of consecutive frames of a video, or of consecutive grid cells of an image.

    Of a camera clip: its image, and how many frames the camera takes of it.
    """

    source_id: str
    """the source"""
    start: int
    """first frame, or first cell of the image's patch grid, 0-based; 0 for a camera clip"""
    count: int
    """how many"""
    start_pts: int = 0
    """presentation time of the first frame in the video's time base, where it is a video"""
    start_crc32: int = 0
    """zlib.crc32 of that frame's decoded planes, or of a folder's picture; 0 for an image, whose
    file is hashed again"""
    crc32: int = 0
    """zlib.crc32 of all frames' checksums, little-endian uint32; 0 where there are none"""


class PlannedSample(Record):
    """Table `plan`: one row per sample, sorted by generation and shard, one row group per shard."""

    shard: str
    """stem of the shard's files"""
    generation: int = 0
    """0 for what was planned first, 1 for what the first addition of sources planned, ..."""
    key: str
    """the sample's key"""
    kind: SampleKind
    """clip, pseudo_video or camera"""
    split: str
    """train or validation"""
    group: str
    """the source's group; of a pack, the pack's own key"""
    licence: str
    """licence shared by all sources"""
    attributions: list[str] = []
    """whom to name, of all sources, each once, in the order of first use"""
    clip: int
    """number of the clip within its source"""
    variant: int = 0
    """number of the sample among those of the same HR clip"""
    patch: int
    """number of the HR patch within the frame range of a clip; 0 for a pseudo-video; of a camera
    clip, the cell of the image's patch grid that the camera passes"""
    spans: list[Span]
    """one for a clip or a camera clip; in packing order for a pseudo-video"""
    estimated_bytes: int
    """what the sample is expected to weigh"""
