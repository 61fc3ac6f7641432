"""One run at a time on a place in a store, whichever machines the runs are of."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import store_lock
from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.run_lock import only_run
from pipelines.store import upload
from schemas import store
from schemas.store import StorePath

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pools of the stores' clients


class Machines:
    """Each has a folder of its own for what belongs to stores."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch

    @contextmanager
    def run(self, name: str, root: StorePath) -> Iterator[Layout]:
        """A run of one of them."""
        layout = Layout(root)
        self._patch.setenv("VCSR_CACHE", str(self._folder / name))
        with only_run(layout):
            yield layout


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    monkeypatch.setattr(store_lock, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(store_lock, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(store_lock, "SETTLE_SECONDS", 0.1)
    monkeypatch.setenv(store.PATIENCE_VARIABLE, "1")
    return Machines(tmp_path, monkeypatch)


def leave_lock(layout: Layout[StorePath], folder: Path, **told: object) -> None:
    """What a run leaves that was killed."""
    (folder / "lock").write_text(json.dumps(told))
    upload(folder / "lock", layout.shared_lock)


def test_the_run_of_another_machine_is_refused(bucket: StorePath, machines: Machines) -> None:
    root = bucket / "lock" / "alive"
    with machines.run("a", root) as layout:
        with pytest.raises(UserError, match="another run writes to"), machines.run("b", root):
            pytest.fail("both run")
        assert layout.shared_lock.is_file()
    assert not list(root.walk())
    with machines.run("b", root):
        pass


def test_a_lock_whose_holder_is_silent_is_taken_over(
    bucket: StorePath, machines: Machines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = bucket / "lock" / "silent"
    leave_lock(Layout(root), tmp_path, run="x", machine="y", host="gone", pid=7)
    began = time.monotonic()
    with machines.run("a", root) as layout:
        assert time.monotonic() - began > 3  # the patience, and the silence
        assert json.loads(layout.shared_lock.read_bytes())["run"] != "x"
    assert "is locked by process 7 on gone: waiting" in capfd.readouterr().err


def test_a_lock_that_was_left_on_this_machine_is_taken_over_at_once(
    bucket: StorePath, machines: Machines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = bucket / "lock" / "left"
    with machines.run("a", root) as layout:
        left = json.loads(layout.shared_lock.read_bytes())
    leave_lock(layout, tmp_path, **left)
    with machines.run("a", root):
        pass
    assert "waiting" not in capfd.readouterr().err


def test_of_two_that_begin_at_once_the_last_to_write_goes_on(
    bucket: StorePath, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(bucket / "lock" / "race")

    def other_writes(_: float) -> None:
        leave_lock(layout, tmp_path, run="x", machine="y", host="b", pid=7)

    # Not of the module `time`, whose sleep the writing itself uses where a store fails.
    clock = SimpleNamespace(sleep=other_writes, monotonic=time.monotonic)
    monkeypatch.setattr(store_lock, "time", clock)
    told = r"\(process 7 on b\)"
    with pytest.raises(UserError, match=told), machines.run("a", layout.root):
        pytest.fail("both run")
    assert json.loads(layout.shared_lock.read_bytes())["run"] == "x"  # still its own


def test_a_run_that_was_taken_for_dead_ends(
    bucket: StorePath,
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ended = list[int]()
    monkeypatch.setattr("pipelines.store_lock.os._exit", ended.append)
    with machines.run("a", bucket / "lock" / "over") as layout:
        leave_lock(layout, tmp_path, run="x", machine="y", host="b", pid=7)
        while not ended:
            time.sleep(0.05)
    assert ended == [store_lock.EXIT_TAKEN_OVER]
    assert "process 7 on b has taken over" in capfd.readouterr().err
    assert layout.shared_lock.is_file()  # of the other
