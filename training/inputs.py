"""Pictures and clips to be degraded while training: which there are, and reading them."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training.config import UserError
from transforms.pictures import PictureError, decode_picture, is_picture, read_header

Input = str | Path | np.ndarray | Sequence[str | Path]
"""A picture or its file, a folder of pictures, the frames of a clip or their files."""

_HEAD_BYTES = 12  # what tells a picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A picture, or the frames of a clip."""

    name: str
    """its path, or where it stands among the inputs"""
    is_clip: bool
    """False for a picture"""
    frames: np.ndarray | Sequence[Path]
    """(T, H, W, 3) uint8, or T files; T is 1 for a picture"""
    height: int
    """rows of each frame"""
    width: int
    """columns of each frame"""

    def read(self, frame: int) -> np.ndarray:
        """Frame number `frame`, (H, W, 3) uint8 RGB.

        Raises:
            UserError: if it cannot be read, or has changed.
        """
        if isinstance(self.frames, np.ndarray):
            return self.frames[frame]
        path = self.frames[frame]
        try:
            picture = decode_picture(path.read_bytes())
        except (PictureError, OSError) as error:
            raise UserError(f"{path} cannot be read ({error}): take it out") from error
        if picture.shape[:2] != (self.height, self.width):
            raise UserError(f"{path} has changed: construct the dataset again")
        return picture


def without_folders(inputs: Sequence[Input]) -> Iterator[Input]:
    """The inputs, with the pictures in a folder in its place.

    Raises:
        UserError: if there is none in it.
    """
    for given in inputs:
        if isinstance(given, str | Path) and Path(given).is_dir():
            yield from _pictures_in(Path(given))
        else:
            yield given


def _pictures_in(folder: Path) -> list[Path]:
    """All pictures, told by their first bytes; hidden files and folders are passed over."""
    pictures = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and _is_picture(path)
    ]
    if not pictures:
        raise UserError(f"there is no picture in {folder}: PNG, JPEG, WebP and TIFF are read")
    return pictures


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return is_picture(file.read(_HEAD_BYTES))


def name_of(given: Input, number: int) -> str:
    """What to call input number `number`."""
    if isinstance(given, np.ndarray):
        return f"array {number}"
    return str(given) if isinstance(given, str | Path) else f"clip {number}"


def open_source(given: Input, name: str) -> Source:
    """Look at an input that is no folder; of files only headers are read.

    Raises:
        UserError: if it cannot be used.
    """
    if isinstance(given, np.ndarray):
        return _of_array(given, name)
    if isinstance(given, str | Path):
        return _of_files([Path(given)], name, is_clip=False)
    return _of_files([Path(path) for path in given], name, is_clip=True)


def _of_array(array: np.ndarray, name: str) -> Source:
    is_clip = array.ndim == 4
    frames = array if is_clip else array[None]
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        found = f"{array.dtype} of shape {array.shape}"
        raise UserError(f"{found}, expected uint8 of (H, W, 3) or (T, H, W, 3)")
    _, height, width, _ = frames.shape
    return Source(name=name, is_clip=is_clip, frames=frames, height=height, width=width)


def _of_files(paths: Sequence[Path], name: str, *, is_clip: bool) -> Source:
    sizes = {_read_size(path) for path in paths}
    if len(sizes) != 1:
        raise UserError(f"frames of {len(sizes)} sizes, expected one")
    ((height, width),) = sizes
    return Source(name=name, is_clip=is_clip, frames=paths, height=height, width=width)


def _read_size(path: Path) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            header = read_header(file)
    except (PictureError, OSError) as error:
        raise UserError(f"cannot be read ({error})") from error
    return header.height, header.width
