import contextlib
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from schemas.sample import SampleKind
from tests.training.conftest import SCALE, Clip, pan_frames, write_dataset
from training import step, trainer
from training.checkpoint import TrainingState, load_model, read_config
from training.config import TrainConfig
from training.curves import LOG_NAME
from training.report import SHEET_NAME, VALIDATION_NAME
from training.step import average, charbonnier, learning_rate
from training.train import main

SETTINGS = ["--frames", "3", "--crop", "16", "--batch-size", "2", "--device", "cpu"]


def run_training(dataset: Path, run: Path, *more: str) -> int:
    return main([str(dataset), "--run", str(run), "--workers", "0", *SETTINGS, *more])


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / LOG_NAME).open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_run_leaves_weights_log_scores_and_curves(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "12", "--validate-every", "10") == 0
    rows = log_rows(run)
    assert [row["step"] for row in rows] == ["0", "10", "10", "12", "12"]
    assert all(float(row["loss"]) > 0 for row in rows if row["loss"])
    scores = json.loads((run / VALIDATION_NAME).read_text())
    assert scores["step"] == 12
    assert [score["stream"] for score in scores["streams"]] == ["clean", "crf35"]
    assert load_model(run).config.scale == read_config(run).model.scale == SCALE
    assert list((run / "tensorboard").iterdir())
    assert "steps/s" in caplog.text
    assert "crf35" in caplog.text.splitlines()[-7]
    assert f"{run}/weights.safetensors" in caplog.text
    with Image.open(run / SHEET_NAME) as sheet:
        assert sheet.width > 4 * SCALE * 40
        assert sheet.height > 2 * SCALE * 32
    card = (run / "README.md").read_text()
    assert "| crf35 |" in card and "12 steps of 12 taken" in card
    assert "# Recurrent network after CAVSR, x" in card and "compressed videos" in card


