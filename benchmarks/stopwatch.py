"""CPU time, by which chains are compared: other work on the machine does not change it."""

import contextlib
import resource
from collections.abc import Iterator


class Stopwatch:
    """CPU seconds by stage, of this process and of the children it has waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside as this stage's."""
        started = cpu_seconds()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + cpu_seconds() - started


def cpu_seconds() -> float:
    """CPU time so far of this process and of the children it has waited for, all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
