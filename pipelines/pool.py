"""Worker processes that may die: all media is opened and encoded there, and nowhere else.

A codec can abort the process it runs in, or never return. Each task runs in a reused worker
with a limit on its CPU time without progress; a task that kills its worker, or exceeds the limit,
costs itself alone. CPU time, not elapsed time, so that a busy machine does not change a dataset.
Its memory is limited, too (on Linux), and alike on every machine, for the same reason.
"""

import atexit
import contextlib
import dataclasses
import fcntl
import functools
import itertools
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import cv2
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from pipelines import cpu_limit
from pipelines.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

CPU_LIMIT_SECONDS = 600
"""CPU time of a task without progress, seconds: far above what one frame or sample takes."""
MEMORY_LIMIT_BYTES = 8 * 2**30
"""Memory of a worker, bytes: above what the largest picture takes that is not refused."""
_STALL_SECONDS = 86_400  # elapsed; the last resort, for a worker that waits for ever
_TASKS_AHEAD = 8  # per worker, so that none waits while one takes long
_STARTS = 3  # of all workers, for one task
_LOOK_SECONDS = 1.0
_NO_MEMORY = ("failed to map segment", "annot allocate memory")
"""What the loader says of a library that there is no memory for."""

_Submitted: TypeAlias = tuple[ProcessPool, ProcessFuture]


@dataclasses.dataclass(frozen=True)
class WorkerDied:
    """What a task left behind that took its worker with it."""

    reason: str
    """worker_died, cpu_limit, memory_limit or stalled"""
    detail: str
    """the signal or exit code"""


@dataclasses.dataclass(frozen=True)
class Done(Generic[Result]):
    """A task's result."""

    value: Result


