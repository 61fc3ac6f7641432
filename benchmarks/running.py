"""Runs the project's commands in the process that measures."""

import contextlib
import io
from collections.abc import Callable, Sequence


def run_quietly(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> None:
    """Run one of the project's commands in this process; what it says is told if it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = command(arguments)
    if status:
        raise SystemExit(said.getvalue())
