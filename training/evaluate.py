"""Measure how well networks restore compressed clips, by the protocols of papers.

    python -m training.evaluate --data vid4/ --crf 15 25 35 --weights build/run

HR clips are downsampled and coded here, each network restores them, and what comes out is compared
with the ground truth. `results.json`, `table.md` and `sheet.png` are left in the output's folder.
"""

import argparse
import importlib.metadata
import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from schemas.wording import counted
from training.arguments import HelpFormatter, at_least, run_command
from training.checkpoint import write_atomically
from training.config import UserError
from training.evaluating.clips import ClipFile, find_clips
from training.evaluating.degradation import CRF_RANGE, SCALE, Condition, conditions_of, degrade
from training.evaluating.measure import METRICS, Meter, value_names
from training.evaluating.methods import (
    CUBIC,
    Restore,
    cubic,
    method_names,
    network,
    weights_sha256,
)
from training.evaluating.perceptual import PERCEPTUAL, load_perceptual
from training.evaluating.protocol import PROTOCOLS, Protocol
from training.evaluating.report import report
from training.evaluating.results import TRUTH, ClipScore, CodingScore, Results
from training.evaluating.sheet import SheetRow, busiest_place, draw_sheet
from training.processes import choose_device

RESULTS_NAME = "results.json"
TABLE_NAME = "table.md"
SHEET_NAME = "sheet.png"
UNFINISHED_NAME = "unfinished.json"
"""Results of the clips before an evaluation ended early."""

_METRICS = ("psnr", "ssim", "tof", "warp", *PERCEPTUAL)
_LIBRARIES = ("av", "numpy", "opencv-python-headless", "scikit-image", "torch", "pyiqa")

logger = logging.getLogger(__name__)


class Evaluation:
    """What is measured, and what was found so far.

    Args:
        methods: what restores clips, by name.
        conditions: how clips are compressed.
        meter_of: makes the meter of a clip, of its ground truth.
    """

    def __init__(
        self,
        methods: Mapping[str, Restore],
        conditions: Sequence[Condition],
        meter_of: Callable[[np.ndarray], Meter],
    ) -> None:
        self._methods, self._conditions, self._meter_of = methods, conditions, meter_of
        self.scores: list[ClipScore] = []
        self.codings: list[CodingScore] = []
        self.rows: list[SheetRow] = []
        self.encoder = ""
        self.finished: list[ClipFile] = []

    def run(self, clips: Sequence[ClipFile]) -> None:
        """Evaluate all clips, one after the other, and show how far that is."""
        rounds = len(clips) * len(self._conditions) * len(self._methods)
        is_plain = not sys.stderr.isatty()
        with (
            tqdm(total=rounds, unit="clip", disable=is_plain) as bar,
            logging_redirect_tqdm(),
        ):
            for clip in clips:
                for score in self._clip_scores(clip):
                    self.scores.append(score)
                    bar.update()
                    logger.info("%s", _line(score))
                self.finished.append(clip)

    def _clip_scores(self, clip: ClipFile) -> Iterator[ClipScore]:
        hr = clip.read()
        meter, place = self._meter_of(hr), busiest_place(hr)
        truth = ClipScore(method=TRUTH, clip=clip.name, condition="", values=meter.truth())
        self.scores.append(truth)
        for coded in degrade(hr, self._conditions):
            crops = dict[str, np.ndarray]()
            for name, restore in self._methods.items():
                restored = restore(coded)
                crops[name] = place.cut(restored)
                yield ClipScore(
                    method=name,
                    clip=clip.name,
                    condition=coded.condition.label,
                    values=meter(restored),
                )
            self.codings.append(CodingScore.of(clip.name, coded))
            self.encoder = coded.encoder_build or self.encoder
            self.rows.append(
                SheetRow(
                    clip=clip.name,
                    condition=coded.condition.label,
                    frame=place.frame,
                    hr=place.cut(hr),
                    lr=place.cut(coded.lr, SCALE),
                    restored=crops,
                )
            )


def _line(score: ClipScore) -> str:
    told = ", ".join(
        f"{name} {METRICS[name].factor * mean:.{METRICS[name].digits}f}"
        for name, mean in score.means.items()
    )
    return f"{score.clip}, {score.condition}, {score.method}: {told}"