class WorkerPool:
    """Reused, spawned worker processes.

    Args:
        num_workers: how many.
        cpu_limit_seconds: CPU time that a task may take between two signs of progress.
        memory_limit_bytes: memory of each worker.
    """

    def __init__(
        self,
        num_workers: int,
        cpu_limit_seconds: float = CPU_LIMIT_SECONDS,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self._cpu_limit_seconds = cpu_limit_seconds
        self._num_workers = num_workers
        self._start = functools.partial(
            ProcessPool,
            max_workers=num_workers,
            context=multiprocessing.get_context("spawn"),  # the caller has threads
            initializer=_start_worker,
            initargs=(memory_limit_bytes,),
        )
        self._one_at_a_time = threading.Lock()
        self._processes: ProcessPool = self._start()
        self._is_closed = False

    def map_ordered(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        tasks_ahead: int = _TASKS_AHEAD,
    ) -> Iterator[tuple[Task, Done[Result] | WorkerDied]]:
        """Run tasks on all workers; yield outcomes in the order of the tasks.

        Args:
            function: importable; runs in a worker. Its exceptions are raised here.
            tasks: taken as workers become free, never far ahead.
            tasks_ahead: of each worker, how many tasks are begun or finished and not yielded: few
                where outcomes are large.

        Raises:
            UserError: if no worker comes up.
        """
        remaining = iter(tasks)
        ahead: deque[tuple[Task, _Submitted]] = deque()
        for task in itertools.islice(remaining, self._num_workers * tasks_ahead):
            ahead.append((task, self._submit(function, task)))
        while ahead:
            task, submitted = ahead.popleft()
            outcome = self._outcome(function, task, submitted)
            for following in itertools.islice(remaining, 1):
                ahead.append((following, self._submit(function, following)))
            yield task, outcome

    def run(self, function: Callable[[Task], Result], task: Task) -> Done[Result] | WorkerDied:
        """Run one task and wait for it.

        Raises:
            UserError: if no worker comes up.
        """
        return self._outcome(function, task, self._submit(function, task))

    def close(self) -> None:
        """Stop the workers."""
        with self._one_at_a_time:
            self._is_closed = True
            _stop(self._processes)

    def _submit(self, function: Callable[[Task], Result], task: Task) -> _Submitted:
        # As bytes, so that a worker that cannot import what they need has begun the task.
        arguments = (pickle.dumps((function, task)), self._cpu_limit_seconds)
        with self._one_at_a_time:
            if not self._processes.active and not self._is_closed:
                _stop(self._processes)
                self._processes = self._start()
            processes = self._processes
            future = processes.schedule(_run_limited, args=arguments, timeout=_STALL_SECONDS)
        return processes, future

    def _outcome(
        self, function: Callable[[Task], Result], task: Task, submitted: _Submitted
    ) -> Done[Result] | WorkerDied:
        """A task's outcome, which is begun again where a worker died that was at no task."""
        for _ in range(_STARTS):
            try:
                return _outcome_of(*submitted)
            except BrokenProcessPool:
                submitted = self._submit(function, task)
        raise UserError(
            f"no worker process comes up: {_STARTS} died while they started, or were idle. Perhaps "
            "there is less memory on this machine or in its container than they take: then give "
            "fewer --workers"
        )


def _stop(processes: ProcessPool) -> None:
    processes.stop()
    processes.join()


def _outcome_of(processes: ProcessPool, future: ProcessFuture) -> Done | WorkerDied:
    while not wait([future], timeout=_LOOK_SECONDS).done:
        if not processes.active and not future.done():
            raise BrokenProcessPool  # which may have forgotten what it had just been given
    try:
        return Done(future.result())
    except ProcessExpired as death:
        if death.exitcode == -cpu_limit.SIGNAL:
            return WorkerDied("cpu_limit", "no progress in its CPU time")
        return WorkerDied("worker_died", _explain_exit(death.exitcode))
    except MemoryError:
        return WorkerDied("memory_limit", "needs more memory than a worker may have")
    except SystemExit as leaving:  # of the task, which came back as its exception
        return WorkerDied("worker_died", f"exit code {leaving.code}")
    except FutureTimeoutError:
        return WorkerDied("stalled", f"no result after {_STALL_SECONDS} s")


def _explain_exit(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _start_worker(memory_limit_bytes: int) -> None:
    _end_with_parent()
    _limit_memory(memory_limit_bytes)
    cv2.setNumThreads(0)  # parallelism is over samples
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself


def _limit_memory(limit_bytes: int) -> None:
    if not sys.platform.startswith("linux"):
        return  # other systems take the limit for something else, or ignore it
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    # If the machine itself runs out of memory, a worker is to end, and not the run.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed, whatever it is doing then.

    The pipe between them closes, of which Linux tells with a signal (SIGIO) that ends a process.
    Elsewhere that signal is ignored, and a worker ends when it has finished its task.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(os, "O_ASYNC"):
        return
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if not parent.is_alive():  # killed before this was set
        os._exit(1)


def _run_limited(pickled: bytes, cpu_limit_seconds: float) -> object:
    try:
        function, task = pickle.loads(pickled)  # of our own parent
        cpu_limit.grant(cpu_limit_seconds)
        return function(task)
    except ImportError as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError from error
        raise
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:  # wherever it was
            raise MemoryError from error
        raise


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool(num_workers: int) -> WorkerPool:
    """One pool for everything in this process; it lives as long as the process.

    Raises:
        UserError: if this process may not start others.
    """
    if multiprocessing.current_process().daemon:
        raise UserError(
            "this worker is a daemonic process, which may not start the processes that media is "
            "opened in. Start Dask's workers with DASK_DISTRIBUTED__WORKER__DAEMON=False in their "
            "environment, or with --no-nanny"
        )
    with _one_at_a_time:  # an engine may work in several threads of this process
        return _pool(num_workers)


_one_at_a_time = threading.Lock()


@functools.cache
def _pool(num_workers: int) -> WorkerPool:
    pool = WorkerPool(num_workers)
    atexit.register(pool.close)
    return pool
