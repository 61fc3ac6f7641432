"""Keeps Beam's log to what concerns the user, and finds Ctrl-C in what Beam raises.

Imported before Beam, which logs while it is imported.
"""

import logging


def quieten() -> None:
    """Leave out what Beam says of libraries that are not used, and of Ctrl-C."""
    logging.getLogger().addFilter(_concerns_us)
    logging.getLogger("apache_beam.runners.common").addFilter(_is_no_interruption)


def is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error; Beam wraps what is raised inside a step."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed.
    return not record.getMessage().startswith("apitools not found")


def _is_no_interruption(record: logging.LogRecord) -> bool:
    # Beam logs whatever is raised inside a step; of Ctrl-C, the command tells in a line.
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))
