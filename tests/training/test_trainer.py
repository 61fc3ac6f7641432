"""Trainings that begin with a pretrained encoder."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.test_pretrain import run_pretraining
from tests.training.test_train import run_training
from training.checkpoint import load_model, read_config
from training.pretraining import load_encoder


@pytest.fixture(scope="module")
def pretrained(pan_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrained") / "run"
    assert run_pretraining(pan_dataset, run, "--steps", "1") == 0
    return run


def encoder_of(run: Path) -> dict[str, Tensor]:
    weights = load_model(run).state_dict()
    return {k.removeprefix("encoder."): x for k, x in weights.items() if k.startswith("encoder.")}


def test_a_frozen_encoder_stays_as_it_was_pretrained(
    pan_dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    frozen = ["--encoder", str(pretrained), "--freeze-encoder"]
    assert run_training(pan_dataset, run, "--steps", "2", *frozen) == 0
    _, expected = load_encoder(pretrained)
    before = load_model(run).state_dict()
    # The encoder is in the checkpoint: it need not be named to go on.
    assert run_training(pan_dataset, run, "--steps", "4", "--freeze-encoder", "--resume") == 0
    found, after = encoder_of(run), load_model(run).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(after["upsample.0.weight"], before["upsample.0.weight"])
    assert len(read_config(run).training.encoder_sha256) == 64


def test_an_encoder_is_trained_along_unless_it_is_frozen(
    pan_dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "6", "--encoder", str(pretrained)) == 0
    _, expected = load_encoder(pretrained)
    changes = [(encoder_of(run)[name] - x).abs().max() for name, x in expected.items()]
    assert 0 < max(changes) < 0.1  # it began there


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (["--config", "m", "--encoder", "RUN"], "pretrain with the same --config"),
        (["--task", "sisr", "--encoder", "RUN"], "the network of --config has none"),
        (["--freeze-encoder"], "--freeze-encoder without --encoder"),
        (["--encoder", "nowhere"], "holds no pretrained encoder"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(
    more: list[str],
    cause: str,
    pan_dataset: Path,
    pretrained: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = [option.replace("RUN", str(pretrained)) for option in more]
    assert run_training(pan_dataset, tmp_path / "run", "--steps", "1", *options) == 2
    assert cause in caplog.text
    assert not (tmp_path / "run").exists()
