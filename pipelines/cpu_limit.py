"""A limit on CPU time without progress: what a hang costs, whatever machine it hangs on.

Long work renews its grant as it goes on, a frame, a sample or a piece of a file at a time, so that
the limit is one on a single step and says nothing about how long or large a video may be.
"""

import signal

SIGNAL = signal.SIGPROF
"""What ends a process whose grant is used up."""

_granted_seconds = 0.0


def grant(cpu_seconds: float) -> None:
    """Let this process use so much more CPU time; beyond it the kernel ends it (`SIGNAL`)."""
    global _granted_seconds  # noqa: PLW0603 - the limit itself is the process's, too
    _granted_seconds = cpu_seconds
    renew()


def renew() -> None:
    """Start the grant again, since there is progress. Without a grant there is no limit."""
    if not _granted_seconds:
        return
    # A timer and not RLIMIT_CPU, which the kernel compares with ticks it has counted: those are
    # seconds away from the CPU time that a process can read of itself, in a long life further.
    signal.setitimer(signal.ITIMER_PROF, _granted_seconds)
