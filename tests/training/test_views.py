"""Training on a view: what comes up, how often, and in what order."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from schemas.manifest import read_manifest
from schemas.sample import SampleKind
from schemas.view import ViewRow, write_view
from tests.training.conftest import Clip, ruler_frames, write_dataset
from tests.training.test_dataset import same, simulate_rank
from tests.training.test_train import SETTINGS as TRAIN_SETTINGS
from training.batch import Batch
from training.batches import Part
from training.checkpoint import read_config
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.items import Items, choose
from training.train import main

SETTINGS = StreamSettings(frames=4, crop=16, batch_size=2, seed=3)


def row(key: str, stream: int = -1, frame: int = -1, weight: float = 1) -> ViewRow:
    return ViewRow(key=key, stream=stream, frame=frame, weight=weight)


def write(dataset: Path, path: Path, rows: Sequence[ViewRow]) -> Path:
    write_view(path, read_manifest(dataset).sha256, "SELECT", {}, rows)
    return path


def viewed(
    dataset: Path, path: Path, rows: Sequence[ViewRow], settings: StreamSettings = SETTINGS
) -> SampleStream:
    return SampleStream([Part(dataset, write(dataset, path, rows))], "train", settings)


def load(stream: SampleStream, workers: int = 0) -> list[Batch]:
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    return [batch.to(torch.device("cpu")) for batch in loader]


def counts(batches: Sequence[Batch]) -> Counter[str]:
    return Counter(key for batch in batches for key in batch.keys)


def planned_keys(stream: SampleStream, epoch: int) -> list[list[str]]:
    """The keys of each batch of an epoch, without reading one."""
    (part,) = stream.parts
    plan, keys = part.plan(epoch), part.index.keys()
    batches = [plan.entry[plan.batch == number] for number in range(part.per_epoch)]
    return [[keys[entry] for entry in batch] for batch in batches]


def first_frames(batch: Batch) -> list[int]:
    """The ruler's blue is ten times the frame."""
    return [int(x) for x in (batch.hr[:, 0, 2, 0, 0] * 255 / 10).round()]


def test_only_chosen_samples_and_streams_come_up(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row("clip1", 1), row("clip4", 0), row("clip7")]
    stream = viewed(ruler_dataset, tmp_path / "v", rows)
    assert stream.batches_per_epoch == 2
    names = Counter[tuple[str, str]]()
    for epoch in range(12):
        batches = load(stream.epoch(epoch))
        assert counts(batches) == {"clip1": 1, "clip4": 1, "clip7": 1}
        names.update(pair for b in batches for pair in zip(b.keys, b.stream_names, strict=True))
    assert names.keys() == {
        ("clip1", "crf35"), ("clip4", "clean"), ("clip7", "clean"), ("clip7", "crf35"),
    }  # fmt: skip


def test_whole_and_fractional_weights(ruler_dataset: Path, tmp_path: Path) -> None:
    weights = {"clip0": 3, "clip1": 0.5, "clip2": 1.25, "clip3": 0.25}
    rows = [row(key, weight=weight) for key, weight in weights.items()]
    stream = viewed(ruler_dataset, tmp_path / "v", rows)
    assert stream.batches_per_epoch == 3
    total = Counter[str]()
    for epoch in range(40):
        found = Counter(chain.from_iterable(planned_keys(stream, epoch)))
        assert sum(found.values()) == 5 and found["clip0"] == 3
        assert found["clip1"] <= 1 <= found["clip2"] <= 2 and found["clip3"] <= 1
        total += found
    assert 12 <= total["clip1"] <= 28 and 3 <= total["clip3"] <= 18
    assert counts(load(stream.epoch(7))) == Counter(chain.from_iterable(planned_keys(stream, 7)))


def test_repeats_are_drawn_anew(ruler_dataset: Path, tmp_path: Path) -> None:
    view = write(ruler_dataset, tmp_path / "v", [row("clip0", weight=6)])
    batches = load(SampleStream([Part(ruler_dataset, view)], "train", SETTINGS))
    windows = {batch.lr[n].double().sum().item() for batch in batches for n in range(2)}
    assert counts(batches) == {"clip0": 6}
    assert len(windows) > 3


@pytest.mark.parametrize(("frames", "starts"), [(1, [0, 3, 5]), (3, [0, 2, 3]), (4, [0, 1, 2])])
def test_windows_are_centred_on_a_frame(
    ruler_dataset: Path, tmp_path: Path, frames: int, starts: list[int]
) -> None:
    rows = [row("clip0", 0, 0), row("clip0", 0, 3), row("clip0", 0, 5)]
    settings = SETTINGS.model_copy(update={"frames": frames})
    stream = viewed(ruler_dataset, tmp_path / "v", rows, settings)
    for epoch in range(3):
        batches = load(stream.epoch(epoch))
        assert sorted(start for batch in batches for start in first_frames(batch)) == starts


