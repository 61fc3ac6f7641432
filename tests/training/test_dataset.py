import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from schemas.manifest import MANIFEST_NAME, DatasetError, read_manifest
from schemas.record import SchemaVersionError
from schemas.sample import FrameType, SampleKind, SampleRow
from schemas.store import StorePath
from schemas.tables import read_table, write_table
from tests.training.conftest import CELL, SCALE, Clip, ruler_frames
from training import augment
from training.batch import Batch, collate
from training.batches import Part
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.index import read_index
from training.samples import read_window
from training.shards import Shards

SETTINGS = StreamSettings(frames=4, crop=16, batch_size=2, seed=3)


def load(stream: SampleStream, workers: int = 0) -> list[Batch]:
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    return [batch.to(torch.device("cpu")) for batch in loader]


def clips(batches: list[Batch]) -> list[Batch]:
    return [batch for batch in batches if batch.keys[0].startswith(("clip", "short"))]


def same(a: Batch, b: Batch) -> bool:
    return a.keys == b.keys and torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)


def simulate_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)


def test_hr_lies_where_lr_says_after_crop_and_flips(ruler_dataset: Path) -> None:
    for batch in load(SampleStream(ruler_dataset, "train", SETTINGS)):
        lr, hr = (batch.lr * 255).round(), (batch.hr * 255).round()
        clean = torch.tensor([name == "clean" for name in batch.stream_names])
        large = lr.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
        rows_and_columns = hr[:, :, :2] // SCALE * SCALE
        assert torch.equal(rows_and_columns[clean], large[:, :, :2][clean])
        assert torch.equal(hr[clean][:, :, 2], large[clean][:, :, 2])


def test_vectors_are_cropped_and_turned_with_the_picture(ruler_dataset: Path) -> None:
    seen = 0
    for epoch in range(3):
        for batch in clips(load(SampleStream(ruler_dataset, "train", SETTINGS).epoch(epoch))):
            for n in range(len(batch.keys)):
                if batch.stream_names[n] == "clean":
                    check_vectors(batch, n)
                    seen += 1
    assert seen > 5


