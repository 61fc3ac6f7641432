"""The two kinds of error that are not bugs; every other exception propagates."""


class UserError(Exception):
    """A user's mistake. The message is complete: the cause, the value, and the cure."""


def reason_of(error: Exception) -> str:
    """What the system or FFmpeg says, without the path: datasets do not tell where inputs lay."""
    return getattr(error, "strerror", None) or type(error).__name__


class MediaError(Exception):
    """A file that cannot be used as media. It becomes a counted row, never the end of a run.

    Args:
        reason: short code to count by, such as corrupt.
        detail: one line for a person: the values behind the reason.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the error survives pickling
        self.reason = reason
        self.detail = " ".join(detail.split())

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
