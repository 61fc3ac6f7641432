from pathlib import Path

import pyarrow.fs
import pytest

from pipelines import cpu_limit
from pipelines.cache import local_copies


def test_a_download_is_progress_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands for the store."""
    disk = pyarrow.fs.SubTreeFileSystem(str(tmp_path / "store"), pyarrow.fs.LocalFileSystem())
    monkeypatch.setattr("schemas.store._file_system", lambda _: disk)
    monkeypatch.setenv("VCSR_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "store" / "bucket" / "large.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(3 * 2**20))
    signs: list[int] = []
    monkeypatch.setattr(cpu_limit, "renew", lambda: signs.append(1))
    with local_copies(["s3://bucket/large.mp4"]) as (path,):
        assert Path(path).read_bytes() == file.read_bytes()
    assert len(signs) >= 3
