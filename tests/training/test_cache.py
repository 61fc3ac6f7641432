import hashlib
import multiprocessing
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from schemas.manifest import DatasetError
from schemas.store import StoreError
from training.cache import Original, ShardCache
from training.config import UserError

SIZE = 1000


def download(file: Path, log: Path, target: Path) -> None:
    with log.open("a") as lines:
        lines.write(f"{file.name}\n")
    shutil.copyfile(file, target)


def originals(folder: Path, number: int) -> list[Original]:
    found = []
    for index in range(number):
        file = folder / f"shard{index}"
        file.write_bytes(bytes([index]) * SIZE)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        load = partial(download, file, folder / "log")
        found.append(Original(str(file), SIZE, sha256, load))
    return found


def downloads(folder: Path) -> list[str]:
    return (folder / "log").read_text().split() if (folder / "log").exists() else []


def copies(cache: Path) -> int:
    return len(list(cache.glob("*.tar"))) + len(list(cache.glob("*.part")))


def test_a_copy_is_made_once_and_used_again(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    for _ in range(3):
        with ShardCache(tmp_path / "cache", 10 * SIZE).open(one) as file:
            assert file.read() == bytes(SIZE)
    assert downloads(tmp_path) == ["shard0"]


def test_the_same_content_under_another_name_needs_no_copy(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    cache = ShardCache(tmp_path / "cache", 10 * SIZE)
    cache.open(one).close()
    cache.open(one._replace(name="elsewhere")).close()
    assert downloads(tmp_path) == ["shard0"]


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    shards = originals(tmp_path, 4)
    cache = ShardCache(tmp_path / "cache", 3 * SIZE)
    held = cache.open(shards[0])
    for shard in (*shards[1:3], shards[0], shards[3]):
        cache.open(shard).close()
        assert copies(tmp_path / "cache") <= 3
    left = {file.stem for file in (tmp_path / "cache").glob("*.tar")}
    assert left == {shards[n].sha256 for n in (0, 2, 3)}
    cache.open(shards[1]).close()
    cache.open(shards[2]).close()
    assert held.read() == bytes(SIZE)  # its copy is gone, the open file is not
    held.close()


def open_all(shards: list[Original], cache: Path, most_bytes: int) -> None:
    for number in range(3 * len(shards)):
        with ShardCache(cache, most_bytes).open(shards[number % len(shards)]) as file:
            data = file.read()
        assert hashlib.sha256(data).hexdigest() == shards[number % len(shards)].sha256


@pytest.mark.parametrize("most_shards", [2, 8])
def test_processes_share_copies(tmp_path: Path, most_shards: int) -> None:
    shards = originals(tmp_path, 6)
    spawn = multiprocessing.get_context("spawn")
    arguments = (shards, tmp_path / "cache", most_shards * SIZE)
    processes = [spawn.Process(target=open_all, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert copies(tmp_path / "cache") <= most_shards
    if most_shards > len(shards):
        assert sorted(downloads(tmp_path)) == [f"shard{n}" for n in range(6)]


def test_another_content_is_an_error_with_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = originals(tmp_path, 1)
    cache = ShardCache(tmp_path / "cache", 10 * SIZE)
    wrong = one._replace(sha256="0" * 64)
    with pytest.raises(DatasetError, match=r"shard0 is not the file .*000000000000"):
        cache.open(wrong)
    assert downloads(tmp_path) == ["shard0", "shard0"]  # it may have been the network
    assert "came with other content" in caplog.text
    assert copies(tmp_path / "cache") == 0


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)

    def fail(target: Path) -> None:
        target.write_bytes(b"half")
        raise StoreError("gone")

    cache = ShardCache(tmp_path / "cache", 10 * SIZE)
    with pytest.raises(StoreError):
        cache.open(one._replace(download=fail))
    assert copies(tmp_path / "cache") == 0
    cache.open(one).close()


def test_what_a_killed_process_left_takes_no_room(tmp_path: Path) -> None:
    shards = originals(tmp_path, 3)
    folder = tmp_path / "cache"
    folder.mkdir()
    for shard in shards:
        (folder / f"{shard.sha256}.{SIZE}.part").write_bytes(b"half")
    ShardCache(folder, SIZE).open(shards[0]).close()
    assert [file.suffix for file in folder.glob("*.*") if file.suffix != ".lock"] == [".tar"]


def test_what_is_on_its_way_is_not_fetched_twice_nor_its_room_taken(tmp_path: Path) -> None:
    one, two = originals(tmp_path, 2)
    cache = ShardCache(tmp_path / "cache", SIZE)
    assert int(one.sha256, 16) % 256 != int(two.sha256, 16) % 256  # they would share a lock

    def meanwhile(target: Path) -> None:
        cache.prefetch(one)
        cache.prefetch(two)
        assert copies(tmp_path / "cache") == 1
        one.download(target)

    cache.open(one._replace(download=meanwhile)).close()
    assert downloads(tmp_path) == ["shard0"]
    cache.prefetch(two)
    assert downloads(tmp_path) == ["shard0", "shard1"]


def test_prefetching_what_is_there_is_nothing(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    cache = ShardCache(tmp_path / "cache", SIZE)
    cache.prefetch(one)
    cache.prefetch(one)
    assert downloads(tmp_path) == ["shard0"]
    cache.open(one).close()
    assert downloads(tmp_path) == ["shard0"]


def test_a_copy_that_is_cut_is_made_again(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    cache = ShardCache(tmp_path / "cache", SIZE)
    cache.open(one).close()
    (copy,) = (tmp_path / "cache").glob("*.tar")
    copy.write_bytes(b"")
    with cache.open(one) as file:
        assert file.read() == bytes(SIZE)
    assert downloads(tmp_path) == ["shard0", "shard0"]


def test_a_spoilt_copy_is_told_from_a_spoilt_shard(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    cache = ShardCache(tmp_path / "cache", SIZE)
    cache.open(one).close()
    cache.drop_if_spoilt(one)
    (copy,) = (tmp_path / "cache").glob("*.tar")
    copy.write_bytes(b"x" * SIZE)
    cache.drop_if_spoilt(one)
    assert not copy.exists()
    cache.drop_if_spoilt(one)
    with cache.open(one) as file:
        assert file.read() == bytes(SIZE)


def test_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    with pytest.raises(UserError, match="more --cache-gib"):
        ShardCache(tmp_path / "cache", SIZE - 1).open(one)


def test_room_that_cannot_be_made_costs_no_copy(tmp_path: Path) -> None:
    zero, one, two = originals(tmp_path, 3)
    cache = ShardCache(tmp_path / "cache", 2 * SIZE)
    cache.open(zero).close()
    large = two._replace(size=2 * SIZE)

    def meanwhile(target: Path) -> None:
        cache.prefetch(large)
        assert copies(tmp_path / "cache") == 2  # the one that is on its way, and the old one
        one.download(target)

    cache.open(one._replace(download=meanwhile)).close()
    assert downloads(tmp_path) == ["shard0", "shard1"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    one, two = originals(tmp_path, 2)
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("mine.tar", "x.part", "notes"):
        (folder / name).write_bytes(bytes(10 * SIZE))
    cache = ShardCache(folder, SIZE)
    cache.open(one).close()
    cache.open(two).close()
    assert {"mine.tar", "x.part", "notes"} <= {file.name for file in folder.iterdir()}


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (one,) = originals(tmp_path, 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file/cache cannot hold copies .*VCSR_CACHE"):
        ShardCache(tmp_path / "file" / "cache", SIZE).open(one)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_that_was_forked_meanwhile_holds_nothing_up(tmp_path: Path) -> None:
    one, two = originals(tmp_path, 2)
    cache = ShardCache(tmp_path / "cache", SIZE)
    children = list[int]()

    def meanwhile(target: Path) -> None:
        children.append(os.fork())
        if not children[-1]:
            time.sleep(60)
            os._exit(0)
        one.download(target)

    try:
        cache.open(one._replace(download=meanwhile)).close()
        cache.open(two).close()
        cache.prefetch(one)  # whose lock the child would hold
        assert downloads(tmp_path) == ["shard0", "shard1", "shard0"]
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
