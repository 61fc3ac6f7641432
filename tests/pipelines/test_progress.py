import time
from pathlib import Path

import pytest

from pipelines import progress
from pipelines.layout import Layout
from pipelines.progress import Heartbeat, ProgressBar


def test_what_all_have_done_is_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    with ProgressBar(layout, "making", 9, "sample"):
        for name in ("a", "b"):
            heartbeat = Heartbeat(layout, name)
            heartbeat.add(1)
            heartbeat.add(2)
    assert capsys.readouterr().err == "making: 6 of 9 samples\n"
    assert not layout.progress.exists()


def test_the_longer_a_look_takes_the_rarer_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def look(_: ProgressBar) -> int:
        looks.append(time.monotonic())
        time.sleep(0.02)
        return 0

    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(ProgressBar, "_done", look)
    with ProgressBar(Layout(tmp_path), "making", 9, "sample"):
        time.sleep(1)
    assert len(looks) <= 4  # one of 0.02 s every 0.4 s, and one in the end
