"""One run at a time on an output in a store, by an object that its holder writes again and again.

A store holds no lock that dies with its holder, and not all stores can write an object only if
there is none. So a run writes its name, waits, and looks whether the name is still there; from then
on it writes it again with another beat. Whoever finds the object of another run watches it: if it
changes, that run is alive; if it is silent for long, its holder is dead. No clocks are compared.

Two runs that begin within one request of each other may both believe to hold the lock, if that
request takes longer than the wait; the one that was overwritten finds out at its next beat, and
ends. So does one that was taken for dead.
"""

import contextlib
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.store import remove, upload
from schemas.store import StoreError, StorePath, patience_seconds

BEAT_SECONDS = 15.0
SILENT_SECONDS = 60.0
"""A holder that was silent for so long, and for the time that the store may fail, is dead."""
EXIT_TAKEN_OVER = 2
SETTLE_SECONDS = 1.0
"""Between writing and looking again: longer than what another takes from looking to writing."""
_LOOK_SECONDS = 1.0


@contextmanager
def only_run_of_store(layout: Layout[StorePath]) -> Iterator[None]:
    """Keep runs of other machines off a dataset in a store; this machine's lock is held already.

    Raises:
        UserError: if another run goes on there.
        StoreError: if the store cannot be reached, or not be written.
    """
    holder = _Holder(layout)
    holder.acquire()
    try:
        with holder.beating():
            yield
    finally:
        holder.release()


class _Holder:
    def __init__(self, layout: Layout[StorePath]) -> None:
        self._layout = layout
        self._mine = {
            "run": uuid.uuid4().hex,
            "machine": _machine_id(layout),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        self._beat = 0

    def acquire(self) -> None:
        if found := self._read():
            self._outlive(found)
        self._write()
        time.sleep(SETTLE_SECONDS)
        if not self._is_mine(found := self._read()):
            raise refusal(self._layout, _named(found))

    def release(self) -> None:
        with contextlib.suppress(StoreError):  # what ended the run is told; others see silence
            if self._is_mine(self._read()):
                remove(self._layout.shared_lock)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write the lock again and again; if another run took it, end this one."""
        stop = threading.Event()
        thread = threading.Thread(target=self._beat_until, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _beat_until(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            with contextlib.suppress(StoreError):  # the work itself is going to tell
                if not self._is_mine(found := self._read()):
                    self._end(found)
                    return
                self._write()

    def _end(self, found: dict[str, object]) -> None:
        sys.stderr.write(
            f"pipelines: {_named(found)} has taken over {self._layout.root}, since this run showed "
            "no sign of life, or began at the same moment: it ends here\n"
        )
        sys.stderr.flush()
        os._exit(EXIT_TAKEN_OVER)  # the runner waits in threads that cannot be woken

    def _outlive(self, found: dict[str, object]) -> None:
        """Wait until another run is known to be dead.

        Raises:
            UserError: if it is alive.
        """
        if found.get("machine") == self._mine["machine"]:
            return  # it held the lock of this machine, too, which this run holds now
        seconds = patience_seconds() + SILENT_SECONDS
        sys.stderr.write(
            f"{self._layout.root} is locked by {_named(found)}: waiting for a sign of its life, "
            f"{seconds:.0f} s at most\n"
        )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            if (now := self._read()) != found:
                if not now:
                    return  # it has ended
                raise refusal(self._layout, _named(now))

    def _read(self) -> dict[str, object]:
        """What the lock says; nothing if there is none."""
        try:
            told = json.loads(self._layout.shared_lock.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            told = None
        return told if isinstance(told, dict) else {"damaged": True}

    def _is_mine(self, found: dict[str, object]) -> bool:
        return found.get("run") == self._mine["run"]

    def _write(self) -> None:
        self._beat += 1
        file = self._layout.local / "lock.json"  # not staged: what is staged may be cleared away
        file.write_text(json.dumps({**self._mine, "beat": self._beat}))
        upload(file, self._layout.shared_lock)


def _machine_id(layout: Layout) -> str:
    """Of the folder whose lock keeps off other runs of this machine, wherever that folder is."""
    file = layout.local / "machine"
    if not file.is_file():
        file.write_text(uuid.uuid4().hex)
    return file.read_text()


def _named(found: dict[str, object]) -> str:
    return f"process {found.get('pid', '?')} on {found.get('host', '?')}"


def refusal(layout: Layout, holder: str) -> UserError:
    """What a run is told that finds another one on its output."""
    return UserError(
        f"another run writes to {layout.root} ({holder}): wait until it has ended, or choose "
        "another --output"
    )
