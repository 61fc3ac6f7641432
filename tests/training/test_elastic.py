"""Trainings of several processes (`torch.distributed`, gloo) that are killed, and go on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.clusters import wait_for
from tests.training.rank import SETTINGS, STOP, line
from training.dataset import SampleStream


@contextlib.contextmanager
def ranks(
    folder: Path, dataset: Path, num_ranks: int, workers: int
) -> Iterator[list[subprocess.Popen]]:
    command = [sys.executable, "-m", "tests.training.rank", str(folder), str(dataset)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(num_ranks), str(workers)],
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def next_batch(folder: Path) -> int:
    state = folder / "state.json"
    return json.loads(state.read_text())["next_batch"] if state.exists() else 0


def lines(folder: Path, num_ranks: int) -> dict[int, str]:
    read = [path.read_text().splitlines() for path in folder.glob(f"{num_ranks}-*.jsonl")]
    whole = [text for texts in read for text in texts if text.endswith("]")]  # a kill may cut one
    return {json.loads(text)[0]: text for text in whole}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((2, 2), (3, 1), id="more ranks"),
        pytest.param((2, 0), (1, 2), id="fewer ranks", marks=pytest.mark.long),
    ],
)
def test_a_killed_training_goes_on_with_other_ranks_and_workers(
    tmp_path: Path, ruler_dataset: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    with ranks(tmp_path, ruler_dataset, *before):
        wait_for("some batches", lambda: next_batch(tmp_path) >= 14, 120)
    start = next_batch(tmp_path)
    assert 14 <= start < STOP
    with ranks(tmp_path, ruler_dataset, *after) as processes:
        assert [process.wait(120) for process in processes] == [0] * after[0]
    found = {n: text for n, text in lines(tmp_path, before[0]).items() if n < start}
    rest = lines(tmp_path, after[0])
    assert sorted(rest) == list(range(start, STOP - (STOP - start) % after[0]))
    found |= rest
    expected = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, STOP)
    for number, batch in enumerate(expected):
        if number in found:
            assert found.pop(number) == line(number, batch)
        else:
            assert number >= STOP - (STOP - start) % after[0]
    assert not found
