import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import watchdog
from pipelines.layout import Layout
from pipelines.watchdog import EXIT_WORKERS_LOST, Watchdog, alive

PATIENCE_SECONDS = 0.5


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "dataset")


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit statuses with which the process would have ended."""
    statuses: list[int] = []
    monkeypatch.setattr(watchdog, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr("pipelines.watchdog.os._exit", statuses.append)
    return statuses


def leave_behind(layout: Layout, work: str) -> None:
    """What a process leaves that was killed while it worked."""
    layout.alive.mkdir(parents=True, exist_ok=True)
    (layout.alive / f"{work}@far.away@4711").write_text("7")


def test_work_may_take_as_long_as_it_likes(layout: Layout, ended: list[int]) -> None:
    with Watchdog(layout, PATIENCE_SECONDS), alive(layout, "shard-000000"):
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == []


def test_work_that_nobody_has_begun_is_waited_for(layout: Layout, ended: list[int]) -> None:
    with Watchdog(layout, PATIENCE_SECONDS):
        time.sleep(4 * PATIENCE_SECONDS)
        with alive(layout, "shard-000000"):
            pass
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == []


def test_work_that_was_begun_and_beats_no_more_ends_the_run_with_a_message(
    layout: Layout, ended: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with Watchdog(layout, PATIENCE_SECONDS):
        leave_behind(layout, "shard-000003")
        leave_behind(layout, "shard-000005")
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == [EXIT_WORKERS_LOST]
    said = capsys.readouterr().err.rstrip()
    assert "process 4711 on far.away (and 1 other) shows no sign of life" in said
    assert "at work on shard-000003" in said
    assert said.endswith("The same command goes on from here")


def test_a_store_that_stalls_is_no_lost_worker(
    layout: Layout, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = Watchdog._beats, 0

    def stall(dog: Watchdog) -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks == 3:
            time.sleep(4 * PATIENCE_SECONDS)
        return look(dog)

    monkeypatch.setattr(Watchdog, "_beats", stall)
    with Watchdog(layout, PATIENCE_SECONDS):
        leave_behind(layout, "shard-000003")
        while looks < 5:
            time.sleep(0.01)
        leave_behind(layout, "shard-000004")
    assert ended == []


def test_a_store_that_fails_for_a_while_does_not_end_the_watch(
    layout: Layout, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, failures = Path.iterdir, iter(range(2))

    def fail(folder: Path) -> Iterator[Path]:
        if folder == layout.alive and next(failures, None) is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return look(folder)

    with Watchdog(layout, PATIENCE_SECONDS):
        leave_behind(layout, "shard-000003")
        monkeypatch.setattr(Path, "iterdir", fail)
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == [EXIT_WORKERS_LOST]


def test_of_a_runner_that_fails_by_itself_the_reason_is_told(
    layout: Layout, ended: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError), Watchdog(layout, 60), alive(layout, "shard-000004"):
        leave_behind(layout, "shard-000003")
        raise RuntimeError("Channel closed prematurely.")
    assert ended == [EXIT_WORKERS_LOST]
    assert "at work on shard-000003" in capsys.readouterr().err


def test_a_failure_of_a_step_is_no_lost_worker(layout: Layout, ended: list[int]) -> None:
    with pytest.raises(KeyError), Watchdog(layout, 60), alive(layout, "shard-000004"):
        raise KeyError
    assert ended == []


def test_an_interruption_is_no_lost_worker(layout: Layout, ended: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt), Watchdog(layout, 60):
        leave_behind(layout, "shard-000003")
        raise KeyboardInterrupt
    assert ended == []


def test_others_that_live_keep_a_run_alive(layout: Layout, ended: list[int]) -> None:
    with Watchdog(layout, PATIENCE_SECONDS):
        leave_behind(layout, "shard-000003")
        with alive(layout, "shard-000004"):
            time.sleep(4 * PATIENCE_SECONDS)
    assert ended == []


def test_work_that_another_takes_over_is_not_mourned(layout: Layout, ended: list[int]) -> None:
    with Watchdog(layout, PATIENCE_SECONDS):
        leave_behind(layout, "shard-000003")
        with alive(layout, "shard-000003"):
            pass
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == []


def test_what_an_earlier_run_left_behind_says_nothing(layout: Layout, ended: list[int]) -> None:
    leave_behind(layout, "shard-000003")
    with Watchdog(layout, PATIENCE_SECONDS):
        time.sleep(4 * PATIENCE_SECONDS)
    assert ended == []
    assert not layout.alive.exists()


def test_nothing_beats_after_the_work(layout: Layout) -> None:
    threads = threading.active_count()
    with pytest.raises(KeyError), alive(layout, "shard-000000"):
        raise KeyError
    assert not list(layout.alive.iterdir()) and threading.active_count() == threads
