import json
import logging
from pathlib import Path

import numpy as np
import pytest

from schemas.manifest import MANIFEST_NAME, read_manifest
from schemas.sample import SampleKind
from tests.training.conftest import TILE, Clip, ruler_frames, write_dataset
from tests.training.test_dataset import SETTINGS, load, simulate_rank
from tests.training.test_views import row, write
from training import simulate as command
from training.calibration import Coding, Rates
from training.config import StreamSettings, UserError
from training.dataset import SampleStream
from training.index import read_index
from training.order import by_shards
from training.simulate import Machines, Simulation, main, report, simulate

RATE = 1e-8  # seconds for a unit of everything


@pytest.fixture(autouse=True)
def asked_qualities(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Measuring takes seconds, and what it finds changes; of which qualities of HR it was asked."""
    asked = list[int | None]()

    def rates(codings: set[Coding], jpeg_quality: int | None) -> Rates:
        asked.append(jpeg_quality)
        names = ["windows", "record_bytes", "read_bytes", "hr_tiles", "hr_pixels", "hr_bytes"]
        names += ["flows", "flow_pixels", "flow_blocks", "stacked_bytes", "handed_bytes"]
        for codec, reading in codings:
            names += [f"lr_{kind}.{codec}" for kind in ("opened", "coded_pixels", "coded_bytes")]
            names += [f"lr_frames.{reading}", f"lr_pixels.{reading}"]
        return dict.fromkeys(names, RATE)

    monkeypatch.setattr(command, "measure_rates", rates)
    return asked


@pytest.fixture(scope="module")
def shards_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven clips in five shards of one to three."""
    frames = [4 + number % 3 for number in range(11)]
    clips = [
        Clip(f"clip{number:02d}", "train", SampleKind.CLIP, ruler_frames(count))
        for number, count in enumerate(frames)
    ]
    folder = tmp_path_factory.mktemp("shards") / "dataset"
    return write_dataset(folder, clips, ruler=True, shard_samples=3)


def tar_bytes(dataset: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in (dataset / "data").glob("train-*.tar")}


@pytest.mark.parametrize("uneven", ["drop", "pad"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_counts_are_those_of_the_stream(
    ruler_dataset: Path, ranks: int, uneven: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"uneven": uneven})
    found = simulate(ruler_dataset, "train", settings, Machines(ranks=ranks)).epoch
    alone = load(SampleStream(ruler_dataset, "train", settings))
    windows = {(draw.key, draw.cut) for batch in alone for draw in batch.draws if draw}
    assert (found.samples, found.batches) == (len(windows), len(alone))
    for rank in range(ranks):
        simulate_rank(monkeypatch, rank, ranks)
        assert len(SampleStream(ruler_dataset, "train", settings)) == found.batches_per_rank
    more = found.batches_per_rank * ranks - len(alone)
    assert (found.batches_added, found.batches_left_out) == (max(more, 0), max(-more, 0))


def test_speed_is_work_times_rates_shared_by_cores(ruler_dataset: Path) -> None:
    machines = Machines(ranks=4, ranks_per_machine=2, workers=3, cores=4)
    speed = simulate(ruler_dataset, "train", SETTINGS, machines).speed
    seconds = sum(speed.work.values()) * RATE
    assert speed.samples_per_second_of_core == pytest.approx(1 / seconds)
    assert speed.samples_per_second_of_worker == pytest.approx(4 / 6 / seconds)
    assert speed.samples_per_second_of_rank == pytest.approx(2 / seconds)
    assert speed.samples_per_second == pytest.approx(8 / seconds)
    assert speed.epoch_seconds == pytest.approx(12 * seconds / 8)
    assert speed.bytes_per_second_of_rank == pytest.approx(speed.bytes_per_sample * 2 / seconds)
    assert speed.work["handed_bytes"] == speed.work["stacked_bytes"] > 0
    few = simulate(ruler_dataset, "train", SETTINGS, Machines(workers=0, cores=4)).speed
    assert few.samples_per_second == few.samples_per_second_of_core
    assert "handed_bytes" not in few.work


def shards_used(dataset: Path, settings: StreamSettings) -> list[set[str]]:
    """The shards of each batch of an epoch."""
    stream = SampleStream(dataset, "train", settings)
    plan, index = stream.parts[0].plan(0), stream.parts[0].index
    return [
        {index.shards[number] for number in index.shard[plan.entry[plan.batch == batch]]}
        for batch in range(stream.batches_per_epoch)
    ]


def test_the_cache_holds_shards_from_first_to_last_use(shards_dataset: Path) -> None:
    sizes = tar_bytes(shards_dataset)
    assert len(set(sizes.values())) > 1
    for mixed in (3, 4, 5, 16):  # of 4 shards, so that none goes round the end
        settings = SETTINGS.model_copy(update={"mixed_shards": mixed})
        used = shards_used(shards_dataset, settings)
        seen = [set[str]().union(*used[: step + 1]) for step in range(len(used))]
        to_come = [set[str]().union(*used[step:]) for step in range(len(used))]
        held = [before & after for before, after in zip(seen, to_come, strict=True)]
        cache = simulate(shards_dataset, "train", settings, Machines()).cache
        assert cache.shards == max(map(len, held))
        assert cache.bytes == max(sum(sizes[name] for name in names) for names in held)
        assert cache.bytes_per_epoch == cache.room_bytes == sum(sizes.values())


def test_a_machine_fetches_the_shards_of_its_ranks(shards_dataset: Path) -> None:
    settings = SETTINGS.model_copy(update={"mixed_shards": 1})
    index = {e.key: e for e in read_index(shards_dataset, read_manifest(shards_dataset), "train")}
    sizes, fetched = tar_bytes(shards_dataset), []
    for ranks in ((0, 1), (2, 3)):
        shards = set[str]()
        for rank in ranks:
            with pytest.MonkeyPatch.context() as patch:
                simulate_rank(patch, rank, 4)
                batches = load(SampleStream(shards_dataset, "train", settings))
            shards |= {index[key].shard for batch in batches for key in batch.keys}
        fetched.append(sum(sizes[shard] for shard in shards))
    machines = Machines(ranks=4, ranks_per_machine=2)
    cache = simulate(shards_dataset, "train", settings, machines).cache
    assert cache.bytes_per_epoch == max(fetched) < sum(sizes.values())


def stays_of(shard: list[int], step: list[int], mixed: int) -> list[tuple[int, int, int]]:
    stays = command._stays(np.array(shard), np.array(step), mixed)
    return list(zip(*(column.tolist() for column in stays), strict=True))


def test_shards_that_go_round_the_end_come_twice() -> None:
    shard = [0, 9, 9, 1, 1, 2, 2, 3, 3, 4, 4, 5, 0, 5, 0]
    step = [0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 8, 9]
    stays = [(0, 0, 0), (0, 8, 9), (1, 1, 2), (2, 3, 4), (3, 4, 5), (4, 6, 7), (5, 7, 8), (9, 0, 1)]
    assert stays_of(shard, step, 1) == stays
    # Of 7 shards, 6 are spread over all of the way but for a part that chance may fill.
    assert stays_of(shard, step, 6)[0] == (0, 0, 9)
    turn = np.random.default_rng(0).permutation(len(shard))
    assert stays_of([shard[n] for n in turn], [step[n] for n in turn], 1) == stays
    assert stays_of([], [], 1) == []


def test_shards_at_once_are_counted_by_steps() -> None:
    stays = command._Stays(np.array([0, 0, 1, 2]), np.array([0, 8, 1, 3]), np.array([1, 9, 3, 5]))
    assert command._most_at_once(stays, np.array([1, 1, 1])) == 2
    assert command._most_at_once(stays, np.array([7, 2, 3])) == 7 + 2
    assert command._most_at_once(stays, np.array([1, 2, 3])) == 2 + 3


@pytest.mark.parametrize("mixed", [2, 5])
def test_about_as_many_shards_are_at_hand_as_are_mixed(mixed: int) -> None:
    shard = np.repeat(np.arange(40), 50)
    order = by_shards(shard, mixed, np.random.default_rng(0))
    stays = command._stays(shard[order], np.arange(2000) // 4, mixed)
    assert mixed <= command._most_at_once(stays, np.ones(40, int)) <= mixed + 2
    assert mixed - 2 <= len(stays.shard) - 40 <= mixed


def test_ranks_of_a_machine_fetch_a_shard_once(shards_dataset: Path) -> None:
    settings = SETTINGS.model_copy(update={"mixed_shards": 4})
    sizes, used = tar_bytes(shards_dataset), shards_used(shards_dataset, settings)
    used = used[: len(used) // 4 * 4]  # what does not divide evenly is left out
    for each in (1, 2, 4):
        machines = Machines(ranks=4, ranks_per_machine=each)
        fetched = [
            sum(sizes[name] for name in set[str]().union(*(
                shards for batch, shards in enumerate(used) if batch % 4 // each == machine
            )))
            for machine in range(4 // each)
        ]  # fmt: skip
        found = simulate(shards_dataset, "train", settings, machines).cache
        assert found.bytes_per_epoch == max(fetched)


def test_a_dataset_in_one_shard(ruler_dataset: Path) -> None:
    found = simulate(ruler_dataset, "train", SETTINGS, Machines(cores=2))
    (size,) = tar_bytes(ruler_dataset).values()
    assert found.cache.bytes == found.cache.bytes_per_epoch == found.cache.room_bytes == size
    assert found.shards == found.cache.shards == 1
    (warning,) = found.warnings
    assert warning.startswith("--mixed-shards 16 of 1 shard: all have to be at hand")
    assert found.shuffle.mean_bits == 0  # all is of one source


def test_a_view_is_simulated_as_it_comes_up(ruler_dataset: Path, tmp_path: Path) -> None:
    rows = [row("clip0", 1, weight=3), row("clip1", 1), row("pack0", 1, 2)]
    view = write(ruler_dataset, tmp_path / "view", rows)
    found = simulate(ruler_dataset, "train", SETTINGS, Machines(), view)
    assert (found.epoch.samples, found.epoch.batches) == (5, 3)
    assert "lr_opened.lossless" not in found.speed.work
    assert found.speed.work["flows"] == pytest.approx(4 / 5)


def test_jpeg_is_measured_where_the_recipe_says_so(
    tmp_path: Path, asked_qualities: list[int | None]
) -> None:
    clips = [
        Clip(split, split, SampleKind.CLIP, ruler_frames(4), quality)
        for split, quality in (("train", 90), ("validation", None))
    ]
    dataset = write_dataset(tmp_path / "dataset", clips)
    recipe = {"hr": {"tile": TILE, "jpeg_quality": 90}}
    manifest = read_manifest(dataset).model_copy(update={"recipe": recipe})
    (dataset / MANIFEST_NAME).write_bytes(manifest.data)
    for split in ("train", "validation"):
        simulate(dataset, split, SETTINGS, Machines())
    assert asked_qualities == [90, None]


def test_the_command_tells_and_writes_json(
    ruler_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--frames", "4", "--crop", "16", "--batch-size", "2", "--seed", "3"]
    options += ["--ranks", "4", "--ranks-per-machine", "2", "--workers", "3", "--cores", "5"]
    assert main([str(ruler_dataset), *options, "--json"]) == 0
    found = Simulation.model_validate(json.loads(capsys.readouterr().out))
    machines = Machines(ranks=4, ranks_per_machine=2, workers=3, cores=5)
    assert found == simulate(ruler_dataset, "train", SETTINGS, machines)
    assert main([str(ruler_dataset), *options]) == 0
    told = capsys.readouterr().out
    assert told == f"{report(found)}\n"
    assert "12 samples in 1 shard" in told
    assert "7 batches, 1 for each rank, 3 left out" in told
    assert "predicted for this machine" in told
    assert "warning: 6 readers share 5 cores of a machine: more than --workers 2" in told
    assert "warning: 3 of 7 batches of an epoch are left out" in told


def test_poor_mixing_has_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [
        Clip(f"clip{number:02d}", "train", SampleKind.CLIP, ruler_frames(2)) for number in range(24)
    ]
    dataset = write_dataset(tmp_path / "dataset", clips, ruler=True, shard_samples=3)
    # As if each shard were of one source.
    sources = command.read_sources(
        dataset, SampleStream(dataset, "train", _short(1)).parts[0].index
    )
    by_shard = sources._replace(source=np.arange(24) // 3, number=8)
    monkeypatch.setattr(command, "read_sources", lambda *_: by_shard)
    poor = simulate(dataset, "train", _short(1), Machines())
    assert poor.shuffle.mean_bits == 0 and poor.shuffle.full_mean_bits > 1
    assert any("raise --mixed-shards" in warning for warning in poor.warnings)
    well = simulate(dataset, "train", _short(8), Machines())
    assert well.shuffle.mean_bits > 1
    assert not any("--mixed-shards" in warning for warning in well.warnings)


def _short(mixed: int) -> StreamSettings:
    return StreamSettings(frames=2, crop=16, batch_size=3, mixed_shards=mixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "validation"], "no samples in its split 'validation'"),
        (["--frames", "9"], "use --frames 6 or less"),
        (["--ranks", "3", "--ranks-per-machine", "2"], "--ranks-per-machine 2: give a multiple"),
    ],
)
def test_mistakes_are_one_message(
    ruler_dataset: Path, options: list[str], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert main([str(ruler_dataset), "--crop", "16", *options]) == 2
    (record,) = caplog.records
    assert message in record.getMessage()


def test_damaged_tables_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = Clip("a", "train", SampleKind.CLIP, ruler_frames(4))
    dataset = write_dataset(tmp_path / "dataset", [clip])
    (dataset / "index" / "streams" / "train-000000.parquet").write_bytes(b"PAR1")
    assert main([str(dataset), "--frames", "4", "--crop", "16"]) == 2
    assert "train-000000.parquet is damaged" in caplog.text
    with pytest.raises(UserError):
        simulate(dataset, "validation", SETTINGS, Machines())