def check_vectors(batch: Batch, n: int) -> None:
    row, column = (batch.lr[n, 0, :2] * 255 / SCALE).round()
    # How the picture was turned, read off its rulers: (column, row) of the sample by (x, y).
    turn = torch.stack(
        [
            torch.stack([column[0, 1] - column[0, 0], column[1, 0] - column[0, 0]]),
            torch.stack([row[0, 1] - row[0, 0], row[1, 0] - row[0, 0]]),
        ]
    )
    expected = torch.stack([column // CELL + 1, -(row // CELL) - 1])
    known = batch.flow_valid[n] & 1 == 1
    assert known[1:].all()
    for t in range(1, batch.lr.shape[1]):
        untransformed = torch.einsum("ij,jhw->ihw", turn, batch.flow_previous[n, t])
        assert torch.equal(untransformed, expected)


def test_windows_are_consecutive_frames_of_the_sample(ruler_dataset: Path) -> None:
    starts = set()
    for batch in clips(load(SampleStream(ruler_dataset, "train", SETTINGS))):
        frame = (batch.hr[:, :, 2, 0, 0] * 255 / 10).round()
        assert (frame.diff(dim=1) == 1).all()
        starts |= set(frame[:, 0].tolist())
    assert len(starts) > 1


def test_shapes_and_types_are_those_of_the_batch(ruler_dataset: Path) -> None:
    for batch in load(SampleStream(ruler_dataset, "train", SETTINGS)):
        n, t = batch.lr.shape[:2]
        assert len(batch.keys) == len(batch.stream_names) == n
        assert batch.lr.shape == (n, t, 3, 16, 16)
        assert batch.hr.shape == (n, t, 3, 64, 64)
        assert batch.flow_previous.shape == batch.flow_next.shape == (n, t, 2, 16, 16)
        assert batch.flow_valid.shape == (n, t, 16, 16)
        assert batch.frame_type.shape == batch.qp.shape == (n, t)
        assert batch.crf.shape == (n,) and batch.crf.dtype == torch.float32
        expected = {"clean": -1.0, "crf35": 35.0}
        assert batch.crf.tolist() == [expected[name] for name in batch.stream_names]
        assert {x.dtype for x in (batch.lr, batch.hr, batch.flow_next, batch.qp)} == {torch.float32}
        assert (batch.flow_valid.dtype, batch.frame_type.dtype) == (torch.uint8, torch.int64)
        assert batch.lr.min() >= 0 and batch.lr.max() <= 1


def test_every_sample_comes_up_once_an_epoch(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    for epoch in range(2):
        batches = load(stream.epoch(epoch))
        assert len(batches) == stream.batches_per_epoch == 5 + 1 + 1
        frames = Counter(key for batch in batches for key in batch.keys)
        assert frames == {
            **{f"clip{i}": 1 for i in range(9)}, "short": 1, "pack0": 4, "pack1": 4,
        }  # fmt: skip


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_are_the_same_whatever_the_workers(ruler_dataset: Path, workers: int) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(4, 18)
    alone, together = load(stream), load(stream, workers)
    assert len(alone) == len(together) == 14
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("uneven", ["drop", "pad"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_take_turns_and_get_equally_many(
    ruler_dataset: Path,
    world_size: int,
    uneven: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = SETTINGS.model_copy(update={"uneven": uneven})
    one = SampleStream(ruler_dataset, "train", settings)
    size = one.batches_per_epoch  # 7: neither 2 nor 3 divide it
    each = size // world_size if uneven == "drop" else -(-size // world_size)
    expected = load(one.batches(0, each * world_size))
    for rank in range(world_size):
        simulate_rank(monkeypatch, rank, world_size)
        stream = SampleStream(ruler_dataset, "train", settings)
        for workers in (0, 2):
            batches = load(stream, workers)
            assert len(batches) == len(stream) == each
            mine = expected[rank::world_size]
            assert all(same(a, b) for a, b in zip(batches, mine, strict=True))
    told = f"7 batches do not divide evenly among {world_size} ranks: {each * world_size} are taken"
    assert [record.message for record in caplog.records] == [told]


def test_a_batch_tells_what_makes_it_again(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    manifest = read_manifest(ruler_dataset)
    shards = Shards(ruler_dataset, manifest.shards)
    index = {entry.key: entry for entry in read_index(ruler_dataset, manifest, "train")}
    turns = set()
    for batch in clips(load(stream)):
        for n, draw in enumerate(batch.draws):
            assert draw is not None and draw.key == batch.keys[n]
            window = read_window(shards, index[draw.key], draw.cut)
            for name in draw.turns:
                window = getattr(augment, name)(window)
            again = collate([window]).to(torch.device("cpu"))
            assert torch.equal(again.lr[0], batch.lr[n]) and torch.equal(again.hr[0], batch.hr[n])
            assert torch.equal(again.flow_next[0], batch.flow_next[n])
            turns.add(draw.turns)
    assert len(turns) > 2


def test_a_state_goes_on_where_it_was(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 10)
    whole, batches = load(stream), iter(stream)
    for _ in range(4):
        next(batches)
    state = json.loads(json.dumps(stream.state_dict()))
    again = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 10)
    again.load_state_dict(state)
    rest = load(again)
    assert len(rest) == 6
    assert all(same(a, b) for a, b in zip(rest, whole[4:], strict=True))
    assert len(load(again)) == 10  # from its beginning, the next time
    other = SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"seed": 4}))
    with pytest.raises(UserError, match="settings"):
        other.load_state_dict(state)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
def test_a_stateful_loader_goes_on_with_as_many_workers(ruler_dataset: Path) -> None:
    def loader() -> StatefulDataLoader:
        stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 12)
        return StatefulDataLoader(stream, batch_size=None, num_workers=2)

    whole, broken_off = list(loader()), loader()
    batches = iter(broken_off)
    first = [next(batches) for _ in range(5)]
    resumed = loader()
    resumed.load_state_dict(broken_off.state_dict())
    rest = list(resumed)
    assert len(first) + len(rest) == len(whole) == 12
    assert all(same(a, b) for a, b in zip([*first, *rest], whole, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("order", [(5, 1, 2, 13), (0, 1, 13), (2, 0, 13), (1, 13)], ids=str)
def test_a_stateful_loader_goes_on_again_and_again(
    ruler_dataset: Path, workers: int, order: tuple[int, ...]
) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 13)
    whole, found = load(stream), list[Batch]()
    state = None
    for taken in order:
        loader = StatefulDataLoader(stream, batch_size=None, num_workers=workers)
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        found += [batch for _, batch in zip(range(taken), batches, strict=False)]
        state = loader.state_dict()
    assert [batch.keys for batch in found] == [batch.keys for batch in whole]


def test_a_state_of_another_process_or_kind_is_refused(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 12)
    batches = iter(stream)
    next(batches)
    again = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 12)
    again.load_state_dict(stream.state_dict())
    with pytest.raises(UserError, match=r"another process \(num_workers 1, now 2\)"):
        load(again, workers=2)
    fresh = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 12)
    fresh.load_state_dict(fresh.state_dict())
    assert len(load(fresh)) == len(load(fresh)) == 12
    with pytest.raises(UserError, match="`state_after` gives is for `going_on`"):
        again.load_state_dict(stream.state_after(2))
    with pytest.raises(UserError, match="has no next_batch"):
        again.going_on(stream.state_dict())
    for elsewhere in (stream.epoch(3), stream.epoch(0)):
        with pytest.raises(UserError, match="go on with the range that it was of"):
            stream.epoch(1).going_on(elsewhere.state_after(2))


@pytest.mark.parametrize(("uneven", "expected"), [("drop", [4, 5, 6]), ("pad", [4, 5, 6])])
def test_what_is_left_is_dealt_anew(
    ruler_dataset: Path, uneven: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"uneven": uneven})
    whole = load(SampleStream(ruler_dataset, "train", settings))
    simulate_rank(monkeypatch, 0, 2)
    state = SampleStream(ruler_dataset, "train", settings).state_after(2)
    found = []
    for rank in range(3):
        simulate_rank(monkeypatch, rank, 3)
        found += load(SampleStream(ruler_dataset, "train", settings).going_on(state))
    assert len(found) == len(expected) == 3
    assert all(same(a, whole[number]) for a, number in zip(found, expected, strict=True))
    simulate_rank(monkeypatch, 0, 8)
    padded = SETTINGS.model_copy(update={"uneven": "pad"})
    done = SampleStream(ruler_dataset, "train", padded)
    state = done.state_after(len(done))
    simulate_rank(monkeypatch, 0, 1)
    assert load(SampleStream(ruler_dataset, "train", padded).going_on(state)) == []
    ended = SampleStream(ruler_dataset, "train", settings)
    assert load(ended.going_on(ended.state_after(7))) == []


