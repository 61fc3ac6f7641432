"""The engines that a graph can run on, and what each has to be told."""

import argparse
import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TypeOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import create_runner

from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.watchdog import LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS, Watchdog

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner", "PrismRunner")
_DASK = "DaskRunner"
_PATHS = {_DASK: "apache_beam.runners.dask.dask_runner.DaskRunner"}  # Beam knows no short name
_EXTRAS = {_DASK: "dask", "DataflowRunner": "dataflow"}
_MOST_DASK_BUNDLES = 256
"""What Dask shuffles costs more than linearly in their number."""


class EngineOptions(PipelineOptions):
    """Our option beside Beam's."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--worker_timeout", type=float, default=PATIENCE_SECONDS)


def choose_engine(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options, with what the runner that they name needs besides.

    Raises:
        UserError: if it cannot be used.
    """
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    name = standard.runner or LOCAL_RUNNERS[0]
    standard.runner = _PATHS.get(name, name)
    try:
        create_runner(standard.runner)
    except (ValueError, ImportError, AttributeError) as error:
        cure = f"; pip install 'vcsr[{_EXTRAS[name]}]'" if name in _EXTRAS else ""
        raise UserError(f"--runner={name} cannot be used: {error}{cure}") from error
    patience_seconds = options.view_as(EngineOptions).worker_timeout
    if not patience_seconds >= LEAST_PATIENCE_SECONDS:  # not a number is none, either
        raise UserError(
            f"--worker_timeout is {patience_seconds:g}, and must be {LEAST_PATIENCE_SECONDS} "
            "seconds or more"
        )
    if name == LOCAL_RUNNERS[0]:
        # Else the DirectRunner first tries to fetch and run Prism, another engine. There are no
        # triggers in the graph that this could make unsafe.
        options.view_as(TypeOptions).allow_unsafe_triggers = True
    if not (harness := options.view_as(WorkerOptions)).default_sdk_harness_log_level:
        harness.default_sdk_harness_log_level = "WARNING"
    # All code is imported from modules, so nothing of __main__ needs to travel.
    options.view_as(SetupOptions).save_main_session = False
    return options


@contextlib.contextmanager
def running(layout: Layout, options: PipelineOptions, num_units: int) -> Iterator[beam.Pipeline]:
    """Build a graph inside; it runs at the end, and ends even if its workers do not.

    Args:
        layout: of the dataset.
        options: of Beam, as `choose_engine` makes them.
        num_units: how many units of work there are to be spread.

    Raises:
        UserError: if the runner refuses its options.
    """
    patience_seconds = options.view_as(EngineOptions).worker_timeout
    if options.view_as(StandardOptions).runner == _PATHS[_DASK]:
        options = _spread_on_dask(options, num_units)
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # options that are missing, or contradict each other
        raise UserError(f"Beam refuses the options: {error}") from error
    with Watchdog(layout, patience_seconds), pipeline as root:
        yield root


def _spread_on_dask(options: PipelineOptions, num_units: int) -> PipelineOptions:
    """Dask's runner puts 128 units into a bundle, which is one worker's, unless it is told."""
    from apache_beam.runners.dask.dask_runner import DaskOptions  # an extra

    spread = copy.deepcopy(options)  # each graph has another number
    dask: Any = spread.view_as(DaskOptions)
    if not dask.npartitions and not dask.partition_size:
        dask.npartitions = max(1, min(num_units, _MOST_DASK_BUNDLES))
    return spread
