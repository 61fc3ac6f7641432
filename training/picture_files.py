"""Restoring picture files: each is a clip of one frame, or the frames of a folder are one clip."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schemas.sample import FrameType
from training.checkpoint import written_beside
from training.config import UserError
from training.inference import Clip, TileOptions, spans
from transforms.pictures import (
    MAX_PIXELS,
    Picture,
    PictureError,
    decode_whole_picture,
    is_picture,
    read_header,
)

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""What is written, by suffix."""
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
}
_HEAD_BYTES = 12  # what tells a picture

Restorer = Callable[[Clip], np.ndarray]
"""A clip in, (T, H, W, 3) uint8 RGB out."""


def is_picture_file(path: Path) -> bool:
    """Whether a file is a picture, by its first bytes.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return is_picture(file.read(_HEAD_BYTES))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def pictures_in(folder: Path) -> list[Path]:
    """The pictures right inside a folder, by the numbers in their names; hidden ones are passed
    over.

    Raises:
        UserError: if there is none.
    """
    pictures = [path for path in visible(folder) if path.is_file() and is_picture_file(path)]
    if not pictures:
        raise UserError(f"there is no picture in {folder}: PNG, JPEG, WebP and TIFF are read")
    return pictures


def visible(folder: Path) -> list[Path]:
    """What lies in a folder and is not hidden, sorted by the numbers in the names.

    Raises:
        UserError: if the folder cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})") from error
    return sorted(paths, key=lambda path: by_numbers(path.name))


def by_numbers(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts frame_2 before frame_10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def outputs_in(folder: Path, pictures: Sequence[Path]) -> list[Path]:
    """Where pictures of a folder go: PNG files of the same names.

    Raises:
        UserError: if two would go by one name.
    """
    outputs = [folder / f"{path.stem}.png" for path in pictures]
    for path, output in zip(pictures, outputs, strict=True):
        if outputs.count(output) > 1:
            raise UserError(f"{path} is not the only picture that would become {output}: rename it")
    return outputs


def check_picture(path: Path, scale: int) -> tuple[int, int]:
    """Look at a picture's header.

    Returns:
        (height, width)

    Raises:
        UserError: if it is no picture, or the restored one would be too large.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file)
    except (PictureError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): take it out") from error
    if header.height * header.width * scale**2 > MAX_PIXELS:
        size = f"{header.width * scale}x{header.height * scale}"
        raise UserError(
            f"{path} would become {size} pixels, at most {MAX_PIXELS} in all: cut it into parts"
        )
    return header.height, header.width


def restore_picture(path: Path, output: Path, restore: Restorer) -> None:
    """Restore a picture as a clip of one frame, which is an I frame: nothing predicts it.

    Upright, grey if it was grey, with its ICC profile. Transparency is resized bicubically.

    Raises:
        UserError: if it cannot be read or written.
    """
    picture = _read(path)
    if picture.alpha is not None and FORMATS[output.suffix.lower()] == "JPEG":
        raise UserError(f"{output} cannot hold the transparency of {path}: write PNG or WebP")
    clip = Clip(lr=picture.rgb[None], frame_type=np.array([FrameType.I.code]))
    (restored,) = restore(clip)
    _write(output, restored, picture)


def restore_frames(
    paths: Sequence[Path],
    outputs: Sequence[Path],
    restore: Restorer,
    options: TileOptions,
    done: Callable[[int], None],
) -> None:
    """Restore pictures of one size as the frames of a clip of which no more is known.

    Args:
        paths: the pictures, in order.
        outputs: where each goes.
        restore: restores a window.
        options: how long windows and their overlaps are.
        done: is told how many pictures more are written.

    Raises:
        UserError: if one cannot be read or written.
    """
    for part in spans(len(paths), options.frames, options.overlap_frames):
        pictures = [_read(path) for path in paths[part.seen]]
        restored = restore(Clip(lr=np.stack([picture.rgb for picture in pictures])))[part.inner]
        for frame, picture, output in zip(
            restored, pictures[part.inner], outputs[part.kept], strict=True
        ):
            _write(output, frame, picture)
        done(len(restored))


def _read(path: Path) -> Picture:
    try:
        return decode_whole_picture(path.read_bytes())
    except (PictureError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): take it out") from error


def _write(path: Path, rgb: np.ndarray, like: Picture) -> None:
    image = Image.fromarray(rgb)
    if like.is_gray:
        image = image.convert("L")
    kind = FORMATS[path.suffix.lower()]
    if like.alpha is not None:
        image.putalpha(Image.fromarray(like.alpha).resize(image.size, Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, icc_profile=like.icc_profile, **_SAVE_OPTIONS[kind])
        with written_beside(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error})") from error
