import logging

import pytest

from training import progress
from training.progress import Progress


def test_lines_tell_whole_units_and_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "time", type("Clock", (), {"monotonic": lambda: clock[0]}))
    with caplog.at_level(logging.INFO), Progress("restored", 4, "frame") as shown:
        for _ in range(12):
            clock[0] += 5
            shown.add(1 / 3)
    assert caplog.messages[0] == "restored: 0 of 4 frames, 0.07 frames/s, 50 s left"
    assert caplog.messages[2] == "restored: 2 of 4 frames, 0.07 frames/s, 30 s left"
    assert caplog.messages[-1] == "restored: 4 frames, 0.07 frames/s"
    assert len(caplog.messages) == 6


def test_nothing_is_left_where_no_end_is_known(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("restored", None, "picture") as shown:
        shown.add()
    (line,) = caplog.messages
    assert line.startswith("restored: 1 picture, ")
    assert "left" not in line