def test_of_a_pseudo_video_the_picture_alone_is_taken(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row("pack0", 1, 2), row("pack0", 1, 4), row("pack1", 0, 0), row("pack1", 0)]
    stream = viewed(ruler_dataset, tmp_path / "v", rows)
    batches = load(stream)
    found = Counter(
        (key, name, start)
        for batch in batches
        if len(batch.keys) < 4
        for key, name, start in zip(
            batch.keys, batch.stream_names, first_frames(batch), strict=True
        )
    )
    assert found == {("pack0", "crf35", 2): 1, ("pack0", "crf35", 4): 1, ("pack1", "clean", 0): 1}
    assert counts(batches) == {"pack0": 2, "pack1": 1 + 4}
    assert all(batch.lr.shape[1] == 1 for batch in batches)


def test_every_group_has_its_rounded_sum_and_comes_up(
    ruler_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = {"clip0": 1.7, "clip1": 0.7, "short": 0.4, "pack0": 0.5}
    rows = [row(key, weight=weight) for key, weight in weights.items()]
    stream = viewed(ruler_dataset, tmp_path / "v", rows)
    for epoch in range(20):
        found = Counter(chain.from_iterable(planned_keys(stream, epoch)))
        assert found["clip0"] + found["clip1"] == 2  # 2.4
        assert found["clip0"] in (1, 2) and found["clip1"] in (0, 1)
        assert (found["short"], found["pack0"]) == (1, 1)
        assert len(planned_keys(stream, epoch)) == stream.batches_per_epoch == 3
    (told,) = [record.getMessage() for record in caplog.records]
    assert "share a batch with sample short (windows of 3 frames)" in told
    assert "sum to 0.4 an epoch" in told and "2.5 times as often as asked" in told


def choices(weights: Sequence[float], epochs: int) -> np.ndarray:
    """(epochs, N): how often each item comes up."""
    units = np.array([round(weight * 2**20) for weight in weights])
    number = len(units)
    items = Items(np.arange(number), np.full(number, -1), np.full(number, -1), units)
    chosen = (choose(items, [np.arange(number)], np.random.default_rng(e)) for e in range(epochs))
    return np.array([np.bincount(choice.item, minlength=number) for choice in chosen])


def test_weights_are_kept_on_average() -> None:
    weights = np.array([0.125, 0.5, 0.375, 1.5, 2, 0.75, 0.75])
    found = choices(list(weights), 8000)
    assert (found.sum(axis=1) == 6).all()
    assert (found >= np.floor(weights)).all() and (found <= np.ceil(weights)).all()
    # Four standard errors of a share of 0.5.
    assert np.abs(found.mean(axis=0) - weights).max() < 4 * 0.5 / np.sqrt(8000)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.2, 0.2], [0.5, 0.5]),
        ([1, 0.4], [1, 1]),
        ([2, 0.1, 0.3], [2, 0.25, 0.75]),
        ([0.5, 0.5, 0.25], [0.4, 0.4, 0.2]),
        ([3, 1.6, 0.9, 0.2], [3, 1 + 0.6 * 2 / 1.7, 0.9 * 2 / 1.7, 0.2 * 2 / 1.7]),
        ([0.9, 0.9, 0.9], [1, 1, 1]),
        ([1, 2, 5], [1, 2, 5]),
        ([0.01], [1]),
    ],
)
def test_fractions_that_do_not_add_up_are_scaled_in_proportion(
    weights: list[float], expected: list[float]
) -> None:
    found = choices(weights, 2000)
    assert len(set(found.sum(axis=1))) == 1
    assert found.sum(axis=1)[0] == round(sum(expected))
    assert np.abs(found.mean(axis=0) - expected).max() < 4 * 0.5 / np.sqrt(2000)
    assert (found >= np.floor(expected)).all() and (found <= np.ceil(expected)).all()
    assert (found.min(axis=0) >= np.floor(weights)).all()


@pytest.mark.parametrize("sum_of_weights", [9.3, 9.7, 10, 0.4, 0.6])
def test_the_number_is_the_same_in_every_epoch(sum_of_weights: float) -> None:
    rng = np.random.default_rng(5)
    weights = rng.random(20)
    weights *= sum_of_weights / weights.sum()
    found = choices(list(weights), 2000)
    number = max(round(sum_of_weights), 1)
    assert set(found.sum(axis=1)) == {number}
    scaled = weights * number / sum_of_weights
    assert (found <= np.ceil(scaled)).all()
    assert np.abs(found.mean(axis=0) - scaled).max() < 4 * 0.5 / np.sqrt(2000)


def test_many_tenths_add_up_exactly() -> None:
    assert set(choices([0.1] * 1000, 20).sum(axis=1)) == {100}


