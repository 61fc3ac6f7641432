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


def await_work(dataset: Path) -> tuple[str, int]:
    """Wait until a process works on a shard; returns that shard's work and the process."""

    def working() -> tuple[str, int] | None:
        signs = Layout(dataset).alive.glob("shard-*@*@*")
        found = [file.name.rsplit("@", 2) for file in signs]
        return next(((work, int(process)) for work, _, process in found), None)

    return wait_for("a worker at work", working)


def kill_a_worker(dataset: Path) -> str:
    """SIGKILL the first process that works on a shard; returns that shard's work."""
    work, process = await_work(dataset)
    os.kill(process, signal.SIGKILL)
    return work