def test_numbers_of_any_kind_are_the_same(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    cpu = torch.device("cpu")
    assert same(stream.batch(np.int64(9)).to(cpu), stream.batch(9).to(cpu))  # type: ignore[arg-type]
    assert load(stream.epoch(np.int64(1)))[0].keys == load(stream.epoch(1))[0].keys  # type: ignore[arg-type]


def test_a_forked_process_does_not_read_a_store(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    sent = pickle.dumps(stream)
    stream.parts[0].shards.dataset = StorePath("s3://bucket/dataset")
    stream._process._pid = 0  # as if it had been constructed in another process
    for forked in (stream, stream.epoch(1), stream.going_on(stream.state_after(1))):
        with pytest.raises(UserError, match="survive a fork"):
            next(iter(forked))
        with pytest.raises(UserError, match="survive a fork"):
            forked.batch(3)
    assert len(load(pickle.loads(sent))) == 7


def test_what_is_no_dataset_is_refused(ruler_dataset: Path) -> None:
    expected = load(SampleStream(ruler_dataset, "train", SETTINGS))[0]
    for given in (str(ruler_dataset), Part(ruler_dataset), [Part(ruler_dataset, ratio=7)]):
        assert same(load(SampleStream(given, "train", SETTINGS))[0], expected)
    with pytest.raises(UserError, match="a dataset at least"):
        SampleStream([], "train", SETTINGS)
    with pytest.raises(UserError, match="1 or more"):
        SampleStream([Part(ruler_dataset, ratio=0)], "train", SETTINGS)
    with pytest.raises(UserError, match="smaller numbers"):
        SampleStream([Part(ruler_dataset, ratio=10**9)] * 2, "train", SETTINGS)


@pytest.mark.parametrize("ranks_after", [1, 3])
def test_a_kept_state_goes_on_with_other_ranks_and_workers(
    ruler_dataset: Path, ranks_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 18))
    found: dict[int, Batch] = {}
    for rank in range(2):
        simulate_rank(monkeypatch, rank, 2)
        stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 18)
        for number, batch in zip(range(rank, 6, 2), load(stream), strict=False):
            found[number] = batch
        state = json.loads(json.dumps(stream.state_after(3)))
    for rank in range(ranks_after):
        simulate_rank(monkeypatch, rank, ranks_after)
        stream = SampleStream(ruler_dataset, "train", SETTINGS).going_on(state, stop=18)
        for place, batch in enumerate(load(stream, workers=rank % 2)):
            found[6 + rank + place * ranks_after] = batch
    assert sorted(found) == list(range(18))
    assert all(same(found[number], expected[number]) for number in found)
    other = SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"crop": 8}))
    with pytest.raises(UserError, match="settings"):
        other.going_on(state)


