"""Keeps Beam's log to what concerns the user, and finds Ctrl-C in what Beam raises.

Imported before Beam, which logs while it is imported.
"""

import logging
from typing import TypeVar

from schemas.store import StoreError

E = TypeVar("E", bound=BaseException)


def quieten() -> None:
    """Leave out what Beam says of libraries that are not used, and what a command tells itself."""
    logging.getLogger().addFilter(_concerns_us)
    logging.getLogger("apache_beam.runners.common").addFilter(_is_no_interruption)


def is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error; Beam wraps what is raised inside a step."""
    return _find(error, KeyboardInterrupt) is not None


def store_error(error: BaseException | None) -> StoreError | None:
    """What a store did, if that is at the bottom of an error."""
    return _find(error, StoreError)


def _find(error: BaseException | None, kind: type[E]) -> E | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed, and at each
    # attempt at an upload, all of which are told of in `schemas.store`.
    noise = ("apitools not found", "Error in _start_upload", "HTTP error while requesting file")
    return not record.getMessage().startswith(noise)


def _is_no_interruption(record: logging.LogRecord) -> bool:
    # Beam logs whatever is raised inside a step; of these, the command tells in a line.
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt | StoreError))
