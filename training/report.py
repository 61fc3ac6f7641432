"""What a run tells while it goes on and when it ends: log.csv, TensorBoard, lines, a table."""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.wording import counted
from training.card import CARD_NAME
from training.checkpoint import WEIGHTS_NAME, write_atomically
from training.config import UserError
from training.curves import LOG_NAME, TENSORBOARD_NAME, Curves
from training.drawing import Sheet
from training.validation import MAX_CLIPS, MAX_FRAMES, Example, StreamScore

VALIDATION_NAME = "validation.json"
SHEET_NAME = "validation.png"

_CAPTION_PIXELS = 24
_GAP_PIXELS = 8

logger = logging.getLogger(__name__)


class RunLog(Curves):
    """The curves, progress and pictures of a training."""

    columns = (
        "loss",
        "psnr_rgb",
        "learning_rate",
        "skipped",
        "seconds",
        "validation_psnr_rgb",
        "validation_psnr_y",
    )

    def training(
        self, step: int, loss: float, psnr_rgb: float, learning_rate: float, skipped: int
    ) -> None:
        """Add the means since the last row, and how many samples were skipped since."""
        values = {
            "loss": loss,
            "psnr_rgb": psnr_rgb,
            "learning_rate": learning_rate,
            "skipped": skipped,
        }
        told = f"loss {loss:.5f}  PSNR {psnr_rgb:.2f} dB"
        self.steps_taken("training", step, values, told)

    def validation(
        self, step: int, scores: Sequence[StreamScore], examples: Sequence[Example]
    ) -> None:
        """Add a validation: the mean over streams to log.csv, each stream to TensorBoard, and the
        examples to a picture."""
        self.paused()
        if not scores:
            return
        rgb = sum(score.model_psnr_rgb for score in scores) / len(scores)
        y = sum(score.model_psnr_y for score in scores) / len(scores)
        by_stream = {
            f"validation/{score.stream}/{name}": getattr(score, f"model_{name}")
            for score in scores
            for name in ("psnr_rgb", "psnr_y")
        }
        self.row(step, {"validation_psnr_rgb": rgb, "validation_psnr_y": y}, by_stream)
        sheet = example_sheet(examples)
        self.picture("validation/examples", step, np.asarray(sheet))
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        write_atomically(self._run / SHEET_NAME, buffer.getvalue())
        logger.info("step %d  validation PSNR %.2f dB RGB, %.2f dB Y", step, rgb, y)


def example_sheet(examples: Sequence[Example]) -> Image.Image:
    """A row for each example: LR, bicubic, what the network makes of it, and HR."""
    columns = ["lr", "bicubic", "model", "hr"]
    height, width = examples[0].hr.shape[:2]
    row, column = height + _CAPTION_PIXELS, width + _GAP_PIXELS
    sheet = Sheet(len(columns) * column + _GAP_PIXELS, len(examples) * row + _GAP_PIXELS)
    for y, example in enumerate(examples):
        for x, name in enumerate(columns):
            left, top = _GAP_PIXELS + x * column, y * row
            sheet.write(left, top + 4, f"{example.stream}, {name}")
            sheet.paste(getattr(example, name), left, top + _CAPTION_PIXELS)
    return sheet.image


def write_scores(run: Path, step: int, scores: Sequence[StreamScore]) -> None:
    """Write the last validation to `validation.json`."""
    fields = {"step": step, "streams": [score.model_dump() for score in scores]}
    write_atomically(run / VALIDATION_NAME, json.dumps(fields, indent=2).encode())


def read_scores(run: Path) -> list[StreamScore]:
    """Read the last validation of a run back.

    Raises:
        UserError: if it is missing or damaged.
    """
    path = run / VALIDATION_NAME
    if not path.is_file():
        raise UserError(f"{path} is missing: restore it from a copy, or train with another --run")
    try:
        fields = json.loads(path.read_bytes())
        return [StreamScore.model_validate(score) for score in fields["streams"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged: restore it from a copy, or train with another --run"
        ) from error


def score_table(scores: Sequence[StreamScore]) -> str:
    """Scores as a table for a person; PSNR in dB."""
    if not scores:
        return "The dataset has no validation split, so that nothing was validated."
    width = max(len("stream"), *(len(score.stream) for score in scores))
    pair = f"{'bicubic':>8} {'model':>8} {'gain':>6}"
    clips = counted(scores[0].clips, "clip")
    lines = [
        f"Validation PSNR in dB; {clips} a stream (at most {MAX_CLIPS}), "
        f"at most {MAX_FRAMES} frames each",
        f"{'':{width}}   {'RGB':^24}   {'Y':^24}",
        f"{'stream':{width}}   {pair}   {pair}",
    ]
    return "\n".join(lines + [_score_line(score, width) for score in scores])


def _score_line(score: StreamScore, width: int) -> str:
    rgb = _score_cells(score.bicubic_psnr_rgb, score.model_psnr_rgb)
    y = _score_cells(score.bicubic_psnr_y, score.model_psnr_y)
    return f"{score.stream:{width}}   {rgb}   {y}"


def _score_cells(bicubic: float, model: float) -> str:
    return f"{bicubic:8.2f} {model:8.2f} {model - bicubic:+6.2f}"


def where_to_look(run: Path) -> str:
    """The files of a run and what each is for."""
    return "\n".join(
        [
            f"weights   {run / WEIGHTS_NAME}  (training.checkpoint.load_model)",
            f"scores    {run / VALIDATION_NAME}  (per stream; the gain over bicubic should grow)",
            f"pictures  {run / SHEET_NAME}",
            f"about     {run / CARD_NAME}",
            f"curves    {run / LOG_NAME}, or: tensorboard --logdir {run / TENSORBOARD_NAME}",
        ]
    )
