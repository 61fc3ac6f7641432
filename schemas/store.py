"""Places: local paths, and objects of S3 (`s3://`) and of Google Cloud Storage (`gs://`) by URL.

Reading only, through pyarrow. Credentials, endpoint and region come from where each store's own
tools take them (environment, configuration files, the machine's role), never from a URL.
"""

from __future__ import annotations

import argparse
import errno
import functools
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow.fs

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE_VARIABLE = "VCSR_STORE_PATIENCE"
"""Environment variable: for how many seconds a store that does not answer is tried again."""
_PATIENCE_SECONDS = 120.0
_FIRST_CONTACT_SECONDS = 10.0
_REQUEST_SECONDS = 20.0  # without a byte, until a request is given up
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 0.5, 30.0
_BUFFER_BYTES = 2**20
_LEAST_SECRET = 6  # characters; shorter ones are parts of other words

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEMES = ("s3", "gs")
# What pyarrow and the stores' own libraries say where trying again is in vain.
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist", re.IGNORECASE)
_REFUSED = re.compile(
    r"ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE_DOES_NOT_MATCH|"
    r"SignatureDoesNotMatch|INVALID_CLIENT_TOKEN|EXPIRED_TOKEN|ExpiredToken|PERMISSION_DENIED|"
    r"UNAUTHENTICATED|OAuth2 access token|Unable to locate credentials|(?:status|code:) 40[13]|"
    r"\b40[13]\)|Forbidden|Unauthorized"
)
_CURES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and AWS_ENDPOINT_URL for a "
    "store that is not Amazon's",
    "gs": "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS",
}


class StoreError(Exception):
    """A store does not do what is asked of it. The message is complete: cause, value, and cure."""


def is_url(text: str) -> bool:
    """Whether a text is a URL, of whatever scheme, and no local path."""
    return _URL.match(text) is not None


def absolute(text: str) -> str:
    """A place that means the same in every process: a URL, or an absolute path.

    Raises:
        StoreError: if it is a URL of another kind.
    """
    return str(place(text)) if is_url(text) else os.path.abspath(text)


def place(text: str) -> Path | StorePath:
    """A local path or a URL.

    Raises:
        StoreError: if it is a URL of another kind, or leads to different things for different
            clients.
    """
    if not is_url(text):
        return Path(text)
    path = StorePath(text)
    if not path.is_plain or "\n" in text:
        raise StoreError(
            f"the URL {text!r} has an empty part, '.', '..' or a line break: write it out"
        )
    return path


def version(text: str) -> str:
    """Tells what is at a place from what may be there another time.

    Raises:
        FileNotFoundError: if nothing is there.
    """
    there = place(text)
    if isinstance(there, StorePath):
        return there.version
    status = there.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def cache_folder() -> Path:
    """Where this machine keeps what belongs to stores: VCSR_CACHE, or ~/.cache/vcsr."""
    return Path(os.environ.get("VCSR_CACHE") or Path.home() / ".cache" / "vcsr").absolute()


def lies_in(inner: Place, outer: Place) -> bool:
    """Whether a place is another one, or below it."""
    if isinstance(inner, Path) and isinstance(outer, Path):
        return inner.resolve().is_relative_to(outer.resolve())
    return f"{inner}/".startswith(f"{outer}/")


