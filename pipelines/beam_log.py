"""Keeps Beam's log to what concerns the user, and finds in what Beam raises what stopped a run:
Ctrl-C, an output that cannot be written, or a store that fails.

Imported before Beam, which logs while it is imported.
"""

import errno
import logging
from collections.abc import Iterator

from schemas.store import StoreError

_OUTPUT_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
}
"""What goes wrong with an output while it is written."""


def quieten() -> None:
    """Leave out what Beam says of libraries that are not used, and what a command tells itself."""
    logging.getLogger().addFilter(_concerns_us)
    logging.getLogger("apache_beam.runners.common").addFilter(_is_unexpected)


def is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error))


def file_failure(error: BaseException | None) -> OSError | None:
    """What the system said of a file that cannot be written, if that is at the bottom of an error.

    It may be said of another file than the output: then that is its `filename`.
    """
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _OUTPUT_ERRORS:
            return cause
    return None


def store_error(error: BaseException | None) -> StoreError | None:
    """What a store did, if that is at the bottom of an error."""
    return next((cause for cause in _causes(error) if isinstance(cause, StoreError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of; Beam wraps what is raised inside a step."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed, and at each
    # attempt at an upload, all of which are told of in `schemas.store`.
    noise = ("apitools not found", "Error in _start_upload", "HTTP error while requesting file")
    return not record.getMessage().startswith(noise)


def _is_unexpected(record: logging.LogRecord) -> bool:
    # Beam logs whatever is raised inside a step; of these, the command tells in a line.
    error = record.exc_info[1] if record.exc_info else None
    return not (is_interruption(error) or file_failure(error) or store_error(error))
