"""What a source is: content, known by its hash, that may lie at several places."""

from enum import StrEnum

from schemas.record import UNKNOWN, Outcome

TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)
"""The sides of the split. All that belongs together lies on one of them."""


class SourceKind(StrEnum):
    """What the content is."""

    IMAGE = "image"
    """One still picture."""
    VIDEO = "video"
    """One video file."""
    FRAMES = "frames"
    """A folder of numbered pictures that is a clip."""
    UNKNOWN = "unknown"
    """Not recognised as media."""


class Source(Outcome):
    """Table `sources`: one row per distinct content, those left out too; by generation, then id."""

    source_id: str
    """SHA-256 of the file, or of the ordered SHA-256 of a folder's frames; empty if unreadable"""
    kind: SourceKind
    """image, video, frames or unknown"""
    uris: list[str]
    """everywhere the content was found, relative to the inputs, sorted"""
    group: str
    """what must stay on one side of the split: this source and everything akin to it"""
    group_labels: list[str] = []
    """groups that the user's source list puts it into, sorted; its group holds all of theirs"""
    split: str
    """train or validation; empty for a source that is not used"""
    licence: str
    """licence as the user's source list gives it, empty where unknown"""
    attribution: str
    """whom to name, as the user's source list gives it"""
    generation: int = 0
    """0 if it was there from the first, 1 if the first addition of sources brought it, ..."""
    size: int
    """bytes of the file, or of all frames of the folder"""
    width: int = UNKNOWN
    """columns after orientation, pixels"""
    height: int = UNKNOWN
    """rows after orientation, pixels"""
    num_frames: int = UNKNOWN
    """decoded frames"""
    fps: float = 0.0
    """average frame rate, 0 for images and frame folders"""
    codec: str = ""
    """FFmpeg's name of the coded format, or the image format"""
    pixel_format: str = ""
    """FFmpeg's or Pillow's name"""
    color_matrix: str = ""
    """YUV matrix used to read it, empty for RGB"""
    color_range: str = ""
    """tv or pc, empty for RGB"""
    color_from: str = ""
    """tags, or assumed where the file does not say"""
    rotation: int = 0
    """degrees counter-clockwise by which frames were turned on reading"""
    interlaced: bool = False
    """a frame is flagged as interlaced"""
    variable_frame_rate: bool = False
    """frames are not evenly spaced; they are taken one by one all the same"""