class StorePath:
    """An object of a store, or what a number of objects begin with: a folder.

    It has those methods of `pathlib.Path` that readers need, and they mean the same.

    Args:
        url: such as s3://bucket/folder/file.
        size: bytes, where that is known; -1 for a folder.

    Raises:
        StoreError: if there is no such URL here.
    """

    def __init__(self, url: str, size: int | None = None) -> None:
        scheme, _, rest = url.partition("://")
        self.scheme = scheme.lower()
        self.bucket, _, key = rest.partition("/")
        if "@" in self.bucket or ":" in self.bucket:  # a secret may hold a slash
            raise StoreError(
                f"a URL of {self.scheme}:// holds credentials, and is going to be logged: take "
                f"them out and give {_CURES.get(self.scheme, 'them to the environment')}"
            )
        if self.scheme not in _SCHEMES or not self.bucket:
            shown = url.partition("?")[0]  # behind it may be a signature
            raise StoreError(
                f"the URL {shown!r} leads nowhere from here: give s3://BUCKET/PATH, "
                "gs://BUCKET/PATH or a local path"
            )
        self.key = key.strip("/")
        self._size = size

    def __str__(self) -> str:
        return f"{self.scheme}://{self._path}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, part: str) -> StorePath:
        return StorePath(f"{self}/{part}")

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def is_plain(self) -> bool:
        """Whether no part is empty or made of dots, of which each client makes something else."""
        return {"", ".", ".."}.isdisjoint(self._path.split("/"))

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> StorePath:
        """What it lies in; a bucket lies in itself."""
        return StorePath(f"{self.scheme}://{self._path.rpartition('/')[0] or self.bucket}")

    def relative_to(self, root: StorePath) -> PurePosixPath:
        """The path below a folder.

        Raises:
            ValueError: if it lies elsewhere.
        """
        return PurePosixPath(self._path).relative_to(root._path)

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self._known_size() >= 0

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        if self._size is not None:
            return self._size == -1
        return self._info().type == pyarrow.fs.FileType.Directory

    def exists(self) -> bool:
        """Whether there is anything."""
        return self._size is not None or self._info().type != pyarrow.fs.FileType.NotFound

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing to do: folders of a store are there with their first object."""

    @property
    def size(self) -> int:
        """Bytes.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        if (size := self._known_size()) < 0:
            raise FileNotFoundError(2, "no such object", str(self))
        return size

    @property
    def version(self) -> str:
        """Tells what is there from what may be there another time.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        info = self._info()
        if info.type != pyarrow.fs.FileType.File:
            raise FileNotFoundError(2, "no such object", str(self))
        return f"{info.size} {info.mtime_ns}"

    def iterdir(self) -> Iterator[StorePath]:
        """What lies in the folder; nothing where there is none."""
        if self.scheme == "gs":
            yield from self._children_by_walking()
            return
        selector = pyarrow.fs.FileSelector(self._path, allow_not_found=True)
        for info in self._retried(lambda files: files.get_file_info(selector)):
            if info.path.strip("/") != self._path:  # some tools write objects that mark folders
                yield self._found(info)

    def _children_by_walking(self) -> Iterator[StorePath]:
        """Of Google's folders Arrow lists only those that have an object of their own."""
        folders = set[str]()
        for file in self.walk():
            name, _, below = file._path.removeprefix(f"{self._path}/").partition("/")
            if not below:
                yield file
            elif name and name not in folders:
                folders.add(name)
                yield StorePath(f"{self}/{name}", -1)

    def walk(self) -> Iterator[StorePath]:
        """All objects below, at whatever depth."""
        selector = pyarrow.fs.FileSelector(self._path, allow_not_found=True, recursive=True)
        for info in self._retried(lambda files: files.get_file_info(selector)):
            if info.type == pyarrow.fs.FileType.File:
                yield self._found(info)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open the object; any range of it can be read without the rest.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        assert mode == "rb", mode
        return io.BufferedReader(_Reader(self), _BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        """All of the object."""
        return self._retried(lambda files: files.open_input_stream(self._path).read())

    def download(self, target: Path, progressed: Callable[[], None] | None = None) -> None:
        """Copy the object to a local file.

        Args:
            target: the file.
            progressed: called after each piece.
        """

        def copy(files: Any) -> None:
            with files.open_input_stream(self._path) as source, target.open("wb") as file:
                while data := source.read(_BUFFER_BYTES):
                    file.write(data)
                    if progressed is not None:
                        progressed()

        self._retried(copy)

    def check(self) -> None:
        """Find out at once whether the bucket is there and may be read.

        Raises:
            StoreError: if not.
        """
        bucket = StorePath(f"{self.scheme}://{self.bucket}")
        selector = pyarrow.fs.FileSelector(self._path, allow_not_found=True)
        with_patience = functools.partial(retried, url=str(self), seconds=_FIRST_CONTACT_SECONDS)
        files = _file_system(self.scheme)
        with_patience(lambda: files.get_file_info(selector))
        try:
            info = files.get_file_info(bucket._path)
        except OSError:
            return  # may not be asked for; it was listed, and so it is there
        if info.type == pyarrow.fs.FileType.NotFound:
            raise _no_bucket(str(self))

    def _known_size(self) -> int:
        if self._size is None:
            info = self._info()
            return info.size if info.type == pyarrow.fs.FileType.File else -1
        return self._size

    def _info(self) -> Any:
        return self._retried(lambda files: files.get_file_info(self._path))

    def _found(self, info: Any) -> StorePath:
        is_file = info.type == pyarrow.fs.FileType.File
        return StorePath(f"{self.scheme}://{info.path}", info.size if is_file else -1)

    def _retried(self, action: Callable[[Any], T]) -> T:
        return retried(lambda: action(_file_system(self.scheme)), str(self))


Place = Path | StorePath


def place_argument(text: str) -> Place:
    """A place on the command line."""
    try:
        return place(text)
    except StoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def for_arrow(places: Sequence[Place]) -> tuple[list[str], Any]:
    """Paths of one kind of place as Arrow takes them, and its file system for them."""
    if isinstance(places[0], StorePath):
        paths = [file._path for file in places if isinstance(file, StorePath)]
        return paths, _file_system(places[0].scheme)
    return [str(file) for file in places], None


class _Reader(io.RawIOBase):
    """Reads an object range by range, each of which may be tried again."""

    def __init__(self, path: StorePath) -> None:
        self.name = str(path)
        self._path, self._file, self._position = path, None, 0
        self._size: int = path._retried(lambda files: self._opened(files).size())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(self._size - self._position, 0))
        data = self._path._retried(lambda files: self._read(files, count)) if count else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _opened(self, files: Any) -> Any:
        if self._file is None:  # opening asks for the size, so it is done once
            self._file = files.open_input_file(self._path._path)
        return self._file

    def _read(self, files: Any, count: int) -> bytes:
        try:
            data: bytes = self._opened(files).read_at(count, self._position)
        except (OSError, ValueError) as error:  # Arrow calls a broken stream a closed file
            self._file = None
            raise OSError(str(error)) from error
        return data


