"""The curves of a run, in log.csv and for TensorBoard, and its progress."""

import csv
import io
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.checkpoint import write_atomically

LOG_NAME = "log.csv"
TENSORBOARD_NAME = "tensorboard"
LOG_EVERY_STEPS = 10

logger = logging.getLogger(__name__)


class Curves:
    """Writes a run's curves and shows its progress; a context manager.

    Kinds of runs have classes of their own, with their columns.

    Args:
        run: the run's folder.
        steps: how many there will be.
        start: steps already taken.
        resume: keep the rows up to there; those of later ones, left by a killed run, are dropped.
    """

    columns: ClassVar[Sequence[str]]
    """Of log.csv, behind the step."""

    def __init__(self, run: Path, steps: int, start: int, resume: bool) -> None:
        self._run = run
        rows = _rows_until(run / LOG_NAME, start) if resume else []
        text = io.StringIO(newline="")
        kept = csv.DictWriter(text, ["step", *self.columns], extrasaction="ignore")
        kept.writeheader()
        kept.writerows(rows)
        write_atomically(run / LOG_NAME, text.getvalue().encode())
        # buffering=1: each row is in the file as soon as it is complete.
        self._file = (run / LOG_NAME).open("a", newline="", buffering=1)
        self._csv = csv.DictWriter(self._file, ["step", *self.columns])
        self._board = SummaryWriter(str(run / TENSORBOARD_NAME), purge_step=start + 1)
        self._plain = not sys.stderr.isatty()
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=self._plain)
        self._steps = steps
        self._began = self._row_began = time.monotonic()
        self._row_step = start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._board.close()
        self._file.close()

    def row(self, step: int, values: Mapping[str, float], curves: Mapping[str, float]) -> None:
        """Add a row of log.csv, and points of curves for TensorBoard."""
        self._csv.writerow({"step": step, **values})
        for name, value in curves.items():
            self._board.add_scalar(name, value, step)

    def steps_taken(self, group: str, step: int, values: Mapping[str, float], told: str) -> None:
        """Add means since the last row, and show how far it is.

        Args:
            group: of the curves.
            step: steps taken.
            values: the means, by column.
            told: what of them is shown.
        """
        now = time.monotonic()
        curves = {f"{group}/{name}": value for name, value in values.items()}
        self.row(step, {**values, "seconds": round(now - self._began, 3)}, curves)
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(told, refresh=False)
        if self._plain:
            rate = (step - self._row_step) / (now - self._row_began)
            logger.info("step %d/%d  %s  %.2f steps/s", step, self._steps, told, rate)
        self._row_step, self._row_began = step, now

    def paused(self) -> None:
        """What was done since the last row is left out of the steps a second."""
        self._row_began = time.monotonic()

    def picture(self, name: str, step: int, picture: np.ndarray) -> None:
        """Add an (H, W, 3) uint8 picture for TensorBoard."""
        self._board.add_image(name, picture, step, dataformats="HWC")


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A kill may have cut the last one: then it lacks columns.
    whole = [row for row in rows if None not in row.values()]
    return [row for row in whole if int(row["step"]) <= step]
