"""A limit on CPU time without progress: what a hang costs, whatever machine it hangs on.

Long work renews its grant as it goes on, a frame, a sample or a piece of a file at a time, so that
the limit is one on a single step and says nothing about how long or large a video may be.
"""

import math
import resource

_granted_seconds = math.inf


def grant(cpu_seconds: float) -> None:
    """Let this process use so much more CPU time; beyond it the kernel ends it (SIGXCPU)."""
    global _granted_seconds  # noqa: PLW0603 - the limit itself is the process's, too
    _granted_seconds = cpu_seconds
    renew()


def renew() -> None:
    """Start the grant again, since there is progress. Without a grant there is no limit."""
    if math.isinf(_granted_seconds):
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + _granted_seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
