"""Keeps Beam's log to what concerns the user, and finds in what Beam raises what stopped a run:
Ctrl-C, a file that fails, a store that does, or a mistake of the user.

Imported before Beam, which logs while it is imported.
"""

import errno
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import UserError
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


_NOTE = "What the command tells: "
_NOTED = re.compile(f"^{_NOTE}(.*)$", re.MULTILINE)
_KINDS = {"OSError": OSError, "StoreError": StoreError, "UserError": UserError}


def quieten() -> None:
    """Leave out what Beam says of libraries that are not used, and what a command tells itself."""
    engines = ("apache_beam.runners.common", "apache_beam.runners.portability.local_job_service")
    for logger in (logging.getLogger(), *map(logging.getLogger, engines)):
        logger.addFilter(_concerns_us)
        logger.addFilter(_is_unexpected)


@contextmanager
def noted() -> Iterator[None]:
    """Note on an error what the command is going to tell of it.

    Some engines bring an error from a worker to the command as the text of its traceback.
    """
    try:
        yield
    except (StoreError, UserError) as error:
        error.add_note(_NOTE + json.dumps([type(error).__name__, str(error)]))
        raise
    except OSError as error:
        facts = (error.errno, error.strerror, error.filename)
        error.add_note(_NOTE + json.dumps(["OSError", *facts], default=str))
        raise


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


def told_error(error: BaseException | None) -> StoreError | UserError | None:
    """What a store or the user did, if that is at the bottom of an error."""
    told = (cause for cause in _causes(error) if isinstance(cause, StoreError | UserError))
    return next(told, None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of; Beam wraps what is raised inside a step."""
    while error is not None:
        yield error
        for note in _NOTED.findall(str(error)):
            (kind, *arguments), _ = json.JSONDecoder().raw_decode(note)  # Beam may add to a line
            yield _KINDS[kind](*arguments)
        error = error.__cause__ or error.__context__


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed, and at each
    # attempt at an upload, all of which are told of in `schemas.store`.
    noise = ("apitools not found", "Error in _start_upload", "HTTP error while requesting file")
    # So it says at the start of each worker of the engine of processes.
    of_workers = ("No semi_persistent_directory found", "Discarding unparseable args")
    message = record.getMessage()
    return not (message.startswith(noise) or any(words in message for words in of_workers))


def _is_unexpected(record: logging.LogRecord) -> bool:
    # Beam logs whatever is raised inside a step; of these, the command tells in a line.
    error = record.exc_info[1] if record.exc_info else None
    is_told = is_interruption(error) or file_failure(error) or told_error(error)
    return not (is_told or _NOTE in record.getMessage())
