"""Copies on this machine of what lies in stores, as many as there is room for.

Each process that needs a copy holds a hard link to it, so that any other may delete the copy at
any time. Links of processes that were killed are cleared away by the next.
"""

import hashlib
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines import cpu_limit
from schemas.store import StorePath, cache_folder, is_url

_BYTES_PER_GIB = 2**30
_LARGEST_GIB = 16.0


@contextmanager
def local_copies(paths: Sequence[str]) -> Iterator[list[str]]:
    """Local files with the content of places, of the same names, to be read in the meantime.

    Args:
        paths: local paths, which are returned as they are, or URLs.

    Yields:
        A path for each; of an object that does not exist one that does not, either.

    Raises:
        StoreError: if a store refuses, or does not come back.
    """
    if not any(map(is_url, paths)):
        yield list(paths)
        return
    held = cache_folder() / "held" / f"{_process(os.getpid())}-{uuid.uuid4().hex}"
    held.mkdir(parents=True)
    try:
        yield [
            str(_hold(StorePath(path), held / str(index))) if is_url(path) else path
            for index, path in enumerate(paths)
        ]
    finally:
        shutil.rmtree(held, ignore_errors=True)


def _hold(path: StorePath, folder: Path) -> Path:
    link = folder / path.name
    try:
        version = path.version
    except FileNotFoundError:
        return link
    folder.mkdir()
    digest = hashlib.sha256(f"{path} {version}".encode()).hexdigest()
    copy = cache_folder() / "sources" / digest[:2] / digest
    try:
        os.link(copy, link)
    except FileNotFoundError:
        path.download(link, cpu_limit.renew)
        _make_room(link.stat().st_size)
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_name(f"{digest}.{uuid.uuid4().hex}")
        os.link(link, partial)
        os.replace(partial, copy)
    else:
        os.utime(copy)
    return link


def _make_room(num_bytes: int) -> None:
    """Delete the copies that were not used for longest, and what killed processes held."""
    for held in (cache_folder() / "held").glob(f"{_process('*')}-*"):
        if not _is_alive(int(held.name.split("-")[-2])):
            shutil.rmtree(held, ignore_errors=True)
    limit = float(os.environ.get("VCSR_CACHE_GIB", _LARGEST_GIB)) * _BYTES_PER_GIB
    found = []
    for file in (cache_folder() / "sources").glob("*/*"):
        try:
            status = file.stat()
        except FileNotFoundError:
            continue  # another process made room
        found.append((status.st_mtime, status.st_size, file))
    excess = sum(size for _, size, _ in found) + num_bytes - limit
    for _, size, file in sorted(found):
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size


def _process(pid: int | str) -> str:
    """Names a process; the folder may be shared with other machines."""
    return f"{platform.node()}-{pid}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
