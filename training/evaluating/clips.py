"""Which clips a folder holds, and reading them.

- A folder inside with pictures is a clip of its frames, sorted by the numbers in their names.
- A video file is a clip.
- Pictures that lie in the folder itself are clips of one frame each; but where all of them are of
  one size and named by number alone (00000001.png, frame_12.png, im3.png), they are one clip.

Hidden files are passed over; so are, with a line that says so, files in the folder itself that are
neither pictures nor videos by their first bytes.
"""

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from schemas.wording import counted
from training.config import UserError
from training.evaluating.degradation import SCALE
from training.inputs import Source, open_source
from training.picture_files import by_numbers, visible
from training.video_input import open_video
from transforms.color import source_to_rgb
from transforms.pictures import is_picture
from transforms.source_video import (
    OPEN_OPTIONS,
    SNIFFED_BYTES,
    Color,
    ColorError,
    color_of,
    demuxer_of,
)

logger = logging.getLogger(__name__)

MAX_CLIP_BYTES = 2**30
"""Clips whose frames take more as 8-bit RGB are refused: they are held in memory several times."""

_NUMBERED = re.compile(r"(frame|img|im|f)?[ _.-]*\d+", re.IGNORECASE)
_DECODER_OPTIONS = {
    "err_detect": "crccheck+explode",  # what a decoder would conceal is an error
    "max_pixels": OPEN_OPTIONS["max_pixels"],
}
_MOST_PROBLEMS = 20  # listed in one message


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipFile:
    """A clip that can be read."""

    name: str
    """of its folder, or of its file, without the ending where that is enough"""
    frames: int
    """how many are taken"""
    height: int
    """rows of the ground truth, a multiple of the scale"""
    width: int
    """columns of the ground truth, a multiple of the scale"""
    source: Source | Path
    """pictures, or a video"""

    def read(self) -> np.ndarray:
        """The ground truth, (T, H, W, 3) uint8 RGB, cropped at the bottom and right.

        Raises:
            UserError: if it cannot be read, or has changed.
        """
        clip = np.empty((self.frames, self.height, self.width, 3), np.uint8)
        frames = (
            _video_frames(self.source, self.frames)
            if isinstance(self.source, Path)
            else (self.source.read(index) for index in range(self.frames))
        )
        count = 0
        for count, frame in enumerate(frames, start=1):
            clip[count - 1] = frame[: self.height, : self.width]
        if count != self.frames:
            raise UserError(f"{self.name} has changed: it has {counted(count, 'frame')} now")
        return clip


def find_clips(data: Path, most_frames: int | None = None) -> list[ClipFile]:
    """All clips of a folder, sorted by name; of pictures only headers are read.

    Args:
        data: the folder.
        most_frames: take no more frames of any clip, from its first.

    Raises:
        UserError: if there is none. What cannot be used is listed in one message.
    """
    if not data.is_dir():
        raise UserError(f"--data {data}: there is no such folder")
    clips, problems = list[ClipFile](), list[str]()
    sources = list(_sources(data))
    stems = Counter(_stem(path) for path, _ in sources)
    for path, source in sources:
        name = _stem(path)
        if stems[name] > 1:  # the folder itself may be named like a clip in it
            name = path.name if path.parent == data else str(path)
        try:
            clips.append(_clip(name, source, most_frames))
        except UserError as error:
            problems.append(f"{name}: {error}")
    if problems:
        head = f"{counted(len(problems), 'clip')} in {data} cannot be used: take them out"
        raise UserError("\n  ".join([head, *problems[:_MOST_PROBLEMS]]))
    if not clips:
        raise UserError(
            f"--data {data} holds no clip: neither folders of pictures, pictures (PNG, JPEG, WebP, "
            "TIFF) nor videos"
        )
    return sorted(clips, key=lambda clip: by_numbers(clip.name))


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _sources(data: Path) -> Iterator[tuple[Path, list[Path] | Path]]:
    """(what is named for it, pictures of a clip or a video) of all that a folder holds."""
    pictures = []
    for path in visible(data):
        if path.is_dir():
            if frames := [file for file in visible(path) if _kind(file) == "picture"]:
                yield path, frames
        elif (kind := _kind(path)) == "picture":
            pictures.append(path)
        elif kind == "video":
            yield path, path
        else:
            logger.info("passed over, neither a picture nor a video: %s", path)
    if len(pictures) > 1 and _are_frames(pictures):
        yield data.resolve(), pictures
    else:
        yield from ((path, [path]) for path in pictures)


def _are_frames(pictures: Sequence[Path]) -> bool:
    if not all(_NUMBERED.fullmatch(path.stem) for path in pictures):
        return False
    try:
        open_source(pictures, "")
    except UserError:  # of several sizes; what cannot be read is told as a clip of its own
        return False
    return True


def _kind(path: Path) -> str:
    """picture, video, or empty for anything else, by a file's first bytes."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}): take it out") from error
    if is_picture(head):
        return "picture"
    return "" if demuxer_of(head) is None else "video"


def _clip(name: str, source: Sequence[Path] | Path, most_frames: int | None) -> ClipFile:
    if isinstance(source, Path):
        num_frames, height, width = _measure_video(source, most_frames)
        opened: Source | Path = source
    else:
        opened = open_source(source[:most_frames], name)
        num_frames, height, width = len(opened.frames), opened.height, opened.width
    if num_frames * height * width * 3 > MAX_CLIP_BYTES:
        raise UserError(
            f"{counted(num_frames, 'frame')} of {width}x{height} take more than "
            f"{MAX_CLIP_BYTES >> 20} MiB: take some of them only, with --frames"
        )
    return ClipFile(
        name=name,
        frames=num_frames,
        height=height // SCALE * SCALE,
        width=width // SCALE * SCALE,
        source=opened,
    )


# --- Videos ---------------------------------------------------------------------------------


def _measure_video(path: Path, most_frames: int | None) -> tuple[int, int, int]:
    """(frames, height, width), by decoding, since headers do not tell how many there are."""
    count, size = 0, (0, 0)
    for count, frame in enumerate(_decoded(path), start=1):
        if count == 1:
            size = _upright_size(frame)
            _color_of(frame)  # may refuse
        if count == most_frames or count * size[0] * size[1] * 3 > MAX_CLIP_BYTES:
            break
    if not count:
        raise UserError("a video without frames")
    return count, *size


def _video_frames(path: Path, count: int) -> Iterator[np.ndarray]:
    color = None
    for _, frame in zip(range(count), _decoded(path), strict=False):
        color = color or _color_of(frame)
        yield np.rot90(source_to_rgb(frame, color.matrix, color.range), _quarter_turns(frame))


def _color_of(frame: av.VideoFrame) -> Color:
    try:
        return color_of(frame)
    except ColorError as error:
        raise UserError(f"its colours cannot be read ({error.detail})") from error


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    lies = _quarter_turns(frame) % 2 == 1
    return (frame.width, frame.height) if lies else (frame.height, frame.width)


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise, by the file's tag."""
    return round(frame.rotation / 90) % 4


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    """All frames, later and later; of a damaged video an error, since it is to be the truth."""
    with open_video(path) as video:
        video.stream.codec_context.options = dict(_DECODER_OPTIONS)
        for number, frame in enumerate(video.frames()):
            if video.damaged_packets or video.damaged_frames:
                raise UserError(f"frame {number} is damaged")
            yield frame.picture
        if video.damaged_packets or video.missing_seconds > 1:
            raise UserError("its end is damaged or missing")