# --- The command ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    given = _parser().parse_args(arguments)
    return run_command(lambda: _run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure how well networks restore compressed clips.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder of clips: frames, images or videos")
    add(
        "--weights",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="runs whose networks are measured, beside cubic interpolation",
    )
    add(
        "--crf",
        nargs="+",
        type=crf,
        default=[None, 15, 25, 35],
        metavar="CRF",
        help="rate factors of x264, and none for no compression; default: none 15 25 35",
    )
    add(
        "--pixel-format",
        nargs="+",
        choices=["yuv420p", "yuv444p"],
        default=["yuv420p"],
        help="chroma: 4:2:0 as the world has it, 4:4:4 as the papers' commands give",
    )
    add("--channels", nargs="+", choices=["y", "rgb"], default=["y"], help="of PSNR and SSIM")
    add("--metrics", nargs="+", choices=_METRICS, default=["psnr", "ssim"], help="what to measure")
    add("--protocol", choices=list(PROTOCOLS), default="cavsr", help="of which papers")
    add("--frames", type=at_least(1), metavar="N", help="of each clip, the first N; default: all")
    add("--tiled", action="store_true", help="for clips too large for networks' memory")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where networks run")
    add("--output", type=Path, default=Path("build/evaluation"), help="folder for what is found")
    return parser


def crf(text: str) -> float | None:
    """A rate factor of x264, or none; argparse shows the name of this function."""
    if text in ("none", "clean"):
        return None
    least, most = CRF_RANGE
    number = float(text)
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}, nor none")
    return number


def _run(given: argparse.Namespace) -> None:
    if given.data.resolve() in (given.output.resolve(), given.output.resolve().parent):
        raise UserError(f"--output {given.output} would be a clip of --data: choose another folder")
    clips = find_clips(given.data, given.frames)
    protocol, names = PROTOCOLS[given.protocol], value_names(given.metrics, given.channels)
    _check(clips, protocol)
    device = choose_device(given.device)
    perceptual = load_perceptual(names, device)
    methods = _methods(given.weights, device, tiled=given.tiled)
    conditions = conditions_of(given.crf, given.pixel_format)
    _make_folder(given.output)
    logger.info("%s", _told(clips))
    evaluation = Evaluation(methods, conditions, lambda hr: Meter(hr, names, protocol, perceptual))
    asked = Results(
        data=str(given.data),
        frames={clip.name: clip.frames for clip in clips},
        whole=given.frames is None,
        protocol=given.protocol,
        conditions=[condition.label for condition in conditions],
        metrics=names,
        methods=list(methods),
        weights={
            name: weights_sha256(run)
            for name, run in zip(method_names(given.weights), given.weights, strict=True)
        },
        tiled=given.tiled,
        device=device.type,
        encoder="",
        libraries=_libraries(),
    )
    try:
        evaluation.run(clips)
    finally:
        if len(evaluation.finished) < len(clips):
            _save_unfinished(given.output, _with_findings(asked, evaluation))
    results = _with_findings(asked, evaluation)
    _save(given.output, results, draw_sheet(evaluation.rows, list(methods)))


def _with_findings(asked: Results, evaluation: Evaluation) -> Results:
    """What was found of the clips that are finished."""
    frames = {clip.name: clip.frames for clip in evaluation.finished}
    return asked.model_copy(
        update={
            "frames": frames,
            "encoder": evaluation.encoder,
            "codings": [coding for coding in evaluation.codings if coding.clip in frames],
            "scores": [score for score in evaluation.scores if score.clip in frames],
        }
    )


def _save_unfinished(output: Path, results: Results) -> None:
    if results.frames:
        _write(output / UNFINISHED_NAME, results.model_dump_json(indent=1).encode())
        finished = counted(len(results.frames), "clip")
        logger.warning("ended early: %s holds %s", output / UNFINISHED_NAME, finished)


def _check(clips: Sequence[ClipFile], protocol: Protocol) -> None:
    """Refuse clips that the protocol leaves nothing of, in one message."""
    problems = []
    for clip in clips:
        try:
            protocol.check(clip.frames, clip.height, clip.width)
        except UserError as error:
            problems.append(f"{clip.name}: {error}")
    if problems:
        raise UserError(
            "\n  ".join([f"{counted(len(problems), 'clip')} cannot be used", *problems])
        )


def _methods(runs: Sequence[Path], device: torch.device, *, tiled: bool) -> dict[str, Restore]:
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("--weights names a run twice: leave one out")
    names = method_names(runs)
    networks = {
        name: network(run, device, tiled=tiled) for name, run in zip(names, runs, strict=True)
    }
    return {CUBIC: cubic, **networks}


def _told(clips: Sequence[ClipFile]) -> str:
    frames = sum(clip.frames for clip in clips)
    return f"{counted(len(clips), 'clip')}, {counted(frames, 'frame')} in all"


def _libraries() -> dict[str, str]:
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in _LIBRARIES if name in installed}


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made ({error}): choose another") from error


def _save(output: Path, results: Results, sheet: Image.Image) -> None:
    table, png = report(results), io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    files = {
        RESULTS_NAME: results.model_dump_json(indent=1).encode(),
        TABLE_NAME: table.encode(),
        SHEET_NAME: png.getvalue(),
    }
    for name, data in files.items():
        _write(output / name, data)
    (output / UNFINISHED_NAME).unlink(missing_ok=True)
    sys.stdout.write(f"{table}\n{output}: {', '.join(files)}\n")


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error})") from error


if __name__ == "__main__":
    raise SystemExit(main())