def test_resuming_gives_the_same_losses_and_weights(pan_dataset: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    options = ["--steps", "13", "--validate-every", "4"]
    assert run_training(pan_dataset, straight, *options) == 0
    with pytest.raises(KilledError), dying_at_step(11):  # behind the checkpoint, 8, and a row, 10
        run_training(pan_dataset, broken, *options)
    assert [row["step"] for row in log_rows(broken)][-1] == "10"
    assert run_training(pan_dataset, broken, *options, "--resume") == 0
    assert log_rows(straight) == log_rows(broken)
    weights = [load_model(run).state_dict() for run in (straight, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("config", ["compact", "rrdb"])
def test_networks_of_pictures_train_on_the_same_data(
    pan_dataset: Path, tmp_path: Path, config: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'kind = "{config}"\nchannels = 8\nblocks = 1\n')
    run = tmp_path / "run"
    more = ["--task", "sisr", "--config", str(path), "--steps", "2", "--frames", "1"]
    assert run_training(pan_dataset, run, *more) == 0
    assert load_model(run)(torch.rand(1, 2, 3, 5, 4)).shape == (1, 2, 3, 20, 16)


def test_task_and_network_must_fit(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_training(pan_dataset, tmp_path, "--config", "rrdb") == 2
    assert "--config rrdb is a network of --task sisr" in caplog.text
    assert run_training(pan_dataset, tmp_path, "--task", "sisr", "--checkpoint-activations") == 2
    assert "leave it out for pictures" in caplog.text


def test_a_run_is_not_gone_on_with_as_another_network_or_on_more_data(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "1") == 0
    more = ["--steps", "2", "--resume"]
    assert run_training(pan_dataset, run, *more, "--task", "sisr") == 2
    assert "model.kind was 'cavsr', is now 'compact'" in caplog.text
    other = ["--run", str(run), "--workers", "0", *SETTINGS, *more]
    assert main([str(pan_dataset), str(pan_dataset), *other]) == 2
    assert "parts of data was 1, is now 2" in caplog.text


def test_activations_may_be_computed_twice(pan_dataset: Path, tmp_path: Path) -> None:
    for name, more in {"kept": [], "again": ["--checkpoint-activations"]}.items():
        assert run_training(pan_dataset, tmp_path / name, "--steps", "3", *more) == 0
    kept, again = (load_model(tmp_path / name).state_dict() for name in ("kept", "again"))
    assert all(torch.allclose(kept[name], again[name], atol=1e-5) for name in kept)


def test_a_loss_that_is_no_number_ends_the_run_at_its_last_checkpoint(
    pan_dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([1.0] * 5 + [math.nan] * 20)
    monkeypatch.setattr(step, "charbonnier", lambda *x: charbonnier(*x) * next(losses))
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "12", "--validate-every", "4") == 2
    assert "error: the loss is nan" in caplog.text
    assert log_rows(run)[-1]["step"] == "4"
    assert all(x.isfinite().all() for x in load_model(run).state_dict().values())


def test_rows_of_a_run_that_came_to_no_checkpoint_are_left_out(
    pan_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / LOG_NAME).write_text("step,loss\n0,1\n7,")
    assert run_training(pan_dataset, run, "--steps", "2") == 0
    assert [row["step"] for row in log_rows(run)] == ["0", "2", "2"]


def test_a_damaged_validation_is_told(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "1") == 0
    (run / VALIDATION_NAME).write_text('{"streams": [3')
    assert run_training(pan_dataset, run, "--steps", "2", "--resume") == 2
    assert "validation.json is damaged" in caplog.text


class KilledError(Exception):
    """Stands for a kill."""


@contextlib.contextmanager
def dying_at_step(step: int) -> Iterator[None]:
    original = trainer.training_step

    def step_or_die(state: TrainingState, *more: Any) -> torch.Tensor:
        if state.step == step:
            raise KilledError
        return original(state, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "training_step", step_or_die)
        yield


def test_the_same_seed_gives_the_same_weights(pan_dataset: Path, tmp_path: Path) -> None:
    def weights(name: str, *more: str) -> dict[str, torch.Tensor]:
        assert run_training(pan_dataset, tmp_path / name, "--steps", "4", *more) == 0
        return load_model(tmp_path / name).state_dict()

    first, again, other = weights("a"), weights("b"), weights("c", "--seed", "1")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_beats_its_start_on_the_validation_split(
    pan_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "40", "--learning-rate", "3e-3") == 0
    psnr = [float(row["validation_psnr_y"]) for row in log_rows(run) if row["validation_psnr_y"]]
    assert psnr[-1] > psnr[0] + 0.3


def test_a_dataset_without_validation_split_trains(tmp_path: Path) -> None:
    clip = Clip("a", "train", SampleKind.CLIP, pan_frames(3, seed=0))
    dataset = write_dataset(tmp_path / "dataset", [clip])
    assert run_training(dataset, tmp_path / "run", "--steps", "1") == 0
    assert json.loads((tmp_path / "run" / VALIDATION_NAME).read_text())["streams"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "9"], "use --frames 5 or less"),
        (["--crop", "100"], "use --crop 32 or less"),
        (["--resume"], "holds no run"),
        (["--device", "cuda"], "use --device cpu"),
    ],
)
def test_mistakes_are_one_message(
    pan_dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_training(pan_dataset, tmp_path / "run", *arguments) == 2
    assert message in caplog.text
    assert "Traceback" not in caplog.text


def test_a_missing_dataset_is_one_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_training(tmp_path / "none", tmp_path / "run") == 2
    assert "there is no folder" in caplog.text


def test_damage_found_by_a_worker_is_one_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = Clip("a", "train", SampleKind.CLIP, pan_frames(3, seed=0))
    dataset = write_dataset(tmp_path / "dataset", [clip])
    shard = dataset / "data" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    assert run_training(dataset, tmp_path / "run", "--workers", "1") == 2
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert message.startswith(f"error: {shard}, sample a: ")
    assert message.endswith("copy the dataset again")


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--batch-size", "-1"], ["--step", "5"], ["--workers", "-1"],
                  ["--learning-rate", "0"], ["--learning-rate", "nan"]],
)  # fmt: skip
def test_impossible_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_a_run_is_not_overwritten_nor_continued_as_another(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "1") == 0
    assert run_training(pan_dataset, run, "--steps", "1") == 2
    assert "already holds a run" in caplog.text
    assert run_training(pan_dataset, run, "--steps", "1", "--resume", "--seed", "5") == 2
    assert "seed was 0, is now 5" in caplog.text
    assert run_training(pan_dataset, run, "--steps", "3", "--resume") == 0
    assert log_rows(run)[-1]["step"] == "3"
    assert run_training(pan_dataset, run, "--steps", "2", "--resume") == 2
    assert "has taken 3 steps already" in caplog.text
    (run / VALIDATION_NAME).unlink()
    assert run_training(pan_dataset, run, "--steps", "3", "--resume") == 2
    assert f"{VALIDATION_NAME} is missing" in caplog.text
    assert run_training(pan_dataset, run / LOG_NAME, "--steps", "1") == 2
    assert "choose another folder" in caplog.text


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    config = TrainConfig(steps=10, learning_rate=2, warm_up=0.2)
    assert [learning_rate(config, step) for step in (0, 1, 2)] == [1, 2, 2]
    assert learning_rate(config, 6) == pytest.approx(1)
    assert 0 < learning_rate(config, 9) < 0.1
    without = config.model_copy(update={"warm_up": 0})
    assert learning_rate(without, 0) == 2
    assert learning_rate(without, 5) == pytest.approx(1)


def test_the_average_forgets_its_start_and_follows_the_weights() -> None:
    averaged, model = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    average(averaged, model, 0.999, step=1)
    assert torch.equal(averaged.weight, model.weight)
    before = model.weight.clone()
    torch.nn.init.constant_(model.weight, 5)
    average(averaged, model, 0.75, step=1000)
    assert torch.allclose(averaged.weight, 0.75 * before + 0.25 * 5)
    average(averaged, model, 0, step=1000)
    assert torch.equal(averaged.weight, model.weight)


def test_the_average_counts_batches_like_the_network() -> None:
    averaged, model = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    model(torch.rand(3, 2, 4, 4))
    average(averaged, model, 0.5, step=1000)
    assert averaged.num_batches_tracked == 1
    running = averaged.state_dict()["running_mean"], model.state_dict()["running_mean"]
    assert torch.allclose(running[0], running[1] / 2)


def test_the_loss_is_smooth_at_zero_and_nearly_l1() -> None:
    x = torch.tensor([0.0, 0.5], requires_grad=True)
    loss = charbonnier(x, torch.zeros(2))
    loss.backward()
    assert loss.item() == pytest.approx((0.001 + 0.5) / 2, abs=1e-6)
    assert x.grad is not None and x.grad[0] == 0
