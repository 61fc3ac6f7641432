import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.clusters import wait_for
from pipelines.errors import UserError
from pipelines.pool import Done, WorkerDied, WorkerPool, available_cores, shared_pool

# Workers import these functions, so they stand on the module's level.


def double(number: int) -> int:
    return 2 * number


def misbehave(how: str) -> str:
    match how:
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "loop":
            while True:
                pass
        case "raise":
            raise KeyError("a bug of ours")
    return how


def slow_for_even(number: int) -> int:
    time.sleep(0.1 if number % 2 == 0 else 0)
    return number


def process_of(number: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def tell_and_loop(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    sum(range(10**12))  # Python's lock is held all the while


def burn(cpu_seconds: float) -> float:
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass
    return cpu_seconds


def fill(num_bytes: int) -> int:
    return len(np.ones(num_bytes, np.uint8))


def fill_by_opencv(side: int) -> int:
    return len(cv2.resize(np.zeros((8, 8), np.uint8), (side, side)))


def oom_score(_: int) -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


def opencv_threads(_: int) -> int:
    return cv2.getNumThreads()


def die_at_first(file: str) -> None:
    """Starts a worker, but not the first one."""
    if not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(words: str) -> None:
    raise ImportError(words)


class Unloadable:
    """Cannot be imported where it comes to."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return refuse, (self._words,)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    two = WorkerPool(2, cpu_limit_seconds=1)
    yield two
    two.close()


def test_results_come_in_the_order_of_the_tasks(pool: WorkerPool) -> None:
    outcomes = list(pool.map_ordered(slow_for_even, range(9)))
    assert outcomes == [(number, Done(number)) for number in range(9)]


def test_no_tasks_give_no_results(pool: WorkerPool) -> None:
    assert list(pool.map_ordered(double, [])) == []


def test_a_task_that_kills_its_worker_costs_itself_alone(pool: WorkerPool) -> None:
    tasks = ["a", "abort", "b", "kill", "c", "exit", "d", "loop", "e", "f"]
    outcomes = dict(pool.map_ordered(misbehave, tasks))
    assert list(outcomes) == tasks
    assert outcomes.pop("abort") == WorkerDied("worker_died", "SIGABRT")
    assert outcomes.pop("kill") == WorkerDied("worker_died", "SIGKILL")
    assert outcomes.pop("exit") == WorkerDied("worker_died", "exit code 3")
    assert outcomes.pop("loop") == WorkerDied("cpu_limit", "no progress in its CPU time")
    assert outcomes == {task: Done(task) for task in "abcdef"}


def test_a_death_as_the_last_task_is_told_too(pool: WorkerPool) -> None:
    assert pool.run(misbehave, "kill") == WorkerDied("worker_died", "SIGKILL")
    assert list(pool.map_ordered(misbehave, ["abort"])) == [
        ("abort", WorkerDied("worker_died", "SIGABRT"))
    ]
    assert pool.run(double, 4) == Done(8)


def test_an_exception_of_the_function_is_raised_here(pool: WorkerPool) -> None:
    with pytest.raises(KeyError, match="a bug of ours"):
        list(pool.map_ordered(misbehave, ["a", "raise", "b"]))
    with pytest.raises(KeyError, match="a bug of ours"):
        pool.run(misbehave, "raise")
    assert pool.run(double, 1) == Done(2)


def test_the_limit_is_for_each_task_and_not_for_the_worker() -> None:
    one = WorkerPool(1, cpu_limit_seconds=1)
    try:
        assert [outcome for _, outcome in one.map_ordered(burn, [0.4] * 4)] == [Done(0.4)] * 4
    finally:
        one.close()


def test_a_worker_that_dies_while_it_starts_costs_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.pool._start_worker", die_at_first)
    one = WorkerPool(1, memory_limit_bytes=str(tmp_path / "died"))  # type: ignore[arg-type]
    try:
        assert list(one.map_ordered(double, range(5))) == [(n, Done(2 * n)) for n in range(5)]
        assert (tmp_path / "died").exists()
    finally:
        one.close()


def test_an_idle_worker_that_dies_costs_no_task() -> None:
    one = WorkerPool(1)
    try:
        process = one.run(process_of, 0)
        assert isinstance(process, Done)
        os.kill(process.value, signal.SIGKILL)
        assert list(one.map_ordered(double, range(5))) == [(n, Done(2 * n)) for n in range(5)]
    finally:
        one.close()


def test_workers_that_never_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.pool._start_worker", die)
    none = WorkerPool(2)
    try:
        with pytest.raises(UserError, match="no worker process comes up"):
            none.run(double, 1)
    finally:
        none.close()


def test_a_library_that_there_is_no_memory_for_costs_its_task_alone(pool: WorkerPool) -> None:
    words = "libx.so: failed to map segment from shared object"
    outcomes = [outcome for _, outcome in pool.map_ordered(str, [1, Unloadable(words), 2])]
    death = WorkerDied("memory_limit", "needs more memory than a worker may have")
    assert outcomes == [Done("1"), death, Done("2")]
    with pytest.raises(ImportError, match="No module"):
        pool.run(str, Unloadable("No module named 'x'"))


def test_sleeping_is_not_held_against_a_task(pool: WorkerPool) -> None:
    # More elapsed time than the limit on CPU time allows.
    assert pool.run(time.sleep, 2.2) == Done(None)


def test_memory_is_limited() -> None:
    one = WorkerPool(1, memory_limit_bytes=2**30)
    try:
        assert one.run(fill, 2**28) == Done(2**28)
        over = one.run(fill, 2**30)
        assert over == WorkerDied("memory_limit", "needs more memory than a worker may have")
        assert one.run(fill_by_opencv, 2**15) == over
        assert one.run(double, 2) == Done(4)
    finally:
        one.close()


def test_workers_are_the_first_to_go_if_memory_ends(pool: WorkerPool) -> None:
    assert pool.run(oom_score, 0) == Done("1000")


def test_workers_are_reused(pool: WorkerPool) -> None:
    pids = {outcome.value for _, outcome in pool.map_ordered(process_of, range(20))}  # type: ignore[union-attr]
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_tasks_are_taken_as_workers_become_free(pool: WorkerPool) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    outcomes = pool.map_ordered(double, tasks(), tasks_ahead=2)
    assert next(outcomes) == (0, Done(0))
    assert len(taken) <= 6
    for _ in range(10):
        next(outcomes)
    assert len(taken) <= 16


def test_a_worker_ends_with_its_parent_whatever_it_does(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "from pipelines.pool import WorkerPool; from tests.pipelines.test_pool import *; "
        f"WorkerPool(1).run(tell_and_loop, {str(file)!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    wait_for("the worker to begin", file.exists)
    time.sleep(0.1)  # for the number to be written
    worker = int(file.read_text())
    parent.kill()
    parent.wait()
    wait_for("the worker's end", lambda: not is_alive(worker), 10)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_workers_leave_parallelism_to_the_pool(pool: WorkerPool) -> None:
    assert pool.run(opencv_threads, 0) == Done(1)


def test_a_process_that_may_start_no_others_is_told_how_to_change_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="DASK_DISTRIBUTED__WORKER__DAEMON=False"):
        shared_pool(1)


def test_threads_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Slow:
        def __init__(self, num_workers: int) -> None:
            time.sleep(0.05)
            made.append(num_workers)

        def close(self) -> None:
            pass

    monkeypatch.setattr("pipelines.pool.WorkerPool", Slow)
    with ThreadPoolExecutor(4) as threads:
        pools = set(threads.map(shared_pool, [97] * 4))
    assert made == [97] and len(pools) == 1


def test_there_is_a_core_to_work_on() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