def test_any_batch_can_be_asked_for(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    expected = load(stream.batches(0, 16))
    for number in (15, 0, 7, 6):
        assert same(stream.batch(number).to(torch.device("cpu")), expected[number])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_batches_are_the_same_in_forked_and_spawned_workers(
    ruler_dataset: Path, start_method: str
) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    loader = DataLoader(
        stream, batch_size=None, num_workers=2, multiprocessing_context=start_method
    )
    for batch, expected in zip(loader, load(stream), strict=True):
        assert same(batch.to(torch.device("cpu")), expected)
        assert torch.equal(batch.flow_next, expected.flow_next)


def test_pictures_are_bytes_until_they_are_on_a_device(ruler_dataset: Path) -> None:
    batch = SampleStream(ruler_dataset, "train", SETTINGS).batch(0)
    there = batch.to(torch.device("cpu"))
    assert batch.lr.dtype == batch.hr.dtype == torch.uint8
    assert torch.equal(there.hr, batch.hr / 255) and there.hr.dtype == torch.float32
    assert there.hr.is_contiguous() and there.flow_next.is_contiguous()
    assert torch.equal(there.to(torch.device("cpu")).lr, there.lr)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_batches_are_pinned(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    for batch, expected in zip(
        DataLoader(stream, batch_size=None, pin_memory=True), load(stream), strict=True
    ):
        assert batch.lr.is_pinned()
        assert same(batch.to(torch.device("cuda")).to(torch.device("cpu")), expected)


def test_datasets_are_mixed_by_their_ratios(ruler_dataset: Path, pan_dataset: Path) -> None:
    parts = [Part(ruler_dataset, ratio=3), Part(pan_dataset, ratio=1)]
    stream = SampleStream(parts, "train", SETTINGS)
    ruler = SampleStream(ruler_dataset, "train", SETTINGS)
    pan = SampleStream(pan_dataset, "train", SETTINGS)
    assert (ruler.batches_per_epoch, pan.batches_per_epoch) == (7, 3)
    assert stream.batches_per_epoch == 12  # three rounds of four: each came up whole
    batches = load(stream)
    from_pan = [b for b in batches if b.keys[0].startswith("pan")]
    from_ruler = [b for b in batches if not b.keys[0].startswith("pan")]
    assert (len(from_ruler), len(from_pan)) == (9, 3)
    for found, alone in ((from_ruler, ruler.batches(0, 9)), (from_pan, pan.batches(0, 3))):
        assert all(same(a, b) for a, b in zip(found, load(alone), strict=True))
    assert all(same(a, b) for a, b in zip(load(stream, workers=2), batches, strict=True))


def test_datasets_of_two_scales_are_refused(
    ruler_dataset: Path, tiny_dataset: Callable[[list[Clip]], Path]
) -> None:
    other = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    manifest = json.loads((other / MANIFEST_NAME).read_text())
    (other / MANIFEST_NAME).write_text(json.dumps({**manifest, "scale": 2}))
    with pytest.raises(UserError, match=r"dataset is x4, .*dataset is x2: take some out"):
        SampleStream([Part(ruler_dataset), Part(other)], "train", SETTINGS)


def test_epochs_and_seeds_differ_and_repeat(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS)
    first, again, second = load(stream.epoch(0)), load(stream.epoch(0)), load(stream.epoch(1))
    other = load(SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"seed": 4})))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert [b.keys for b in first] != [b.keys for b in second]
    assert [b.keys for b in first] != [b.keys for b in other]
    assert {b.lr.double().sum().item() for b in first}.isdisjoint(
        b.lr.double().sum().item() for b in second
    )


