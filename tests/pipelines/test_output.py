"""Outputs that fail, and what killed runs may have left in them."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.clusters import DEADLINE_SECONDS, portable_engine, worker_processes
from pipelines.audit.dataset import open_dataset
from pipelines.finish import finish_dataset
from pipelines.layout import Layout, publish
from pipelines.pool import shared_pool
from pipelines.run_lock import only_run
from pipelines.shards import write_shard
from pipelines.synthesize.__main__ import main
from pipelines.watchdog import alive
from schemas.manifest import read_manifest
from tests.pipelines.clusters import run
from tests.pipelines.killing import digests, remains
from tests.pipelines.small import command_for

EngineStarter = Callable[[Path], AbstractContextManager[list[str]]]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return command_for(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="module")
def made(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "made"
    assert main([*arguments, f"--output={output}"]) == 0
    return output


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {tried.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("a small disk cannot be mounted here: there is no mount")
    mount(folder, "size=64k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_in_a_line_and_the_run_goes_on_once_there_is_room(
    arguments: list[str], made: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*arguments, f"--output={disk / 'made'}"]
    assert main([*run, "--plan-only"]) == 0
    capsys.readouterr()
    assert main(run) == 2
    said = capsys.readouterr().err
    assert f"cannot write to {disk / 'made'}: No space left on device" in said.splitlines()[-1]
    assert "Traceback" not in said
    left = digests(disk / "made")
    assert left.items() <= digests(made).items()  # nothing half written has its name
    assert not any(path.endswith(".json") for path in left)
    mount(disk, "remount,size=8m")
    assert main(run) == 0
    assert digests(disk / "made") == digests(made)
    assert not remains(disk / "made")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_SECONDS)
@pytest.mark.parametrize("engine", [worker_processes, portable_engine])
def test_a_full_disk_is_told_where_errors_travel_as_text(
    arguments: list[str], disk: Path, tmp_path: Path, engine: EngineStarter
) -> None:
    own = [option for option in arguments if "Runner" not in option]
    own += [f"--output={disk / 'made'}"]
    assert main([*own, "--plan-only"]) == 0
    with engine(tmp_path) as options:
        status, said = run([*own, *options])
    assert status == 2, said
    last = said.splitlines()[-1]
    assert f"cannot write to {disk / 'made'}: No space left on device" in last
    # Beam's own processes print theirs before anybody can tell.
    assert engine is worker_processes or "Traceback" not in said


def test_a_full_disk_does_not_stop_signs_of_life(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.watchdog._BEAT_SECONDS", 0.01)
    layout = Layout(disk)
    with alive(layout, "shard-000000"):
        while not (signs := [file for file in layout.alive.iterdir() if file.read_text()]):
            time.sleep(0.01)
        (sign,) = signs
        with pytest.raises(OSError, match="No space left"):
            (disk / "full").write_bytes(bytes(128 * 1024))
        before = sign.read_text()
        time.sleep(0.5)
        assert sign.read_text() != before


def test_a_disk_that_is_full_from_the_start_is_told_in_a_line(
    arguments: list[str], disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (disk / "full").write_bytes(bytes(64 * 1024))
    assert main([*arguments, f"--output={disk / 'made'}"]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and said.count("\n") == 1


def test_an_output_that_cannot_be_written_is_told_in_a_line(
    arguments: list[str], disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mount(disk, "remount,ro")
    assert main([*arguments, f"--output={disk / 'made'}"]) == 2
    said = capsys.readouterr().err
    assert "Read-only file system; choose another --output" in said and said.count("\n") == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def leave_behind(layout: Layout) -> None:
    """What a run that is killed may leave beside the dataset."""
    (layout.staging / "0123").mkdir(parents=True)
    (layout.staging / "0123" / "shard.tar").write_bytes(b"begun")
    layout.progress.mkdir()
    (layout.progress / "train-000000").write_text("")
    layout.lock.write_text('{"host": "here", "pid": 1')


def lose_the_end(layout: Layout) -> None:
    for name in ("manifest.json", "README.md", "croissant.json"):
        (layout.root / name).unlink()


def lose_all_that_was_made(layout: Layout) -> None:
    lose_the_end(layout)
    shutil.rmtree(layout.root / "data")
    for path in layout.plan.parent.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def lose_the_plan(layout: Layout) -> None:
    lose_all_that_was_made(layout)
    layout.plan.unlink()
    cut(layout.probed(0, 0))


def lose_what_was_written_down(layout: Layout) -> None:
    lose_all_that_was_made(layout)
    layout.plan.unlink()
    cut(layout.entries(0, 0))
    cut(layout.locations)


SHARD = "train-000000"
DAMAGE: dict[str, Callable[[Layout], object]] = {
    "a manifest that is cut off": lambda layout: cut(layout.manifest),
    "no manifest, no documents": lose_the_end,
    "an empty marker": lambda layout: layout.marker(SHARD).write_bytes(b""),
    "a marker that is cut off": lambda layout: cut(layout.marker(SHARD)),
    "a tar without its marker": lambda layout: layout.marker(SHARD).unlink(),
    "a marker without its tar": lambda layout: layout.tar(SHARD).unlink(),
    "a tar that is cut off": lambda layout: cut(layout.tar(SHARD)),
    "a table that is cut off": lambda layout: cut(layout.table("frames", SHARD)),
    "a plan and nothing made": lose_all_that_was_made,
    "probing that was interrupted": lose_the_plan,
    "logs that are cut off": lose_what_was_written_down,
    "what a killed run leaves": leave_behind,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_goes_on_from_whatever_was_left(
    arguments: list[str], made: Path, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    DAMAGE[damage](Layout(copy))
    assert main([*arguments, f"--output={copy}"]) == 0
    assert digests(copy) == digests(made)
    assert not remains(copy)


def test_workers_of_a_killed_command_and_the_run_that_goes_on_do_not_harm_each_other(
    arguments: list[str], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster they go on without the lock; here, as if they did, in this process."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    layout = Layout(copy)
    job = open_dataset(copy).job(copy, 1)
    begun = layout.staging / "0123" / "shard.tar"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"of the run that goes on")
    finish_dataset(job, read_manifest(copy).shards)
    assert begun.exists()

    def publish_late(staged_file: Path, target: Path) -> None:
        shutil.rmtree(layout.staging, ignore_errors=True)  # as a run does that begins
        publish(staged_file, target)

    layout.marker(SHARD).unlink()
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.shards.publish", publish_late)
        with pytest.raises(FileNotFoundError):
            write_shard(job, 0, shared_pool(1))
    assert not layout.marker(SHARD).exists()
    assert main([*arguments, f"--output={copy}"]) == 0
    assert digests(copy) == digests(made)
    assert not remains(copy) and not layout.staging.exists()


def test_a_run_that_was_killed_at_once_bars_no_folder(
    arguments: list[str], made: Path, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "killed")
    layout.logs.mkdir(parents=True)
    (layout.staging / "0123").mkdir(parents=True)
    (layout.staging / "0123" / "run.json").write_text("{")
    layout.lock.touch()
    assert main([*arguments, f"--output={layout.root}"]) == 0
    assert digests(layout.root) == digests(made)


def test_a_damaged_plan_is_told_and_made_again_as_it_was(
    arguments: list[str], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    cut(Layout(copy).plan)
    assert main([*arguments, f"--output={copy}"]) == 2
    assert "plan.parquet is damaged" in capsys.readouterr().err
    Layout(copy).plan.unlink()
    assert main([*arguments, f"--output={copy}"]) == 0
    assert digests(copy) == digests(made)


def test_a_lock_ends_with_its_run_and_leaves_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new")
    for _ in range(2):
        with only_run(layout):
            assert layout.lock.is_file()
        assert not layout.lock.exists()
