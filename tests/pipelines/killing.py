"""The command in a process group of its own, killed with all of its processes at some moment.

A moment is a time, or the Nth operation of the command on its output. Operations come as audit
events; a shell on the way would not see them, and worker processes never write.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.clusters import wait_for
from pipelines.layout import Layout
from pipelines.synthesize.__main__ import main as synthesize
from schemas.manifest import Shard

ROOT = Path(__file__).parents[2]
_OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
_GONE_SECONDS = 10.0


def main() -> int:
    """Run the command as in `sys.argv[3:]`, up to operation number `argv[1]` below `argv[2]`."""
    last, output = int(sys.argv[1]), sys.argv[2]
    count = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in _OPERATIONS and str(arguments[0]).startswith(output):
            count += 1
            if count == last:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
    status = synthesize(sys.argv[3:])
    sys.stdout.write(f"\n{count}\n")
    return status


class Attempt:
    """One run of the command.

    Args:
        arguments: of the command.
        output: its output.
        last: the operation that it does not come to do; 0 for none.
    """

    def __init__(self, arguments: Sequence[str], output: Path, last: int = 0) -> None:
        code = "import sys, tests.pipelines.killing as k; sys.exit(k.main())"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(last), str(output), *arguments],
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Of the command, and of its process group."""
        return self._process.pid

    def wait(self) -> tuple[int, str, str]:
        """Its exit status and what it said, on both streams; nothing of it is left then."""
        out, err = self._process.communicate(timeout=240)
        wait_for("no process to be left", self._is_gone, _GONE_SECONDS)
        return self._process.returncode, out, err

    def _is_gone(self) -> bool:
        return not any(processes_of(self.pid))

    def kill_after(self, seconds: float) -> bool:
        """Kill all of it, unless it ends before; whether it was killed."""
        try:
            self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
        return self.wait()[0] == -signal.SIGKILL


def processes_of(group: int) -> Iterator[int]:
    """Living processes of a process group."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended just now
            state, found = fields[0], int(fields[2])
            if found == group and state not in "ZX":
                yield int(folder.name)


def digests(dataset: Path) -> dict[str, str]:
    """Hashes of everything but the logs, temporary files included."""
    return {
        file.relative_to(dataset).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dataset.rglob("*")
        if file.is_file() and (dataset / "logs") not in file.parents
    }


def log_names(dataset: Path) -> list[str]:
    """Names of everything in the logs, but for the records of hosts, which are called by content:
    a change of the checkout meanwhile is another record."""
    logs = dataset / "logs"
    names = (path.relative_to(logs) for path in logs.rglob("*"))
    return sorted(str(name) for name in names if name.parent.name != "environment")


def remains(dataset: Path) -> list[str]:
    """Folders without files, which no finished run leaves."""
    return [str(path) for path in dataset.rglob("*") if path.is_dir() and not any(path.iterdir())]


class Finished(NamedTuple):
    """A file of a finished shard, as long as nobody writes it again."""

    path: Path
    inode: int
    modified_ns: int


def finished_files(dataset: Path) -> set[Finished]:
    """The files of all shards that have a marker; each shard is whole."""
    found = set()
    for marker in Layout(dataset).marker("any").parent.glob("*.json"):
        shard = Shard.model_validate_json(marker.read_bytes())
        for path in [marker, *(dataset / file.path for file in shard.files)]:
            stat = path.stat()
            found.add(Finished(path, stat.st_ino, stat.st_mtime_ns))
    return found


class Torture:
    """Kills runs on one output and checks after each what may and what may not be there.

    Args:
        arguments: of the command, but for the output.
        expected: hashes of an uninterrupted run, see `digests`.
        logs: its logs, see `log_names`.
        operations: how many it took.
        seconds: how long it took.
        before: hashes of the dataset that it adds to, if it does.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        expected: dict[str, str],
        logs: list[str],
        operations: int,
        seconds: float,
        before: dict[str, str] | None = None,
    ) -> None:
        self.expected, self.before = expected, before or {}
        self._arguments, self._logs = arguments, logs
        self._operations, self._seconds = operations, seconds

    def run(self, output: Path, num_kills: int, random_source: random.Random) -> int:
        """Kill runs, then finish.

        Returns:
            The number of runs that were killed: fewer than asked for, if one came to its end.
        """
        arguments = [*self._arguments, f"--output={output}"]
        finished = finished_files(output)
        killed = 0
        while killed < num_kills and self._attempt(arguments, output, random_source):
            killed += 1
            self._check_between(output)
            finished |= finished_files(output)
        status, _, said = Attempt(arguments, output).wait()
        assert status == 0, said
        assert digests(output) == self.expected
        assert log_names(output) == self._logs
        assert not remains(output)
        assert finished <= finished_files(output), "a finished shard was made again"
        return killed

    def kill(self, output: Path, part: float) -> None:
        """Kill a run when it has done a part of its operations."""
        arguments = [*self._arguments, f"--output={output}"]
        status, _, said = Attempt(arguments, output, round(part * self._operations)).wait()
        assert status == -signal.SIGKILL, said

    def _attempt(self, arguments: list[str], output: Path, random_source: random.Random) -> bool:
        if random_source.random() < 0.3:
            return Attempt(arguments, output).kill_after(random_source.random() * self._seconds)
        last = random_source.randint(1, self._operations)
        status, _, said = Attempt(arguments, output, last).wait()
        assert status in (0, -signal.SIGKILL), said
        return status != 0

    def _check_between(self, output: Path) -> None:
        """What has its name is whole."""
        for path, digest in digests(output).items():
            if path != ".lock" and not path.startswith(".staging/"):
                assert digest in (self.expected.get(path), self.before.get(path)), path
