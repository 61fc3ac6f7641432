"""How far a long piece of work is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from schemas.wording import counted

_LINE_SECONDS = 10
_ROUNDING = 1e-6  # parts add up to a little less than a whole

logger = logging.getLogger(__name__)


class Progress:
    """Counts what is done; a context manager.

    Args:
        label: what is done.
        total: how much there is, as far as that is known.
        unit: of what, in the singular.
    """

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._is_plain = not sys.stderr.isatty()
        self._bar = tqdm(desc=label, total=total, unit=unit, disable=self._is_plain)
        self._began = self._told = time.monotonic()
        self._done, self._told_done = 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._is_plain and error is None and self._told_done < self._whole:
            self._tell()

    def add(self, count: float = 1) -> None:
        """Count on, also by parts of a unit; whole ones are shown."""
        self._done += count
        self._bar.update(self._whole - self._bar.n)
        if self._is_plain and time.monotonic() - self._told >= _LINE_SECONDS:
            self._tell()

    @property
    def _whole(self) -> int:
        return int(self._done + _ROUNDING)

    def _tell(self) -> None:
        self._told, self._told_done = time.monotonic(), self._whole
        rate = self._done / max(self._told - self._began, 1e-9)
        of_all = counted(self._whole, self._unit)
        left = ""
        if self._total is not None and self._whole < self._total:
            of_all = f"{self._whole} of {counted(self._total, self._unit)}"
            left = f", {(self._total - self._done) / max(rate, 1e-9):.0f} s left"
        logger.info("%s: %s, %.2f %ss/s%s", self._label, of_all, rate, self._unit, left)
