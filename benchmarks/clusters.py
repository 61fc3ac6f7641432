"""Engines of several processes on this machine, for tests and benchmarks."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
DEADLINE_SECONDS = 400
"""Far above what anything here takes, on a busy machine too."""

T = TypeVar("T")


def wait_for(what: str, find: Callable[[], T | None], seconds: float = DEADLINE_SECONDS) -> T:
    """Poll until something is found, that is, neither None nor False."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := find()) is not None and found is not False:
            return found
        time.sleep(0.01)
    raise TimeoutError(what)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def service(log: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ...` as long as the block lasts."""
    # Beam's worker pool starts `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, "PATH": path, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own children, too
        process.wait()


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""

    def connected() -> bool:
        with socket.socket() as trying:
            return trying.connect_ex(("127.0.0.1", port)) == 0

    wait_for(f"port {port}", connected)


@contextlib.contextmanager
def worker_processes(_: Path) -> Iterator[list[str]]:
    """Two processes that the command starts itself; yields the options of a run on them."""
    yield ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@contextlib.contextmanager
def portable_engine(folder: Path) -> Iterator[list[str]]:
    """A job server and an external worker pool; yields the options of a run on them."""
    job_port, pool_port = free_port(), free_port()
    beam = "apache_beam.runners"
    server = [f"{beam}.portability.local_job_service_main", "-p", str(job_port)]
    pool = [f"{beam}.worker.worker_pool_main", "--service_port", str(pool_port)]
    with service(folder / "server.log", *server), service(folder / "pool.log", *pool):
        wait_for_port(job_port)
        wait_for_port(pool_port)
        yield [
            *("--runner=PortableRunner", f"--job_endpoint=localhost:{job_port}"),
            *("--environment_type=EXTERNAL", f"--environment_config=localhost:{pool_port}"),
        ]


@contextlib.contextmanager
def dask_engine(folder: Path, num_workers: int = 2, *, daemon: bool = False) -> Iterator[list[str]]:
    """A scheduler and worker processes; yields the options of a run on them."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = ["dask", "scheduler", "--port", str(port), *local]
    workers = ["dask", "worker", address, "--nworkers", str(num_workers), "--nthreads", "1", *local]
    settings = {"DASK_DISTRIBUTED__WORKER__DAEMON": str(daemon)}
    with service(folder / "scheduler.log", *scheduler):
        wait_for_port(port)
        with service(folder / "workers.log", *workers, **settings):
            yield ["--runner=DaskRunner", f"--dask_client_address={address}"]
