"""Where time goes, by stage: what cProfile counted, summed up under names of ours."""

import os
import pstats
from collections.abc import Mapping, Sequence

Stages = Mapping[str, Sequence[tuple[str, str]]]
"""Stage -> (file, function) whose time, with all that they call, is the stage's."""


def print_stages(
    title: str,
    stats: pstats.Stats,
    stages: Stages,
    num_samples: int,
    remarks: Mapping[str, str] | None = None,
) -> None:
    """Print the time of a sample by stage.

    Args:
        title: of the table.
        stats: what the profiler counted.
        stages: no function of one may call one of another.
        num_samples: how many were made meanwhile.
        remarks: words behind a stage.
    """
    total = stats.total_tt  # type: ignore[attr-defined]  # not in the stubs
    seconds = {
        stage: sum(_cumulative(stats, *function) for function in functions)
        for stage, functions in stages.items()
    }
    seconds["everything else"] = total - sum(seconds.values())
    print(f"{title:36} {'ms':>8} {'share':>8}")
    for stage, spent in seconds.items():
        remark = (remarks or {}).get(stage, "")
        print(f"  {stage:34} {1000 * spent / num_samples:8.1f} {spent / total:8.1%}  {remark}")
    print(f"  {'total, under the profiler':34} {1000 * total / num_samples:8.1f}")


def _cumulative(stats: pstats.Stats, file: str, function: str) -> float:
    found = stats.stats  # type: ignore[attr-defined]  # not in the stubs
    return sum(
        times[3]
        for (path, _, name), times in found.items()
        if name == function and os.path.basename(path) == file
    )
