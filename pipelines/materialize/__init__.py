"""Making a published dataset again. A package, so that worker processes need not import its
`__main__`."""

from pipelines.beam_log import quieten

quieten()
