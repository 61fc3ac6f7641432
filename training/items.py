"""What an epoch consists of: items, each a sample or a part of one, and how often each comes up.

Without a view each sample is an item that comes up once. A view (`schemas.view`) lists items with
weights: times an epoch, on average. All epochs are equally long, so each group of items comes up a
whole number of times: whole parts of weights as they are, and the fractions of a group scaled
together, so that their sum is the nearest whole number, but at least 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.manifest import Manifest
from schemas.view import ANY, MOST_WEIGHT, ViewError, read_view
from training.config import UserError
from training.index import SampleIndex

_UNIT = 2**20  # weights are whole numbers of this part of 1, so that their sums are exact


class Items(NamedTuple):
    """Items, as arrays of one length, (N,) int64 each."""

    entry: np.ndarray
    """index of the sample among the entries"""
    stream: np.ndarray
    """the LR stream, -1 for any"""
    frame: np.ndarray
    """the frame that windows are centred on, -1 for any"""
    weight: np.ndarray
    """times an epoch, in units of 2**-20"""


class Choice(NamedTuple):
    """Which items come up in an epoch, in no order, (M,) int64 each."""

    item: np.ndarray
    """index of the item"""
    repeat: np.ndarray
    """how many times it was chosen before, in this epoch"""


def whole_samples(entries: SampleIndex) -> Items:
    """Every sample, once an epoch."""
    number = len(entries)
    anything = np.full(number, ANY)
    return Items(np.arange(number), anything, anything, np.full(number, _UNIT))


def view_items(path: Path, manifest: Manifest, entries: SampleIndex) -> tuple[Items, str]:
    """What a view lists of some entries, and the view's hash.

    Raises:
        UserError: if the file is no view of this dataset, or has nothing of these entries.
        SchemaVersionError: if an incompatible release wrote it.
    """
    try:
        view = read_view(path)
    except ViewError as error:
        raise UserError(f"--view {error}: write it again with pipelines.view") from error
    if view.about.manifest_sha256 != manifest.sha256:
        raise UserError(
            f"--view {path} is of another dataset (manifest {view.about.manifest_sha256[:12]}, "
            f"here {manifest.sha256[:12]}): write one of this dataset with pipelines.view"
        )
    index = {key: number for number, key in enumerate(entries.keys())}
    kept = [row for row, key in enumerate(view.keys) if key in index]
    weights = np.array(view.weights, np.float64)[kept]
    if not ((weights > 0) & (weights <= MOST_WEIGHT)).all():
        raise UserError(f"--view {path} has weights that are none: write it again")
    items = Items(
        entry=np.array([index[view.keys[row]] for row in kept], np.int64),
        stream=np.array(view.streams, np.int64)[kept],
        frame=np.array(view.frames, np.int64)[kept],
        # At least a unit, so that nothing that is listed can never come up.
        weight=np.maximum(np.rint(weights * _UNIT).astype(np.int64), 1),
    )
    _check_inside(path, items, len(manifest.streams), entries.num_frames[items.entry])
    return items, view.about.sha256


def _check_inside(path: Path, items: Items, num_streams: int, num_frames: np.ndarray) -> None:
    inside = (items.stream >= ANY) & (items.stream < num_streams)
    inside &= (items.frame >= ANY) & (items.frame < num_frames)
    if not inside.all():
        raise UserError(f"--view {path} names streams or frames that are not there: write it again")


def times_an_epoch(weights: np.ndarray) -> int:
    """How often items of these weights, (N,) int64, come up together."""
    return int((weights // _UNIT).sum()) + _times_of_fractions(weights % _UNIT)


def fractions_scale(weights: np.ndarray) -> float:
    """The factor by which the fractions of a group's weights, (N,) int64, are scaled."""
    fractions = weights % _UNIT
    asked = int(fractions.sum()) / _UNIT
    return _times_of_fractions(fractions) / asked if asked else 1.0


def _times_of_fractions(fractions: np.ndarray) -> int:
    asked = int(fractions.sum())
    return max((asked + _UNIT // 2) // _UNIT, 1) if asked else 0


def choose(items: Items, groups: Sequence[np.ndarray], rng: np.random.Generator) -> Choice:
    """Choose what comes up in an epoch.

    Args:
        items: all of them.
        groups: indices of items, (N,) int64 each; each group is chosen from by itself.
        rng: the generator.
    """
    orders = [rng.permutation(group) for group in groups]
    numbers = [_numbers(items.weight[order], rng) for order in orders]
    order, number = np.concatenate(orders), np.concatenate(numbers)
    first = np.cumsum(number) - number
    item = np.repeat(order, number)
    return Choice(item, np.arange(len(item)) - np.repeat(first, number))


def _numbers(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each item comes up, (N,) int64: systematic sampling.

    Scaled fractions lie side by side on a line, and an item is taken at every whole number in its
    own, behind a random offset. Their sum is whole, so any offset takes equally many.
    """
    offset = rng.integers(_UNIT) / _UNIT  # sums of this and a whole number are exact
    whole, fractions = np.divmod(weights, _UNIT)
    ends = np.cumsum(fractions)
    if not ends[-1]:
        return whole
    ends = ends / ends[-1] * _times_of_fractions(fractions)
    return whole + np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
