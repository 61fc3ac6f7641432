"""A dataset's shards, wherever they lie."""

import dataclasses
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from schemas.manifest import DatasetError, Shard
from schemas.store import Place, StorePath, cache_folder
from training.cache import Original, ShardCache

_BYTES_PER_GIB = 2**30


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
    """

    def __init__(
        self, dataset: Place, shards: Iterable[Shard], options: CacheOptions | None = None
    ) -> None:
        self.dataset = dataset
        self._tars = {shard.shard: shard.files[0] for shard in shards if shard.files}
        self._cache: ShardCache | None = None
        options = options or CacheOptions()
        if isinstance(dataset, StorePath) and options.gib:
            folder = options.folder or cache_folder() / "shards"
            self._cache = ShardCache(folder, int(options.gib * _BYTES_PER_GIB))

    def open(self, shard: str) -> BinaryIO:
        """A shard's tar, to be read at any place.

        Raises:
            DatasetError: if it is missing, or not what the manifest names.
            StoreError: if the store refuses, or does not come back.
        """
        try:
            if self._cache is not None:
                return self._cache.open(self._original(shard))
            return self._path(shard).open("rb")
        except FileNotFoundError:
            raise self._missing(shard) from None

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
        """Bytes of each shard's tar."""
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

    def _original(self, shard: str) -> Original:
        path, tar = self._path(shard), self._tars[shard]
        assert isinstance(path, StorePath)
        return Original(str(path), tar.size, tar.sha256, path.download)

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
