"""Progress: workers count into small files, and one thread shows their sum.

A runner blocks until its end and tells nothing before; files work across processes.
"""

import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from pipelines.layout import Layout
from schemas.wording import counted

T = TypeVar("T")

_POLL_SECONDS = 0.5
_POLL_SHARE = 0.05  # of the time at most goes into looking, however many heartbeats there are
_LINE_SECONDS = 10.0  # between plain lines, where there is no terminal


class Heartbeat:
    """Counts what one shard or batch has done."""

    def __init__(self, layout: Layout, name: str) -> None:
        layout.progress.mkdir(parents=True, exist_ok=True)
        self._file = layout.progress / name
        self._count = 0

    def add(self, count: int) -> None:
        """Count on."""
        self._count += count
        self._file.write_text(str(self._count))


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """Shows the sum of all heartbeats: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, layout: Layout, label: str, total: int, unit: str) -> None:
        self._layout, self._label, self._total, self._unit = layout, label, total, unit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Self:
        shutil.rmtree(self._layout.progress, ignore_errors=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        shutil.rmtree(self._layout.progress, ignore_errors=True)

    def _show(self) -> None:
        is_terminal = sys.stderr.isatty()
        with tqdm(
            total=self._total, desc=self._label, unit=self._unit, disable=not is_terminal
        ) as bar:
            next_line = time.monotonic() + _LINE_SECONDS
            pause_seconds = _POLL_SECONDS
            while not self._stop.wait(pause_seconds):
                started = time.monotonic()
                done = self._done()
                bar.update(done - bar.n)
                if not is_terminal and time.monotonic() >= next_line:
                    self._print_line(done)
                    next_line = time.monotonic() + _LINE_SECONDS
                pause_seconds = max(_POLL_SECONDS, (time.monotonic() - started) / _POLL_SHARE)
            done = self._done()
            bar.update(done - bar.n)
        if not is_terminal:
            self._print_line(done)

    def _print_line(self, done: int) -> None:
        sys.stderr.write(f"{self._label}: {done} of {counted(self._total, self._unit)}\n")

    def _done(self) -> int:
        if not self._layout.progress.is_dir():
            return 0
        # A file may be read while it is being written, and is empty then.
        texts = [file.read_text() for file in self._layout.progress.iterdir()]
        return sum(int(text) for text in texts if text)


def watched(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """The same items, with progress: a bar on a terminal, a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    next_line = time.monotonic() + _LINE_SECONDS
    with tqdm(total=total, desc=label, unit=unit, disable=not is_terminal) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            bar.update()
            if not is_terminal and time.monotonic() >= next_line:
                sys.stderr.write(f"{label}: {done} of {counted(total, unit)}\n")
                next_line += _LINE_SECONDS
