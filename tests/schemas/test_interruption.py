import signal
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from schemas.interruption import interruptions_kept


class Interrupting:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Followed:
    """What weak references can be to."""


def in_a_destructor() -> None:
    Interrupting()


def in_a_callback() -> None:
    followed = Followed()
    reference = weakref.ref(followed, lambda _: signal.raise_signal(signal.SIGINT))
    del followed
    assert reference() is None


@pytest.mark.parametrize("interrupted", [in_a_destructor, in_a_callback])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_that_python_drops_comes_again(
    interrupted: Callable[[], None], times: int
) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptions_kept():
        for _ in range(times):
            interrupted()
        time.sleep(60)
    assert time.monotonic() - began < 30  # it ended the system call
    time.sleep(0.2)  # nothing comes later


def test_work_that_has_ended_is_not_interrupted() -> None:
    with interruptions_kept():
        in_a_destructor()
    time.sleep(0.2)


def test_other_errors_in_destructors_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("no")

    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: told.append(error.exc_type))
    report = sys.unraisablehook
    with interruptions_kept():
        Failing()
    assert told == [ValueError]
    assert sys.unraisablehook is report
