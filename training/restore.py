"""`python -m training.restore`: a video or pictures in, restored by a trained network."""

import argparse
import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from schemas.wording import counted
from training import picture_files, video_output
from training.arguments import HelpFormatter, at_least, run_command
from training.checkpoint import load_model
from training.config import UserError
from training.inference import Clip, TileOptions, restore_clip, scale_of
from training.picture_files import check_picture, is_picture_file, outputs_in, pictures_in
from training.processes import choose_device
from training.progress import Progress
from training.video_input import VideoInput, WindowReader, demuxer_at, open_video
from training.video_output import ENCODERS, Encoding, open_output

_DEFAULTS = TileOptions()
_MAX_CRF = 51
_TOLERATED_SECONDS = 1  # by which a container may be wrong about its length
_FILE_SUFFIXES = {*picture_files.FORMATS, *video_output.FORMATS}

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restorer:
    """A network, and where and in what pieces it works."""

    model: nn.Module
    device: torch.device
    options: TileOptions

    @property
    def scale(self) -> int:
        """HR size divided by LR size."""
        return scale_of(self.model)

    def __call__(self, clip: Clip, done: Callable[[float], None] | None = None) -> np.ndarray:
        """Restore a clip; `done` is told of each tile (`restore_clip`).

        Raises:
            UserError: if the GPU has too little memory.
        """
        try:
            return restore_clip(self.model, clip, self.device, self.options, done)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU has too little memory for --tile {self.options.tile} --frames "
                f"{self.options.frames}: give less of either"
            ) from error


def restore_video(path: Path, output: Path, restore: Restorer, encoding: Encoding) -> None:
    """Restore a video, window by window.

    Raises:
        UserError: if it cannot be read, restored or written.
    """
    with open_video(path) as video:
        windows = WindowReader(video, restore.options)
        first, color = windows.first, windows.color
        with (
            open_output(output, video, first, color, restore.scale, encoding) as writer,
            Progress("restored", video.frames_told, "frame") as progress,
        ):
            for window in windows:
                shown = partial(_add_share, progress, len(window.times))
                restored = restore(window.clip, shown)[window.kept]
                writer.copy(video.take_packets())
                for picture, (pts, duration) in zip(restored, window.times, strict=True):
                    writer.write(picture, pts, duration)
            writer.copy(video.take_packets())
        _tell_damage(video)


def _add_share(progress: Progress, frames: int, share: float) -> None:
    progress.add(frames * share)


def _tell_damage(video: VideoInput) -> None:
    if video.damaged_packets:
        packets = counted(video.damaged_packets, "packet")
        logger.warning("%s: %s damaged; pictures may be missing", video.path, packets)
    if video.damaged_frames:
        frames = counted(video.damaged_frames, "picture")
        logger.warning("%s: %s damaged, restored as the decoder shows them", video.path, frames)
    if video.missing_seconds > _TOLERATED_SECONDS:
        missing = f"{video.missing_seconds:.1f} s"
        logger.warning("%s ends %s earlier than it says: get a whole copy", video.path, missing)
    if video.is_interlaced:
        logger.warning("%s is interlaced, which no network here is trained for", video.path)


def _restore_folder(
    folder: Path, output: Path, restore: Restorer, given: argparse.Namespace
) -> None:
    pictures = pictures_in(folder)
    outputs = outputs_in(output, pictures)
    sizes = {check_picture(path, restore.scale) for path in pictures}
    if given.clip and len(sizes) != 1:
        raise UserError(f"--clip: the frames in {folder} have {len(sizes)} sizes, expected one")
    for path in outputs:
        _check_new(path, given)
    _make_folder(output)
    with Progress("restored", len(pictures), "picture") as progress:
        if given.clip:
            picture_files.restore_frames(pictures, outputs, restore, restore.options, progress.add)
        else:
            for path, target in zip(pictures, outputs, strict=True):
                picture_files.restore_picture(path, target, restore)
                progress.add()