def check_endpoint() -> None:
    """Refuse an address of a store that is going to be logged, by libraries, with credentials.

    Raises:
        StoreError: if it holds any.
    """
    if "@" in os.environ.get("AWS_ENDPOINT_URL", ""):
        raise StoreError(
            f"AWS_ENDPOINT_URL holds credentials: take them out and give {_CURES['s3']}"
        )


@functools.cache
def _file_system(scheme: str) -> Any:
    if scheme == "s3":
        check_endpoint()
        return pyarrow.fs.S3FileSystem(
            endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
            connect_timeout=_REQUEST_SECONDS,
            request_timeout=_REQUEST_SECONDS,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
    limit = timedelta(seconds=_FIRST_DELAY_SECONDS)
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        protocol, _, host = emulator.rpartition("://")
        return pyarrow.fs.GcsFileSystem(
            anonymous=True,
            scheme=protocol or "http",
            endpoint_override=host,
            retry_time_limit=limit,
        )
    return pyarrow.fs.GcsFileSystem(retry_time_limit=limit)


def patience_seconds() -> float:
    """For how long a store that does not answer is tried again."""
    return float(os.environ.get(PATIENCE_VARIABLE, _PATIENCE_SECONDS))


def retried(
    action: Callable[[], T],
    url: str,
    errors: tuple[type[Exception], ...] = (OSError,),
    seconds: float | None = None,
) -> T:
    """Do something with a store, again and again while the store fails.

    Args:
        action: what to do; may be done twice.
        url: what it is done to.
        errors: what it raises if the store fails.
        seconds: patience; by default that of the environment.

    Raises:
        StoreError: if the store refuses, or does not come back.
        FileNotFoundError: of the action.
    """
    patience = min(patience_seconds(), seconds or patience_seconds())
    deadline, delay = time.monotonic() + patience, _FIRST_DELAY_SECONDS
    while True:
        try:
            return action()
        except FileNotFoundError:
            raise
        except errors as error:
            if getattr(error, "errno", None) in _DISK_FULL:
                raise _full(url, error) from None
            told = _redacted(" ".join(str(error).split()))
            if _NO_BUCKET.search(told):
                raise _no_bucket(url) from None
            if _REFUSED.search(told):
                raise _refused(url, told) from None
            if time.monotonic() + delay > deadline:
                raise _silent(url, told, patience, is_curable=seconds is None) from None
            logger.warning("%s fails (%s): tried again in %.1f s", url, told[:200], delay)
        time.sleep(delay)
        delay = min(2 * delay, _LAST_DELAY_SECONDS)


def _no_bucket(url: str) -> StoreError:
    bucket = StorePath(url).bucket
    return StoreError(f"{url}: there is no bucket {bucket!r}: check the name, or create the bucket")


def _full(url: str, error: Exception) -> StoreError:
    told = getattr(error, "strerror", "")
    return StoreError(
        f"{url}: this machine's disk takes no copy of it ({told}): make room, or name another "
        "folder in VCSR_CACHE, and give the same command again"
    )


def _refused(url: str, told: str) -> StoreError:
    cure = _CURES[StorePath(url).scheme]
    return StoreError(f"{url}: the store refuses ({told[:300]}): check the credentials: {cure}")


def _silent(url: str, told: str, patience: float, *, is_curable: bool) -> StoreError:
    cure = f"; {PATIENCE_VARIABLE} sets the time" if is_curable else ""
    return StoreError(
        f"{url}: the store did not answer for {patience:.0f} s ({told[:300]}): check the network "
        f"and the endpoint, and give the same command again{cure}"
    )


def _redacted(text: str) -> str:
    """Some stores repeat in a refusal what they were told."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        if len(secret := os.environ.get(name, "")) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text
