"""How a pretrained encoder ranks held-out frames: scores, accuracies of pairs, a plot.

Shapes: N frames. A table of scores (N, 4) has a column for each frame type that may be fed, by its
code, and one for none.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from schemas.manifest import read_manifest
from schemas.record import Record
from schemas.sample import FrameType
from schemas.store import Place
from training.aligned import AlignedWindow, Coding, collate_aligned
from training.checkpoint import write_atomically
from training.index import read_index
from training.models.encoder import CompressionEncoder
from training.pretraining import Ranker
from training.ranking import comparable
from training.samples import read_aligned, whole_cut
from training.shards import Shards

SCORES_NAME = "scores.json"

MAX_CLIPS = 64
"""Samples of the split that are scored, evenly spaced among the sorted keys."""
MAX_FRAMES = 32
"""Frames of each, from its first."""

_FAR_APART = 5  # steps of CRF
_FRAMES_AT_ONCE = 8  # bounds memory: pictures are whole
_NO_TYPE = len(FrameType)  # the last column


class PairAccuracy(Record):
    """How often the frame that is compressed more has the higher score."""

    pairs: str
    """which pairs, such as `crf, within clips`"""
    frame_types: str
    """what was fed as frame types: given, none, or reversed (I as B and B as I)"""
    num_pairs: int
    """pairs compared"""
    accuracy: float
    """part of them in the right order; equal scores are wrong"""


class StreamScores(Record):
    """Scores of one LR stream of one held-out sample."""

    clip: str
    """key of the sample"""
    stream: str
    """name of the LR stream"""
    crf: float | None
    """constant rate factor, -1 for uncompressed, none where streams cannot be compared"""
    frame_types: str
    """one letter a frame"""
    scores: list[float]
    """of each frame; higher is more compressed"""
    scores_without_types: list[float]
    """of each frame's picture alone"""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Scores of held-out frames."""

    streams: list[StreamScores]
    """one for each LR stream of each clip"""
    accuracies: list[PairAccuracy]
    """of all kinds of pairs that there are"""


def score_held_out(ranker: Ranker, dataset: Place, device: torch.device) -> HeldOut:
    """Score whole pictures of a dataset's validation split; nothing where it has none.

    Raises:
        DatasetError: if a sample is damaged.
    """
    manifest = read_manifest(dataset)
    shards = Shards(dataset, manifest.shards)
    entries = read_index(dataset, manifest, "validation")
    every = math.ceil(len(entries) / MAX_CLIPS) or 1
    windows, tables = list[AlignedWindow](), list[Tensor]()
    for entry in entries[::every]:
        cut = whole_cut(entry, stream=0, most_frames=MAX_FRAMES)
        window = read_aligned(shards, entry, cut)
        batch = collate_aligned([window])
        tables.append(score_table(ranker, batch.lr, device))
        # Of pictures only the coding is needed from here on.
        windows.append(window.without_pictures())
    shards.close()
    if not windows:
        return HeldOut([], [])
    table = torch.cat(tables)
    return HeldOut(_streams(windows, table), accuracies(table, collate_aligned(windows).coding))


@torch.inference_mode()
def score_table(ranker: Ranker, lr_NCHW: Tensor, device: torch.device) -> Tensor:
    """The score of each picture under each type that may be fed, (N, 4) float32 on the CPU.

    Args:
        ranker: on the device.
        lr_NCHW: uint8 RGB.
        device: where to compute.
    """
    was_training = ranker.training
    ranker.eval()
    scores = [
        _scores_of(ranker, lr.to(device).float() / 255).cpu()
        for lr in lr_NCHW.split(_FRAMES_AT_ONCE)
    ]
    ranker.train(was_training)
    return torch.cat(scores)


def _scores_of(ranker: Ranker, lr_NCHW: Tensor) -> Tensor:
    encoder: CompressionEncoder = ranker.encoder
    code_NDhw = encoder(lr_NCHW, None)
    codes = torch.arange(len(FrameType), device=lr_NCHW.device)
    typed = [code_NDhw + code_D[:, None, None] for code_D in encoder.type_code(codes)]
    return torch.stack([ranker.score(x) for x in [*typed, code_NDhw]], 1)


def accuracies(score_N4: Tensor, coding: Coding) -> list[PairAccuracy]:
    """The accuracy of each kind of pairs that there is."""
    fed = {
        "given": coding.frame_type,
        "none": torch.full_like(coding.frame_type, _NO_TYPE),
        "reversed": _NO_TYPE - 1 - coding.frame_type,
    }
    scores = {name: score_N4.gather(1, types[:, None])[:, 0] for name, types in fed.items()}
    counts = dict[tuple[str, str], Tensor]()
    for content in coding.content.unique():
        rows = (coding.content == content).nonzero()[:, 0]  # a table of all pairs may be large
        for pairs, chosen in _kinds(coding, rows).items():
            for name, score in scores.items():
                right = (score[rows][:, None] > score) & chosen
                found = torch.stack([right.sum(), chosen.sum()])
                counts[pairs, name] = counts.get((pairs, name), 0) + found
    counts["types, one picture fed as both", "given"] = _of_one_picture(score_N4)
    return [
        PairAccuracy(pairs=pairs, frame_types=fed, num_pairs=total, accuracy=right / total)
        for (pairs, fed), (right, total) in ((k, v.tolist()) for k, v in counts.items())
        if total
    ]


