"""The main command. A package, so that worker processes need not import its `__main__`."""

import logging


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed.
    return not record.getMessage().startswith("apitools not found")


def _is_no_interruption(record: logging.LogRecord) -> bool:
    # Beam logs whatever is raised inside a step; of Ctrl-C, `main` tells in a line.
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


logging.getLogger().addFilter(_concerns_us)
logging.getLogger("apache_beam.runners.common").addFilter(_is_no_interruption)
