"""Which reasons are failures, and which of these may go otherwise another time."""

from schemas.record import Outcome, Status

_RETRYABLE = frozenset({"unreadable", "changed", "truncated", "worker_died", "stalled"})
"""What the place, the machine or the hour may be to blame for."""
FAILURES = _RETRYABLE | {
    *("corrupt", "empty_file", "undecodable", "too_large", "too_long"),
    *("cpu_limit", "memory_limit"),  # limits of this package: the same everywhere
}
"""Reasons of sources that could not be read; any other reason is a rule that left them out."""


def failed(stage: str, reason: str, detail: str) -> Outcome:
    """A failure, with its class.

    What is wrong with a source when it is read again may always go otherwise: it was sound when
    it was probed.

    Args:
        stage: probe, read, draw, encode or make.
        reason: short code.
        detail: one line for a person.
    """
    may_succeed = stage == "read" or reason in _RETRYABLE
    status = Status.FAILED_RETRYABLE if may_succeed else Status.FAILED_PERMANENT
    return Outcome(status=status, stage=stage, reason=reason, detail=detail)