@pytest.fixture
def mixed_view(ruler_dataset: Path, tmp_path: Path) -> Path:
    rows = [row(f"clip{n}", n % 2, -1, 0.5 + n / 4) for n in range(6)]
    rows += [row("clip0", 0, 2), row("pack0", -1, 1, 2), row("pack1"), row("short")]
    return write(ruler_dataset, tmp_path / "mixed", rows)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_whatever_the_workers(
    ruler_dataset: Path, mixed_view: Path, workers: int
) -> None:
    stream = SampleStream([Part(ruler_dataset, mixed_view)], "train", SETTINGS).batches(3, 21)
    alone, together = load(stream), load(stream, workers)
    assert len(alone) == len(together) == 18
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_ranks_take_turns(
    ruler_dataset: Path, mixed_view: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(SampleStream([Part(ruler_dataset, mixed_view)], "train", SETTINGS))
    for rank in range(2):
        simulate_rank(monkeypatch, rank, 2)
        mine = load(SampleStream([Part(ruler_dataset, mixed_view)], "train", SETTINGS))
        taken = len(expected) // 2 * 2  # the others are dropped
        assert all(same(a, b) for a, b in zip(mine, expected[:taken][rank::2], strict=True))


def test_epochs_differ_and_views_differ(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row(f"clip{n}") for n in range(8)]
    one = SampleStream(
        [Part(ruler_dataset, write(ruler_dataset, tmp_path / "a", rows))], "train", SETTINGS
    )
    more = [*rows[:-1], row("clip7", weight=0.75)]  # which comes up once, too
    two = SampleStream(
        [Part(ruler_dataset, write(ruler_dataset, tmp_path / "b", more))], "train", SETTINGS
    )

    orders = [planned_keys(one, 0), planned_keys(one, 1), planned_keys(two, 0)]
    assert planned_keys(one, 0) == orders[0]
    assert len({str(order) for order in orders}) == 3


def test_a_view_may_span_splits(pan_dataset: Path, tmp_path: Path) -> None:
    view = write(pan_dataset, tmp_path / "v", [row("pan0"), row("pan5", 1), row("pan6", 0, 1)])
    settings = SETTINGS.model_copy(update={"frames": 3})
    train = load(SampleStream([Part(pan_dataset, view)], "train", settings))
    validation = load(SampleStream([Part(pan_dataset, view)], "validation", settings))
    assert counts(train) == {"pan0": 1}
    assert counts(validation) == {"pan5": 1, "pan6": 1}


def test_a_view_without_the_split_is_refused(pan_dataset: Path, tmp_path: Path) -> None:
    view = write(pan_dataset, tmp_path / "v", [row("pan5")])
    with pytest.raises(UserError, match="no sample of the split 'train'"):
        SampleStream([Part(pan_dataset, view)], "train", SETTINGS)


def test_the_smallest_weight_comes_up(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row("clip0"), row("clip1", weight=1e-9)]
    view = write(ruler_dataset, tmp_path / "v", rows)
    assert counts(load(SampleStream([Part(ruler_dataset, view)], "train", SETTINGS))) == {
        "clip0": 1, "clip1": 1,
    }  # fmt: skip


def test_windows_are_checked_against_what_is_chosen(ruler_dataset: Path, tmp_path: Path) -> None:
    view = write(ruler_dataset, tmp_path / "v", [row("short")])
    with pytest.raises(UserError, match=r"every sample of view .*v: use --frames 3 or less"):
        SampleStream([Part(ruler_dataset, view)], "train", SETTINGS)


def run(dataset: Path, run: Path, *more: str) -> int:
    return main([str(dataset), "--run", str(run), "--workers", "0", *TRAIN_SETTINGS, *more])


def test_views_that_do_not_fit_are_one_message(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_dataset(
        tmp_path / "other", [Clip("pan0", "train", SampleKind.CLIP, ruler_frames(3))]
    )
    foreign = write(other, tmp_path / "foreign", [row("pan0")])
    (tmp_path / "text").write_text("nothing")
    for view, message in {
        foreign: "is of another dataset",
        tmp_path / "text": "is no view, or is damaged",
        tmp_path / "none": "is not there",
    }.items():
        assert run(pan_dataset, tmp_path / "run", "--steps", "1", "--view", str(view)) == 2
        assert message in caplog.text and "pipelines.view" in caplog.text
        assert "Traceback" not in caplog.text
        caplog.clear()


def test_a_run_is_not_resumed_with_another_view(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    first = str(write(pan_dataset, tmp_path / "first", [row("pan0", 1), row("pan1", 1)]))
    second = str(write(pan_dataset, tmp_path / "second", [row("pan0", 1)]))
    assert run(pan_dataset, folder, "--steps", "1", "--view", first) == 0
    assert len(read_config(folder).data[0].view_sha256) == 64
    assert run(pan_dataset, folder, "--steps", "2", "--resume", "--view", second) == 2
    assert "view_sha256 was" in caplog.text
    assert run(pan_dataset, folder, "--steps", "2", "--resume") == 2
    assert run(pan_dataset, folder, "--steps", "2", "--resume", "--view", first) == 0
