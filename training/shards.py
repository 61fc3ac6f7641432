"""A dataset's shards, wherever they lie."""

import dataclasses
import functools
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from schemas.manifest import DataFile, DatasetError, Shard
from schemas.store import Place, StorePath, cache_folder
from training.cache import Original, ShardCache

_BYTES_PER_GIB = 2**30
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """How shards of a store are read; no batch depends on it."""

    gib: float = 16.0
    """disk space for copies of shards, GiB; 0: no copies, each member is read by its byte range"""
    folder: Path | None = None
    """where copies are; by default below VCSR_CACHE, or ~/.cache/vcsr"""


class Shards:
    """Opens a dataset's shards. Those of a store are copied to this machine first.

    Args:
        dataset: the dataset's folder, local or in a store.
        shards: what its manifest says of its shards.
        options: of the copies.

    Raises:
        DatasetError: if the manifest says what no copy can be made by.
    """

    def __init__(
        self, dataset: Place, shards: Iterable[Shard], options: CacheOptions | None = None
    ) -> None:
        self.dataset = dataset
        self._cache: ShardCache | None = None
        self._tars = dict[str, DataFile]()
        self._lost = dict[str, str]()
        options = options or CacheOptions()
        if isinstance(dataset, StorePath) and options.gib:
            folder = options.folder or cache_folder() / "shards"
            self._cache = ShardCache(folder, int(options.gib * _BYTES_PER_GIB))
            self._tars = {shard.shard: _checked_tar(dataset, shard) for shard in shards}

    def open(self, shard: str) -> BinaryIO:
        """A shard's tar, to be read at any place.

        Raises:
            DatasetError: if it is missing, or not what the manifest names; what could not be copied
                once is not fetched again.
            StoreError: if the store refuses, or does not come back.
            UserError: if copies cannot be made here.
        """
        if self._cache is None:
            return self._open(shard)
        if shard in self._lost:
            raise DatasetError(self._lost[shard])
        try:
            return self._cache.open(self._original(shard))
        except DatasetError as error:
            self._lost[shard] = str(error)
            raise

    def mend(self, shard: str) -> bool:
        """Where it may be the copy that is damaged, and not the shard, see that the next is whole.

        Returns:
            Whether to read again: another process may have dropped the copy, or made it again.
        """
        if self._cache is None:
            return False
        self._cache.drop_if_spoilt(self._original(shard))
        return True

    def expect(self, shards: Iterable[str]) -> None:
        """Tell which shards are going to be opened: copies of them are made meanwhile, in order."""
        if self._cache is not None:
            for shard in shards:
                # What fails is told when the shard is opened, and fails again.
                self._thread.submit(self._cache.prefetch, self._original(shard))

    def close(self) -> None:
        """Expect nothing any more."""
        if (thread := vars(self).pop("_thread", None)) is not None:
            thread.shutdown(wait=False, cancel_futures=True)

    def sizes(self, shards: Iterable[str]) -> list[int]:
        """Bytes of each shard's tar, where copies are made."""
        return [self._tars[shard].size for shard in shards]

    @property
    def room(self) -> int | None:
        """Bytes that copies may take; None where there are none."""
        return None if self._cache is None else self._cache.most_bytes

    @functools.cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="shards")

    def _path(self, shard: str) -> Place:
        return self.dataset / "data" / f"{shard}.tar"

    def _open(self, shard: str) -> BinaryIO:
        path = self._path(shard)
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise self._missing(shard) from None
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error}): copy it again") from error

    def _original(self, shard: str) -> Original:
        tar = self._tars[shard]
        download = functools.partial(self._download, shard)
        return Original(str(self._path(shard)), tar.size, tar.sha256, download)

    def _download(self, shard: str, target: Path) -> None:
        path, size = self._path(shard), self._tars[shard].size
        assert isinstance(path, StorePath)
        try:
            if (found := path.size) != size:  # it must not take more room than was made for it
                raise DatasetError(f"{path} has {found} bytes, not {size}: copy the dataset again")
            path.download(target)
        except FileNotFoundError:
            raise self._missing(shard) from None

    def _missing(self, shard: str) -> DatasetError:
        path = self._path(shard)
        if not path.parent.is_dir():
            return DatasetError(
                f"{self.dataset} is published without its pixels; make the dataset first: "
                f"python -m pipelines.materialize {self.dataset} --input SOURCES --output DATASET"
            )
        return DatasetError(f"{path} is missing, but the manifest names it: copy the dataset again")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_thread"}


def _checked_tar(dataset: Place, shard: Shard) -> DataFile:
    """What the manifest says of a shard's tar: names of files are made of it."""
    tar = shard.files[0] if shard.files else None
    if tar is None or tar.size < 1 or not _SHA256.fullmatch(tar.sha256):
        raise DatasetError(
            f"{dataset}: the manifest does not tell size and SHA-256 of the tar of shard "
            f"{shard.shard}: it is not ours"
        )
    return tar
