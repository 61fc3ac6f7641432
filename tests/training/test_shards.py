from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.manifest import DataFile, DatasetError, Shard
from schemas.store import StorePath
from tests.training.test_cache import SIZE, downloads, originals
from training.shards import CacheOptions, Shards


def shard(number: int, **changes: object) -> Shard:
    tar = DataFile(path=f"data/s{number}.tar", size=SIZE, sha256=f"{number:064x}", rows=1)
    return Shard(
        shard=f"s{number}",
        split="train",
        plan_sha256="",
        num_samples=1,
        num_left_out=0,
        files=[tar.model_copy(update=changes)],
    )


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shards]:
    """Four shards of a store, which is a folder."""
    found = originals(tmp_path, 4)
    told = [shard(number, sha256=each.sha256) for number, each in enumerate(found)]
    shards = Shards(StorePath("s3://b/ds"), told, CacheOptions(folder=tmp_path / "cache"))
    by_path = {f"s3://b/ds/data/s{number}.tar": each for number, each in enumerate(found)}
    monkeypatch.setattr(StorePath, "size", property(lambda path: by_path[str(path)].size))
    monkeypatch.setattr(
        StorePath, "download", lambda path, target: by_path[str(path)].download(target)
    )
    yield shards
    shards.close()


def test_what_is_expected_is_there_before_it_is_opened(remote: Shards, tmp_path: Path) -> None:
    remote.expect(["s2", "s0"])
    thread = remote._thread
    remote.close()
    thread.shutdown(wait=True)
    assert downloads(tmp_path) in (["shard2", "shard0"], ["shard2"], [])
    remote.expect(["s2", "s0"])
    remote._thread.submit(int).result(10)
    assert sorted(downloads(tmp_path)) == ["shard0", "shard2"]
    for name in ("s0", "s2"):
        remote.open(name).close()
    assert sorted(downloads(tmp_path)) == ["shard0", "shard2"]


def test_a_damaged_copy_is_mended_and_a_damaged_shard_is_not(
    remote: Shards, tmp_path: Path
) -> None:
    remote.open("s1").close()
    next((tmp_path / "cache").glob("*.tar")).write_bytes(b"x" * SIZE)
    for _ in range(2):  # another reader may have mended it before
        assert remote.mend("s1")
        with remote.open("s1") as file:
            assert file.read() == bytes([1]) * SIZE
    assert sorted(downloads(tmp_path)) == ["shard1", "shard1"]
    assert not Shards(tmp_path, []).mend("s1")


def test_another_size_is_told_before_it_is_fetched(
    remote: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StorePath, "size", property(lambda _: 10**15))
    for _ in range(2):  # once is enough to know
        with pytest.raises(
            DatasetError, match=r"s3://b/ds/data/s1\.tar has 1000000000000000 bytes"
        ):
            remote.open("s1")
    assert downloads(tmp_path) == []


@pytest.mark.parametrize(
    "changes", [{"sha256": "../../etc/passwd"}, {"sha256": "zz"}, {"size": -5}, {"size": 0}]
)
def test_a_manifest_that_no_copy_can_be_made_by_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="shard s7: it is not ours"):
        Shards(StorePath("s3://b/ds"), [shard(7, **changes)])
