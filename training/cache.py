"""Copies of shards on this machine's disk, as many as there is room for.

They are named by their content: the same shard under another URL needs no second copy, and that of
another dataset is never taken for it. All processes of the machine share them, and each shard is
fetched by one of them. Any copy may be deleted at any time, since an open file stays readable.
"""

import contextlib
import fcntl
import hashlib
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.manifest import DatasetError
from training.config import UserError

logger = logging.getLogger(__name__)

_NUM_LOCKS = 256  # files; shards that share one are not fetched at the same time
_WAIT_SECONDS = 0.2
_DOWNLOADS = 2  # of a shard whose content is not what it should be
# Whatever else lies in the folder is left alone.
_COPY = re.compile(r"[0-9a-f]{64}\.tar")
_PART = re.compile(r"([0-9a-f]{64})\.([0-9]+)\.part")


class Original(NamedTuple):
    """A shard where it lies."""

    name: str
    """its path or URL"""
    size: int
    """bytes"""
    sha256: str
    """of the whole file, 64 hexadecimal digits"""
    download: Callable[[Path], None]
    """writes it to a local file; raises DatasetError or StoreError if it cannot"""


class ShardCache:
    """A folder of copies.

    Args:
        folder: where they are.
        most_bytes: of all copies, those that are on the way included.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self.most_bytes = folder, most_bytes

    def open(self, original: Original) -> io.BufferedReader:
        """The copy, made first unless there is one.

        Raises:
            DatasetError: if the shard is not what the manifest names.
            StoreError: if the store refuses, or does not come back.
            UserError: if the shard does not fit, or the folder cannot be written.
        """
        with self._told():
            while True:
                file = self._open_copy(original) or self._fetch(original, wait=True)
                if file is not None:
                    return file

    def prefetch(self, original: Original) -> None:
        """Make a copy, unless there is one, or another process makes it, or no room for it yet."""
        with self._told():
            if not self._copy(original).exists() and (file := self._fetch(original, wait=False)):
                file.close()

    def drop_if_spoilt(self, original: Original) -> None:
        """Delete the copy, where there is one, if its content is no longer that of the shard."""
        with self._told():
            file = self._open_copy(original)
            if file is None:
                return
            with file:
                is_spoilt = _sha256(file) != original.sha256
            if is_spoilt:
                logger.warning("%s: its copy on this machine was damaged", original.name)
                self._copy(original).unlink(missing_ok=True)

    def _copy(self, original: Original) -> Path:
        return self._folder / f"{original.sha256}.tar"

    def _open_copy(self, original: Original) -> io.BufferedReader | None:
        copy = self._copy(original)
        try:
            file = copy.open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != original.size:  # as a power failure leaves it
            file.close()
            copy.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # deleted, another user's, or of a read-only disk
            os.utime(copy)  # the copies that were not used for longest are deleted first
        return file

    def _fetch(self, original: Original, *, wait: bool) -> io.BufferedReader | None:
        """Make a copy and open it; None if that is for another time, or another process did it."""
        if original.size > self.most_bytes:
            raise UserError(
                f"{original.name} has {original.size} bytes, and all copies of shards may take "
                f"{self.most_bytes}: give more --cache-gib"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock(original.sha256)
        with _locked(lock, wait=wait) as is_held:
            if not is_held or self._copy(original).exists():
                return None
            part = self._folder / f"{original.sha256}.{original.size}.part"
            while not self._reserve(part, original.size, lock):
                if not wait:
                    return None
                time.sleep(_WAIT_SECONDS)
            try:
                _download(original, part)
                file = part.open("rb")  # before others see it, and may delete it
                os.fsync(file.fileno())
                part.replace(self._copy(original))
            finally:
                part.unlink(missing_ok=True)
            return file

    def _lock(self, sha256: str) -> Path:
        return self._folder / f"{int(sha256, 16) % _NUM_LOCKS:03d}.lock"

    def _reserve(self, part: Path, size: int, own: Path) -> bool:
        """Begin a copy if there is room for it, or can be made."""
        with _locked(self._folder / "room.lock", wait=True):
            others = [found for file in self._folder.iterdir() if (found := _PART.match(file.name))]
            taken = sum(self._reserved(found, own) for found in others)
            if taken + size > self.most_bytes:
                return False
            copies = sorted(_by_last_use(self._folder))
            excess = taken + size + sum(num_bytes for _, num_bytes, _ in copies) - self.most_bytes
            for _, num_bytes, copy in copies:
                if excess > 0:
                    copy.unlink(missing_ok=True)
                    excess -= num_bytes
            part.touch()
            return True

    def _reserved(self, part: re.Match[str], own: Path) -> int:
        """Bytes that a copy on the way is going to take; 0 if whoever began it was killed."""
        lock = self._lock(part[1])
        with contextlib.nullcontext(True) if lock == own else _locked(lock, wait=False) as is_held:
            if is_held:
                (self._folder / part[0]).unlink(missing_ok=True)
            return 0 if is_held else int(part[2])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._folder} cannot hold copies of shards ({error}): name another folder in "
                "VCSR_CACHE, or give --cache-gib 0"
            ) from error


def _by_last_use(folder: Path) -> Iterator[tuple[float, int, Path]]:
    for copy in folder.iterdir():
        if _COPY.fullmatch(copy.name):
            with contextlib.suppress(FileNotFoundError):
                status = copy.stat()
                yield status.st_mtime, status.st_size, copy


def _download(original: Original, target: Path) -> None:
    for _ in range(_DOWNLOADS):
        original.download(target)
        with target.open("rb") as file:
            found = _sha256(file)
        if found == original.sha256:
            return
        logger.warning("%s came with other content than it should have", original.name)
    raise DatasetError(
        f"{original.name} is not the file that the manifest names (SHA-256 {found[:12]}, not "
        f"{original.sha256[:12]}): copy the dataset again"
    )


def _sha256(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


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
        fcntl.flock(
            descriptor, fcntl.LOCK_UN
        )  # closing lets go only if nobody was forked meanwhile
        os.close(descriptor)
