"""The command in a process of its own, and accidents of its workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clusters import DEADLINE_SECONDS, ROOT, wait_for
from pipelines.layout import Layout


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.synthesize", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """The command; its exit status and what it said on standard error."""
    with start(arguments) as process:
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, said


def await_work(dataset: Path, num_workers: int = 1) -> dict[int, str]:
    """Wait until so many processes work on shards at once; returns process -> its shard's work."""

    def working() -> dict[int, str] | None:
        signs = Layout(dataset).alive.glob("shard-*@*@*")
        found = [file.name.rsplit("@", 2) for file in signs]
        works = {int(process): work for work, _, process in found}
        return works if len(works) >= num_workers else None

    return wait_for("workers at work", working)


def kill_a_worker(dataset: Path, num_workers: int = 1) -> str:
    """SIGKILL one process, once so many work on shards; returns its shard's work."""
    process, work = next(iter(await_work(dataset, num_workers).items()))
    os.kill(process, signal.SIGKILL)
    return work