def test_all_streams_are_drawn(ruler_dataset: Path) -> None:
    stream = SampleStream(ruler_dataset, "train", SETTINGS).batches(0, 28)
    names = Counter(name for batch in clips(load(stream)) for name in batch.stream_names)
    assert names.keys() == {"clean", "crf35"}
    assert min(names.values()) >= 10


def test_a_pseudo_video_is_pictures_without_motion(ruler_dataset: Path) -> None:
    batches = load(SampleStream(ruler_dataset, "train", SETTINGS))
    (batch,) = [batch for batch in batches if batch.keys[0].startswith("pack")]
    assert batch.lr.shape == (8, 1, 3, 16, 16)
    assert batch.hr.shape == (8, 1, 3, 64, 64)
    assert not batch.flow_previous.any() and not batch.flow_next.any()
    assert not batch.flow_valid.any()


def test_frame_types_and_quantisers_come_from_the_stream(ruler_dataset: Path) -> None:
    settings = StreamSettings(frames=6, crop=32, batch_size=1)
    batches = clips(load(SampleStream(ruler_dataset, "train", settings)))
    coded = [b for b in batches if b.stream_names == ("crf35",) and b.lr.shape[1] == 6]
    assert coded
    for batch in coded:
        assert batch.frame_type[0, 0] == FrameType.I.code
        assert (batch.frame_type[0, 1:] != FrameType.I.code).all()
        assert (batch.qp > 0).all()


def test_windows_longer_than_every_sample_are_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="--frames 6 or less"):
        SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"frames": 7}))


def test_a_crop_larger_than_a_sample_is_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="--crop 32 or less"):
        SampleStream(ruler_dataset, "train", SETTINGS.model_copy(update={"crop": 33}))


def test_an_empty_split_is_refused(ruler_dataset: Path) -> None:
    with pytest.raises(UserError, match="no samples in its split 'validation'"):
        SampleStream(ruler_dataset, "validation", SETTINGS)


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no manifest\.json"):
        SampleStream(tmp_path, "train", SETTINGS)