# --- The command ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    given = _parser().parse_args(arguments)
    return run_command(lambda: _run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.restore",
        description="Restore a compressed video, a picture or a folder of pictures.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("input", type=Path, help="a video, a picture, or a folder of pictures")
    add("output", type=Path, help="where to: a file of the like, or a folder")
    add("--weights", type=Path, required=True, metavar="RUN", help="the folder of a training run")
    add("--scale", type=at_least(1), help="refuse a network of another scale")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add("--tile", type=at_least(8), default=_DEFAULTS.tile, help="side of a tile, LR pixels")
    add("--frames", type=at_least(1), default=_DEFAULTS.frames, help="frames of a window")
    add("--codec", choices=list(ENCODERS), default=Encoding.codec, help="of a restored video")
    add("--crf", type=_crf, default=Encoding.crf, help="its rate factor, 0 (best) to 51")
    add(
        "--drop",
        nargs="+",
        choices=["audio", "subtitles"],
        default=[],
        help="streams of a video that are left out; all are copied otherwise",
    )
    add("--clip", action="store_true", help="the pictures of the folder are a video's frames")
    add("--overwrite", action="store_true", help="replace what is there")
    return parser


def _crf(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _MAX_CRF:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and {_MAX_CRF}")
    return value


def _run(given: argparse.Namespace) -> None:
    work = _chosen_work(given)
    options = _tile_options(given)
    device = choose_device(given.device)
    model = load_model(given.weights).to(device)
    restore = Restorer(model, device, options)
    if given.scale not in (None, restore.scale):
        raise UserError(
            f"--scale {given.scale}, but the network of {given.weights} enlarges "
            f"{restore.scale} times: give other weights"
        )
    work(restore)
    logger.info("%s", given.output)


def _chosen_work(given: argparse.Namespace) -> Callable[[Restorer], None]:
    """What to do with the input; all that can be told without the network is checked."""
    path, output = given.input, given.output
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if output.exists() and path.samefile(output):
        raise UserError(f"{path} is input and output: name another output")
    if path.is_dir():
        if (output.exists() and not output.is_dir()) or output.suffix.lower() in _FILE_SUFFIXES:
            raise UserError(f"{output} is a file, but {path} a folder: name a folder")
        return lambda restore: _restore_folder(path, output, restore, given)
    if given.clip:
        raise UserError(f"--clip takes a folder of frames, {path} is a file: leave it out")
    is_picture = is_picture_file(path)
    if not is_picture:
        demuxer_at(path)  # refuses what is no video
    formats = picture_files.FORMATS if is_picture else video_output.FORMATS
    if output.suffix.lower() not in formats:
        raise UserError(
            f"{output} has the suffix {output.suffix!r}, of a restored "
            f"{'picture' if is_picture else 'video'} it can be {', '.join(formats)}"
        )
    _check_new(output, given)
    _make_folder(output.parent)
    if is_picture:
        return lambda restore: _restore_one_picture(path, output, restore)
    encoding = Encoding(
        codec=given.codec, crf=given.crf, drop=[kind.removesuffix("s") for kind in given.drop]
    )
    return lambda restore: restore_video(path, output, restore, encoding)


def _restore_one_picture(path: Path, output: Path, restore: Restorer) -> None:
    check_picture(path, restore.scale)
    picture_files.restore_picture(path, output, restore)


def _check_new(path: Path, given: argparse.Namespace) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file")
    if path.exists() and not given.overwrite:
        raise UserError(f"{path} is there already: give --overwrite, or another name")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): name another") from error


def _tile_options(given: argparse.Namespace) -> TileOptions:
    """The options given, with less overlap where there is little to overlap."""
    return TileOptions(
        tile=given.tile,
        overlap=min(_DEFAULTS.overlap, given.tile // 32 * 8),
        frames=given.frames,
        overlap_frames=min(_DEFAULTS.overlap_frames, (given.frames - 1) // 4),
    )


if __name__ == "__main__":
    raise SystemExit(main())
