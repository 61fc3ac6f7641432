"""One run at a time on an output, by a lock that dies with its process.

The kernel holds the lock (`flock`), and lets go of it however the process ends; a file that was
left behind therefore means nothing. On NFS the server holds it, for other hosts too, and lets go of
a host that died after its lease, about a minute and a half later. For an output in a store this
lock lies on this machine, and keeps off its other runs; `pipelines.store_lock` those of others.
"""

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.store_lock import only_run_of_store, refusal
from schemas.store import StorePath

_HOLDER_BYTES = 4096


@contextmanager
def only_run(layout: Layout) -> Iterator[None]:
    """Keep other runs off a dataset.

    Raises:
        UserError: if another run goes on there, or the folder cannot be written.
        StoreError: if it is in a store that cannot be reached.
    """
    if isinstance(layout.root, StorePath):
        layout.root.check()
    try:
        layout.local.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(layout)
    except OSError as error:
        raise UserError(
            f"cannot write to {layout.local}: {error.strerror}; choose another --output"
        ) from error
    try:
        with only_run_of_store(layout) if isinstance(layout.root, StorePath) else nullcontext():
            yield
    finally:
        layout.lock.unlink(missing_ok=True)  # before the lock is let go: nobody else has it yet
        os.close(descriptor)


def _acquire(layout: Layout) -> int:
    """The descriptor that holds the lock."""
    file = layout.lock
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, layout)
            if _is_there(descriptor, file):
                _write_holder(descriptor)
                return descriptor
        except (UserError, OSError):
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a run that just ended and removed its file


def _lock(descriptor: int, layout: Layout) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise refusal(layout, _read_holder(descriptor)) from None
    except OSError as error:  # some network file systems have none
        sys.stderr.write(
            f"{layout.local} cannot be locked ({error.strerror}): see that no other run writes to "
            "it\n"
        )


def _is_there(descriptor: int, file: Path) -> bool:
    """Whether the path still leads to the file that is locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    """Say who holds the lock, for the message to others; nothing is decided by it."""
    holder = {
        "host": platform.node(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _read_holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, _HOLDER_BYTES, 0))
        return "process {pid} on {host}, since {since}".format(**holder)
    except (ValueError, KeyError, TypeError):  # it was just begun
        return "it just began"