def _kinds(coding: Coding, rows: Tensor) -> dict[str, Tensor]:
    """Kinds of pairs by their names, (M, N) bool each."""
    pairs = comparable(coding, rows)
    apart = coding.strength[rows][:, None] - coding.strength
    is_clean = coding.strength < 0
    kinds = dict[str, Tensor]()
    for where, chosen in (("within clips", pairs.within), ("across clips", pairs.across)):
        kinds[f"CRF, {where}"] = chosen & ~is_clean
        kinds[f"CRF at least {_FAR_APART} apart, {where}"] = (
            chosen & ~is_clean & (apart >= _FAR_APART)
        )
        kinds[f"uncompressed and any CRF, {where}"] = chosen & is_clean
    is_same = coding.moment[rows][:, None] == coding.moment
    kinds[f"CRF at least {_FAR_APART} apart, one frame of a clip"] = (
        kinds[f"CRF at least {_FAR_APART} apart, within clips"] & is_same
    )
    kinds["types, within clips"] = pairs.types
    return kinds


def _of_one_picture(score_N4: Tensor) -> Tensor:
    """(2,): how often a picture's score follows the type that is fed, and of how many pairs."""
    codes = range(len(FrameType))
    pairs = [(high, low) for high in codes for low in range(high)]
    right = sum(int((score_N4[:, high] > score_N4[:, low]).sum()) for high, low in pairs)
    return torch.tensor([right, len(pairs) * len(score_N4)])


def _streams(windows: Sequence[AlignedWindow], score_N4: Tensor) -> list[StreamScores]:
    letters, rows, first = [kind.value for kind in FrameType], list[StreamScores](), 0
    for window in windows:
        for stream in window.streams:
            types = torch.from_numpy(stream.frame_type)
            own = score_N4[first : first + len(types)]
            first += len(types)
            rows.append(
                StreamScores(
                    clip=window.key,
                    stream=stream.name,
                    crf=None if math.isnan(stream.strength) else stream.strength,
                    frame_types="".join(letters[code] for code in stream.frame_type),
                    scores=own.gather(1, types[:, None])[:, 0].tolist(),
                    scores_without_types=own[:, _NO_TYPE].tolist(),
                )
            )
    return rows


def write_scores(run: Path, step: int, found: HeldOut) -> None:
    """Write `scores.json`: the accuracies, and every frame's score."""
    fields = {
        "step": step,
        "accuracies": [x.model_dump() for x in found.accuracies],
        "streams": [x.model_dump() for x in found.streams],
    }
    write_atomically(run / SCORES_NAME, json.dumps(fields, indent=1).encode())


def accuracy_table(found: Sequence[PairAccuracy]) -> str:
    """Accuracies as a table for a person."""
    if not found:
        return "The dataset has no validation split, so that nothing was scored."
    columns = ("given", "none", "reversed")
    cells = {(x.pairs, x.frame_types): f"{x.accuracy:.4f}" for x in found}
    sizes = {x.pairs: x.num_pairs for x in found}
    width = max(map(len, sizes))
    head = f"{'':{width}} {'':>10}  {'frame types fed':^28}"
    names = "".join(f"{name:>10}" for name in columns)
    lines = [
        "Part of held-out pairs that are in the right order",
        head,
        f"{'pairs':{width}} {'number':>10}{names}",
    ]
    for pairs, number in sizes.items():
        values = "".join(f"{cells.get((pairs, name), ''):>10}" for name in columns)
        lines.append(f"{pairs:{width}} {number:>10}{values}")
    return "\n".join(lines)


def type_means(streams: Sequence[StreamScores], kind: FrameType) -> dict[str, np.ndarray]:
    """For each clip the CRFs of its streams and the mean scores of their frames of one type.

    Returns:
        (K, 2) float64 by clip, (CRF, score), ascending in CRF.
    """
    points = dict[str, list[tuple[float, float]]]()
    for x in streams:
        own = [s for s, t in zip(x.scores, x.frame_types, strict=True) if t == kind.value]
        if own and x.crf is not None:
            points.setdefault(x.clip, []).append((x.crf, float(np.mean(own))))
    return {clip: np.array(sorted(own)) for clip, own in points.items()}
