"""Ctrl-C, which Python drops where it comes within a destructor."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_AFTER_SECONDS = 0.05


@contextmanager
def interruptions_kept() -> Iterator[None]:
    """Let an interruption that Python would drop come again, once what dropped it has ended.

    What is raised in a destructor, or in a callback of a weak reference, is told on stderr and
    forgotten: a command that is interrupted there would go on. For main threads.
    """
    main_thread = threading.get_ident()
    report = sys.unraisablehook
    waiting: list[threading.Timer] = []

    def interrupt() -> None:
        signal.pthread_kill(main_thread, signal.SIGINT)  # it ends a system call, too

    def come_again(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)
            return
        if any(timer.is_alive() for timer in waiting):
            return
        # Raised in here, it would be dropped again.
        timer = threading.Timer(_AGAIN_AFTER_SECONDS, interrupt)
        timer.daemon = True
        waiting.append(timer)
        timer.start()

    sys.unraisablehook = come_again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in waiting:
            timer.cancel()