def test_damage_is_an_error_not_another_sample(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    stream = SampleStream(dataset, "train", SETTINGS)
    shard = dataset / "data" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"sample a: .*checksum.*copy the dataset again"):
        load(stream)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"train-000000\.tar is missing"):
        load(stream)
    (dataset / "index" / "samples" / "train-000000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"train-000000\.parquet is missing"):
        SampleStream(dataset, "train", SETTINGS)


def spoil(dataset: Path, keys: set[str]) -> None:
    (rows,) = [
        read_table(str(path), SampleRow) for path in (dataset / "index" / "samples").iterdir()
    ]
    shard = dataset / "data" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    for row in rows:
        if row.key in keys:
            data[row.members[0].offset + 5] ^= 1
    shard.write_bytes(data)


def test_damaged_samples_are_skipped_and_counted_where_asked(
    tiny_dataset: Callable[[list[Clip]], Path], caplog: pytest.LogCaptureFixture
) -> None:
    clips = [Clip(f"c{n}", "train", SampleKind.CLIP, ruler_frames(4)) for n in range(4)]
    dataset = tiny_dataset([*clips, Clip("short", "train", SampleKind.CLIP, ruler_frames(2))])
    settings = SETTINGS.model_copy(update={"damaged": "skip"})
    whole = load(SampleStream(dataset, "train", settings))
    spoil(dataset, {"c1", "c2"})
    stream = SampleStream(dataset, "train", settings)
    batches = load(stream)
    assert [b.lr.shape for b in batches] == [b.lr.shape for b in whole]
    assert sorted(key for b in batches for key in b.skipped) == ["c1", "c2"]
    assert {key for b in batches for key in b.keys} <= {"c0", "c3", "short"}
    assert "skipped: " in caplog.text and "sample c1: " in caplog.text
    for batch, expected in zip(batches, whole, strict=True):
        for n, key in enumerate(expected.keys):
            if key in {"c0", "c3", "short"}:  # nothing else is another
                assert batch.keys[n] == key and torch.equal(batch.lr[n], expected.lr[n])
    assert all(same(a, b) for a, b in zip(load(stream, workers=2), batches, strict=True))
    with pytest.raises(DatasetError, match="checksum"):
        load(SampleStream(dataset, "train", SETTINGS))


def test_nothing_but_damage_is_an_error(tiny_dataset: Callable[[list[Clip]], Path]) -> None:
    clips = [Clip(f"c{n}", "train", SampleKind.CLIP, ruler_frames(4)) for n in range(3)]
    dataset = tiny_dataset(clips)
    (dataset / "data" / "train-000000.tar").write_bytes(b"")
    settings = SETTINGS.model_copy(update={"damaged": "skip"})
    with pytest.raises(DatasetError, match=r"of 3 samples, drawn in place .* none can be read"):
        load(SampleStream(dataset, "train", settings))


@pytest.mark.parametrize("name", ["../a/data/train-000000", "/etc/passwd", "a\nb", ""])
def test_a_shard_that_would_lie_elsewhere_is_refused(
    tiny_dataset: Callable[[list[Clip]], Path], name: str
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    manifest = json.loads((dataset / MANIFEST_NAME).read_text())
    manifest["shards"][0]["shard"] = name
    (dataset / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="may lead out of it"):
        SampleStream(dataset, "train", SETTINGS)


def test_rows_that_name_another_shard_lead_nowhere(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    table = str(dataset / "index" / "samples" / "train-000000.parquet")
    (row,) = read_table(table, SampleRow)
    write_table(table, SampleRow, [row.model_copy(update={"shard": "../../elsewhere"})])
    (batch,) = load(SampleStream(dataset, "train", SETTINGS))
    assert batch.keys == ("a",)


def test_an_index_that_tells_of_other_samples_is_told(
    tiny_dataset: Callable[[list[Clip]], Path],
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    table = str(dataset / "index" / "samples" / "train-000000.parquet")
    (row,) = read_table(table, SampleRow)
    for changed, told in (
        ({"members": row.members[1:]}, "the index has no member json"),
        ({"num_frames": 9}, "sample a of 4 frames is there"),
        ({"key": "b"}, "sample a of 4 frames is there"),
    ):
        write_table(table, SampleRow, [row.model_copy(update=changed)])
        with pytest.raises(DatasetError, match=rf"train-000000\.tar, sample .: {told}"):
            load(SampleStream(dataset, "train", SETTINGS))
    write_table(table, SampleRow, [row])
    shard = dataset / "data" / "train-000000.tar"
    shard.unlink()
    shard.mkdir()
    with pytest.raises(DatasetError, match=r"train-000000\.tar cannot be read"):
        load(SampleStream(dataset, "train", SETTINGS))


def test_another_schema_version_is_refused(tiny_dataset: Callable[[list[Clip]], Path]) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, ruler_frames(4))])
    manifest = json.loads((dataset / MANIFEST_NAME).read_text())
    (dataset / MANIFEST_NAME).write_text(json.dumps({**manifest, "schema_version": "99.0"}))
    with pytest.raises(SchemaVersionError, match=r"99\.0"):
        SampleStream(dataset, "train", SETTINGS)
