"""The main command. A package, so that worker processes need not import its `__main__`."""

import logging


def _concerns_us(record: logging.LogRecord) -> bool:
    # Beam says so on import wherever Google's client libraries are not installed.
    return not record.getMessage().startswith("apitools not found")


logging.getLogger().addFilter(_concerns_us)
