"""The proof's tables and plots: `proof.md`, and pictures beside it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.proof.clips import CRFS
from benchmarks.proof.intervals import Interval, interval
from benchmarks.proof.motion import WarpScore
from benchmarks.proof.scores import AS_IT_IS, ClipScore
from benchmarks.proof.variants import FULL
from benchmarks.proof.wiring import Wiring
from schemas.wording import markdown_table
from training.scoring import PairAccuracy

STREAMS = ["clean", *(f"{crf:g}" for crf in CRFS)]
"""What Vid4 is measured at."""

BySeed = Sequence[list[ClipScore]]
"""The scores of each seed's network."""


class Difference(NamedTuple):
    """Two things that are measured on the same clips with the same seeds, subtracted."""

    name: str
    values: Mapping[str, Interval]
    """dB by stream"""


def wiring_table(found: Sequence[Wiring]) -> str:
    """P0."""
    causes = list(found[0].changes)
    head = ["configuration", "weights", "of these without a gradient"]
    head += [f"change of the output with other {cause}, levels" for cause in causes]
    rows = [
        [x.config, f"{x.parameters:,}", f"{x.without_gradient:,}"]
        + [f"{x.changes[cause]:.3g}" for cause in causes]
        for x in found
    ]
    return markdown_table(head, rows)


def accuracy_rows(found: Sequence[Sequence[PairAccuracy]]) -> str:
    """P1: accuracies over seeds, their mean and range."""
    rows = []
    for kind in zip(*found, strict=True):
        values = [x.accuracy for x in kind]
        spread = f"{min(values):.3f} to {max(values):.3f}"
        cells = [kind[0].pairs, kind[0].frame_types, kind[0].num_pairs]
        rows.append([*cells, f"{np.mean(values):.3f}", spread])
    return markdown_table(["pairs", "types fed", "pairs of a seed", "accuracy", "of seeds"], rows)


def motion_table(found: Sequence[WarpScore]) -> str:
    """P2."""
    zero = {x.crf: (x.from_previous + x.from_next) / 2 for x in found if x.flow == "zero"}
    rows = []
    for name in dict.fromkeys(x.flow for x in found):
        chosen = [x for x in found if x.flow == name]
        cells = [f"{x.from_previous:.2f} / {x.from_next:.2f}" for x in chosen]
        gain = min((x.from_previous + x.from_next) / 2 - zero[x.crf] for x in chosen)
        rows.append([name, *cells, f"{gain:+.2f}"])
    return markdown_table(["motion", *(f"CRF {c:g}" for c in CRFS), "least gain over zero"], rows)


def differences(
    name: str, here: BySeed, there: BySeed, of_type: str = "IPB", streams: Sequence[str] = STREAMS
) -> Difference:
    """PSNR of one minus that of the other, paired by seed and clip."""
    values = {}
    for stream in streams:
        pairs = [
            [
                a - b
                for a, b in zip(_clips(x, stream, of_type), _clips(y, stream, of_type), strict=True)
            ]
            for x, y in zip(here, there, strict=True)
        ]
        values[stream] = interval(np.array(pairs))
    return Difference(name, values)


def other_code_differences(scores: BySeed) -> list[Difference]:
    """The frames' own representation minus that of the same frames at another CRF."""
    found = []
    for other in STREAMS[1:]:
        values = {}
        for stream in STREAMS[1:]:
            if stream != other:
                own = [_clips(x, stream, "IPB") for x in scores]
                wrong = [_clips(x, stream, "IPB", other) for x in scores]
                values[stream] = interval(np.array(own) - np.array(wrong))
        found.append(Difference(f"own representation, not that of CRF {other}", values))
    return found


def difference_table(found: Sequence[Difference], streams: Sequence[str] = STREAMS) -> str:
    """Mean and 95 % interval, dB."""
    rows = [[x.name, *(str(x.values.get(s, "")) for s in streams)] for x in found]
    return markdown_table(["dB", *map(_title, streams)], rows)


def mean_table(
    found: Mapping[str, BySeed], streams: Sequence[str], value: Callable[[ClipScore], float]
) -> str:
    """The mean over clips, then seeds."""
    rows = []
    for name, seeds in found.items():
        means = [
            np.mean([np.mean([value(x) for x in scores if _is(x, s)]) for scores in seeds])
            for s in streams
        ]
        rows.append([name, *(f"{mean:.3f}" for mean in means)])
    return markdown_table(["", *map(_title, streams)], rows)


def _title(stream: str) -> str:
    return f"CRF {stream}" if stream.isdigit() else stream


def _clips(
    scores: Sequence[ClipScore], stream: str, of_type: str, representation: str = AS_IT_IS
) -> list[float]:
    return [x.mean_psnr(of_type) for x in scores if _is(x, stream, representation)]


def _is(score: ClipScore, stream: str, representation: str = AS_IT_IS) -> bool:
    return (score.stream, score.representation) == (stream, representation)


def plot_differences(path: Path, found: Sequence[Difference], title: str) -> None:
    """Intervals side by side, a colour for each stream."""
    figure = Figure(figsize=(8, 0.55 * len(found) + 1.6), layout="constrained")
    axes = figure.subplots()
    streams = list(dict.fromkeys(stream for x in found for stream in x.values))
    for number, stream in enumerate(streams):
        chosen = [(i, x.values[stream]) for i, x in enumerate(found) if stream in x.values]
        places = [i + (number - (len(streams) - 1) / 2) * 0.15 for i, _ in chosen]
        means = [x.mean for _, x in chosen]
        reach = [[x.mean - x.low for _, x in chosen], [x.high - x.mean for _, x in chosen]]
        axes.errorbar(means, places, xerr=reach, fmt="o", markersize=4, capsize=2, label=stream)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(found)), [x.name for x in found])
    axes.invert_yaxis()
    axes.set_xlabel("dB, PSNR of Y; mean and 95 % interval")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def curves(found: Mapping[str, BySeed]) -> list[Difference]:
    """All variants against the one with everything on."""
    return [
        differences(f"{FULL} - {name}", found[FULL], scores)
        for name, scores in found.items()
        if name != FULL
    ]
