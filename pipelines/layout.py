"""Where everything of a dataset lies, and how a file gets there whole or not at all."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pipelines.store import remove, upload
from schemas.manifest import MANIFEST_NAME
from schemas.store import Place, StorePath, cache_folder

P = TypeVar("P", Path, StorePath, Place)


@dataclass(frozen=True)
class Layout(Generic[P]):
    """The paths of one dataset. Everything but `logs` is byte-identical between equal runs."""

    root: P

    @property
    def manifest(self) -> P:
        """Written last."""
        return self.root / MANIFEST_NAME

    @property
    def plan(self) -> P:
        """Written before anything is made; its presence commits the plan."""
        return self.root / "index" / "plan.parquet"

    @property
    def sources(self) -> P:
        """The table of sources."""
        return self.root / "index" / "sources.parquet"

    @property
    def next_sources(self) -> P:
        """The table of sources that goes with the plan that is about to be committed."""
        return self.logs / "sources.parquet"

    @property
    def shards(self) -> P:
        """The table of shards."""
        return self.root / "index" / "shards.parquet"

    def tar(self, shard: str) -> P:
        """A shard's samples."""
        return self.root / "data" / f"{shard}.tar"

    def table(self, table: str, shard: str) -> P:
        """A shard's part of a table."""
        return self.root / "index" / table / f"{shard}.parquet"

    def marker(self, shard: str) -> P:
        """Commits the shard: written after its other files."""
        return self.root / "index" / "shards" / f"{shard}.json"

    @property
    def has_shards(self) -> bool:
        """Whether anything was made."""
        return self.tar("any").parent.is_dir()

    @property
    def logs(self) -> P:
        """What differs between equal runs: places, times, hosts."""
        return self.root / "logs"

    @property
    def run(self) -> P:
        """What the dataset is being made from, to recognise another run on the same place."""
        return self.logs / "run.json"

    @property
    def locations(self) -> P:
        """Where the sources lie on this machine."""
        return self.logs / "locations.parquet"

    def probed(self, generation: int, batch: int) -> P:
        """What probing found out about one batch of a generation's inputs."""
        return self.logs / "probed" / f"{generation:03d}" / f"{batch:06d}.parquet"

    def entries(self, generation: int, block: int) -> P:
        """Where one block of a generation's inputs lies on this machine."""
        return self.logs / "entries" / f"{generation:03d}" / f"{block:06d}.json"

    def environment(self, name: str) -> P:
        """What a host of the run was."""
        return self.logs / "environment" / f"{name}.json"

    def shard_log(self, shard: str) -> P:
        """Time, host and attempts of a shard."""
        return self.logs / "shards" / f"{shard}.json"

    @property
    def local(self) -> Path:
        """A folder of this machine for what is on its way: the root, unless that is in a store."""
        if isinstance(self.root, Path):
            return self.root
        return cache_folder() / "work" / hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    @property
    def progress(self) -> Path:
        """Counters of the run that is going on."""
        return self.local / "logs" / "progress"

    @property
    def alive(self) -> Path:
        """Signs of life of the processes that work on the run that is going on."""
        return self.local / "logs" / "alive"

    @property
    def staging(self) -> Path:
        """Where files are written before they are moved to their place."""
        return self.local / ".staging"

    @property
    def lock(self) -> Path:
        """There while a run goes on, see `pipelines.run_lock`."""
        return self.local / ".lock"

    @property
    def shared_lock(self) -> P:
        """The lock that other machines see, see `pipelines.store_lock`."""
        return self.root / ".lock"

    def relative(self, path: Place) -> str:
        """A path as it is recorded: below the root, with forward slashes."""
        below = path.relative_to(self.root)  # type: ignore[arg-type]
        return below.as_posix()


@contextmanager
def staged(layout: Layout) -> Iterator[Path]:
    """A fresh folder, for files that lie in the dataset later; removed in the end."""
    folder = layout.staging / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staged_file: Path, target: Place) -> None:
    """Move a finished file to its place; readers see the old one or the new one.

    Raises:
        StoreError: if the place is in a store that does not take it.
    """
    if isinstance(target, StorePath):
        upload(staged_file, target)
        staged_file.unlink()
        return
    with staged_file.open("rb") as file:
        os.fsync(file.fileno())  # before anything says that it is there
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged_file, target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Else a machine that dies may forget the names of files that it has stored."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Place, target: Place, layout: Layout) -> None:
    """Move a file of the dataset to another place in it; readers see the old one or the new one."""
    if isinstance(source, Path):
        publish(source, target)
        return
    with staged(layout) as folder:
        source.download(folder / target.name)
        publish(folder / target.name, target)
    remove(source)


def publish_bytes(data: bytes, target: Place, layout: Layout) -> None:
    """Write a small file whole or not at all."""
    with staged(layout) as folder:
        file = folder / target.name
        file.write_bytes(data)
        publish(file, target)
