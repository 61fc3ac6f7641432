"""Signs of life: a run ends with a message, not never, when what it waits for was killed.

Some runners wait for ever for a worker process that was killed, say for lack of memory. So each
process beats while it works, however long that takes, and the process that submitted the run
watches. An engine that gives the work to another worker goes on undisturbed.
"""

import contextlib
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.beam_log import is_interruption
from pipelines.layout import Layout
from schemas.wording import counted

PATIENCE_SECONDS = 120
"""How long nothing may beat: far above the delays of network file systems."""
LEAST_PATIENCE_SECONDS = 3
"""With less, those who work as they should would be taken for dead between two beats."""
EXIT_WORKERS_LOST = 2
_BEAT_SECONDS = 1.0
_SILENT_BEATS = 5
"""After which a process is taken for dead if the runner has failed anyway."""


@contextlib.contextmanager
def alive(layout: Layout, work: str) -> Iterator[None]:
    """Beat while this process works on something.

    Args:
        layout: of the dataset.
        work: what it works on; an earlier attempt at the same, of a process that died, is
            forgotten.
    """
    layout.alive.mkdir(parents=True, exist_ok=True)
    for earlier in layout.alive.glob(f"{work}@*"):
        earlier.unlink(missing_ok=True)
    file = layout.alive / f"{work}@{platform.node()}@{os.getpid()}"
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(file, stop), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        file.unlink(missing_ok=True)


def _beat(file: Path, stop: threading.Event) -> None:
    beats = 0
    while not stop.is_set():
        beats += 1
        with contextlib.suppress(OSError):  # the work itself is going to tell
            _overwrite(file, str(beats))
        stop.wait(_BEAT_SECONDS)


def _overwrite(file: Path, text: str) -> None:
    """In place, which a disk that is full allows, too."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(descriptor, text.encode(), 0)
    finally:
        os.close(descriptor)


class Watchdog(AbstractContextManager["Watchdog"]):
    """Ends this process, with a message, when work was begun and nothing beats any more.

    Work that nobody has begun is waited for: a cluster may be busy, or still be starting.

    Args:
        layout: of the dataset.
        patience_seconds: how long nothing may beat.
    """

    def __init__(self, layout: Layout, patience_seconds: float) -> None:
        self._layout, self._patience_seconds = layout, patience_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._forget()
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
        if error is not None and not is_interruption(error) and (lost := self._silent()):
            self._end(lost)  # the runner has noticed; what it says of it helps nobody
        shutil.rmtree(self._layout.alive, ignore_errors=True)

    def _watch(self) -> None:
        # Looks are counted and not time: where the store stalls, or all of this is suspended, those
        # who work are silent, too, and had no chance to be heard.
        beats, silent_looks = self._beats(), 0
        while not self._stop.wait(_BEAT_SECONDS):
            before, beats = beats, self._beats()
            silent_looks = silent_looks + 1 if beats and beats == before else 0
            if silent_looks * _BEAT_SECONDS > self._patience_seconds:
                self._end(sorted(beats))
                return

    def _silent(self) -> list[str]:
        before = self._beats()
        if not before:
            return []
        time.sleep(_SILENT_BEATS * _BEAT_SECONDS)
        after = self._beats()
        return sorted(name for name in before if after.get(name) == before[name])

    def _beats(self) -> dict[str, str]:
        beats = dict[str, str]()
        with contextlib.suppress(OSError):  # there are none, or they cannot be seen just now
            for file in self._layout.alive.iterdir():
                with contextlib.suppress(FileNotFoundError):  # it has just finished
                    beats[file.name] = file.read_text()
            return beats
        return {}

    def _end(self, lost: list[str]) -> None:
        work, host, process = lost[0].rsplit("@", 2)
        others = f" (and {counted(len(lost) - 1, 'other')})" if len(lost) > 1 else ""
        sys.stderr.write(
            f"pipelines: process {process} on {host}{others} shows no sign of life, though it was "
            f"at work on {work}, and no other has taken over. It was killed, perhaps for lack of "
            "memory: then give fewer --workers. The same command goes on from here\n"
        )
        sys.stderr.flush()
        # The runner waits in threads that cannot be woken; whatever is unfinished is made again.
        os._exit(EXIT_WORKERS_LOST)

    def _forget(self) -> None:
        for file in self._layout.alive.glob("*@*@*"):
            file.unlink(missing_ok=True)
