"""Copies of shards on this machine's disk, as many as there is room for.

They are named by their content: the same shard under another URL needs no second copy, and that of
another dataset is never taken for it. All processes of the machine share them, and each shard is
fetched by one of them. Any copy may be deleted at any time, since an open file stays readable.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from schemas.manifest import DatasetError

logger = logging.getLogger(__name__)

_NUM_LOCKS = 256  # files; shards that share one are not fetched at the same time
_WAIT_SECONDS = 0.2
_DOWNLOADS = 2  # of a shard whose content is not what it should be


class Original(NamedTuple):
    """A shard where it lies."""

    name: str
    """its path or URL"""
    size: int
    """bytes"""
    sha256: str
    """of the whole file, hexadecimal"""
    download: Callable[[Path], None]
    """writes it to a local file"""


class ShardCache:
    """A folder of copies.

    Args:
        folder: where they are; nothing else may be there.
        most_bytes: of all copies, those that are on the way included.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self.most_bytes = folder, most_bytes

    def open(self, original: Original) -> BinaryIO:
        """The copy, made first unless there is one.

        Raises:
            DatasetError: if the shard is not what the manifest names.
            StoreError: if the store refuses, or does not come back.
        """
        copy = self._copy(original)
        while True:
            try:
                file = copy.open("rb")
            except FileNotFoundError:
                self._fetch(original, wait=True)
                continue
            with contextlib.suppress(FileNotFoundError):
                os.utime(copy)  # the copies that were not used for longest are deleted first
            return file

    def prefetch(self, original: Original) -> None:
        """Make a copy, unless there is one, or another process makes it, or no room for it yet."""
        if not self._copy(original).exists():
            self._fetch(original, wait=False)

    def _copy(self, original: Original) -> Path:
        return self._folder / f"{original.sha256}.tar"

    def _fetch(self, original: Original, *, wait: bool) -> None:
        copy = self._copy(original)
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock(original.sha256)
        with _locked(lock, wait=wait) as is_held:
            if not is_held or copy.exists():
                return
            part = self._folder / f"{original.sha256}.{original.size}.part"
            while not self._reserve(part, original.size, lock):
                if not wait:
                    return
                time.sleep(_WAIT_SECONDS)
            try:
                _download(original, part)
                part.replace(copy)
            finally:
                part.unlink(missing_ok=True)

    def _lock(self, sha256: str) -> Path:
        return self._folder / f"{int(sha256, 16) % _NUM_LOCKS:03d}.lock"

    def _reserve(self, part: Path, size: int, own: Path) -> bool:
        """Begin a copy if there is room for it, or can be made."""
        with _locked(self._folder / "room.lock", wait=True):
            taken = sum(self._reserved(other, own) for other in self._folder.glob("*.part"))
            copies = sorted(_by_last_use(self._folder))
            excess = taken + size + sum(num_bytes for _, num_bytes, _ in copies) - self.most_bytes
            for _, num_bytes, copy in copies:
                if excess > 0:
                    copy.unlink(missing_ok=True)
                    excess -= num_bytes
            if excess > 0:
                return False
            part.touch()
            return True

    def _reserved(self, part: Path, own: Path) -> int:
        """Bytes that a copy on the way is going to take; 0 if whoever began it was killed."""
        sha256, size, _ = part.name.split(".")
        lock = self._lock(sha256)
        with contextlib.nullcontext(True) if lock == own else _locked(lock, wait=False) as is_held:
            if is_held:
                part.unlink(missing_ok=True)
            return 0 if is_held else int(size)


def _by_last_use(folder: Path) -> Iterator[tuple[float, int, Path]]:
    for copy in folder.glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            status = copy.stat()
            yield status.st_mtime, status.st_size, copy


def _download(original: Original, target: Path) -> None:
    for _ in range(_DOWNLOADS):
        original.download(target)
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == original.sha256:
            return
        logger.warning("%s came with other content than it should have", original.name)
    raise DatasetError(
        f"{original.name} is not the file that the manifest names (SHA-256 {found[:12]}, not "
        f"{original.sha256[:12]}): copy the dataset again"
    )


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock, or learn that another process or thread does.

    The kernel lets go of it however the process ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)
