import contextlib
import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch

from schemas.sample import SampleKind
from tests.training.conftest import Clip, pan_frames
from training import pretrain
from training.aligned import AlignedBatch
from training.config import UserError
from training.models.encoder import CompressionEncoder, EncoderConfig
from training.pretrain import main
from training.pretraining import PretrainState, load_encoder
from training.ranking import PretrainConfig

SETTINGS = ["--frames", "3", "--crop", "16", "--batch-size", "2", "--device", "cpu"]


def run_pretraining(dataset: Path, run: Path, *more: str) -> int:
    return main([str(dataset), "--run", str(run), "--workers", "0", *SETTINGS, *more])


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_to_rank_and_leaves_an_encoder(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = tmp_path / "run"
    assert run_pretraining(pan_dataset, run, "--steps", "30", "--learning-rate", "5e-3") == 0
    assert {path.name for path in run.iterdir()} == {
        "config.json", "weights.safetensors", "training_state.safetensors", "log.csv",
        "tensorboard", "scores.json", "scores.png",
    }  # fmt: skip
    scores = json.loads((run / "scores.json").read_text())
    accuracy = {(x["pairs"], x["frame_types"]): x["accuracy"] for x in scores["accuracies"]}
    assert accuracy["uncompressed and any CRF, within clips", "given"] > 0.9
    assert accuracy["types, within clips", "given"] > 0.9
    assert "uncompressed and any CRF, within clips" in caplog.text
    config, weights = load_encoder(run)
    assert config == EncoderConfig()
    encoder = CompressionEncoder(config)
    encoder.load_state_dict(weights)
    assert all(name.startswith(("encoder.", "score.")) for name in weights_of(run))


def test_resuming_gives_the_same_losses_and_weights(pan_dataset: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    options = ["--steps", "13", "--validate-every", "4"]
    assert run_pretraining(pan_dataset, straight, *options) == 0
    with pytest.raises(KilledError), dying_at_step(11):  # behind the checkpoint, 8, and a row, 10
        run_pretraining(pan_dataset, broken, *options)
    assert log_rows(broken)[-1]["step"] == "10"
    assert run_pretraining(pan_dataset, broken, *options, "--resume") == 0
    assert log_rows(straight) == log_rows(broken)
    assert same(weights_of(straight), weights_of(broken))
    assert (straight / "scores.json").read_bytes() == (broken / "scores.json").read_bytes()
    assert run_pretraining(pan_dataset, broken, *options, "--resume") == 0  # nothing is left
    assert same(weights_of(straight), weights_of(broken))


class KilledError(Exception):
    """Stands for a kill."""


@contextlib.contextmanager
def dying_at_step(step: int) -> Iterator[None]:
    original = pretrain.pretraining_step

    def step_or_die(
        state: PretrainState, batch: AlignedBatch, config: PretrainConfig
    ) -> torch.Tensor:
        if state.step == step:
            raise KilledError
        return original(state, batch, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "pretraining_step", step_or_die)
        yield


def test_weights_follow_from_the_seed_whatever_the_workers(
    pan_dataset: Path, tmp_path: Path
) -> None:
    def weights(name: str, *more: str) -> dict[str, torch.Tensor]:
        assert run_pretraining(pan_dataset, tmp_path / name, "--steps", "3", *more) == 0
        return weights_of(tmp_path / name)

    first = weights("a")
    assert same(first, weights("b", "--workers", "2"))
    assert not same(first, weights("c", "--seed", "1"))


def test_mistakes_are_one_message(
    pan_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert run_pretraining(pan_dataset, run, "--steps", "1", "--resume") == 2
    assert "holds no pretrained encoder" in caplog.text
    assert run_pretraining(pan_dataset, run, "--steps", "1", "--config", "rrdb") == 2
    assert "has no compression encoder" in caplog.text
    assert run_pretraining(pan_dataset, run, "--steps", "1") == 0
    assert run_pretraining(pan_dataset, run, "--steps", "1") == 2
    assert "already holds a run" in caplog.text
    assert run_pretraining(pan_dataset, run, "--steps", "1", "--resume", "--seed", "5") == 2
    assert "seed was 0, is now 5" in caplog.text
    state = run / "training_state.safetensors"
    state.write_bytes(state.read_bytes()[:-9])
    assert run_pretraining(pan_dataset, run, "--steps", "1", "--resume") == 2
    assert f"{state} cannot be loaded" in caplog.text
    assert "Traceback" not in caplog.text


def test_damage_found_by_a_worker_is_one_message(
    tiny_dataset: Callable[[Sequence[Clip]], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, pan_frames(3, seed=0))])
    shard = dataset / "data" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    assert run_pretraining(dataset, tmp_path / "run", "--workers", "1") == 2
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert message.startswith(f"error: {shard}, sample a: ")
    assert message.endswith("copy the dataset again")


def test_streams_that_cannot_be_ranked_are_refused(
    pan_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original = pretrain.read_shard_table

    def with_codecs(num_streams: int, *codecs: str) -> Callable:
        def read(*arguments: object) -> object:
            rows = original(*arguments).slice(0, 2)  # type: ignore[arg-type]
            modes = ["crf"] * len(codecs) + ["bitrate"] * (2 - len(codecs))
            return type(rows).from_pydict(
                {
                    "stream": [0, num_streams - 1],
                    "codec": [*codecs, "h264", "h264"][:2],
                    "rate_mode": modes,
                }
            )

        return read

    for num_streams, codecs, message in (
        (2, (), "nothing to rank"),
        (2, ("h264", "hevc"), "different scales"),
        (1, ("h264",), "one LR stream each"),
    ):
        monkeypatch.setattr(pretrain, "read_shard_table", with_codecs(num_streams, *codecs))
        assert run_pretraining(pan_dataset, tmp_path / "run", "--steps", "1") == 2
        assert message in caplog.text


def test_without_a_validation_split_nothing_is_scored(
    tiny_dataset: Callable[[Sequence[Clip]], Path], tmp_path: Path
) -> None:
    dataset = tiny_dataset([Clip("a", "train", SampleKind.CLIP, pan_frames(3, seed=0))])
    run = tmp_path / "läuft"
    assert run_pretraining(dataset, run, "--steps", "1") == 0
    assert json.loads((run / "scores.json").read_text())["accuracies"] == []
    assert not (run / "scores.png").exists()


@pytest.mark.parametrize("damage", ["config", "weights", "nan", "other", "none"])
def test_an_encoder_that_does_not_fit_is_one_message(
    damage: str, pan_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_pretraining(pan_dataset, run, "--steps", "1") == 0
    config, weights = run / "config.json", run / "weights.safetensors"
    if damage == "config":
        config.write_text("{}")
    elif damage == "weights":
        weights.write_bytes(b"\x80\x04pickled")
    elif damage == "nan":
        tensors = safetensors.torch.load_file(weights)
        tensors["encoder.image.0.bias"][0] = math.nan
        safetensors.torch.save_file(tensors, weights)
    elif damage == "other":
        config.write_text(config.read_text().replace('"width": 8', '"width": 4'))
    else:
        config.unlink()
    with pytest.raises(UserError, match=str(run)) as error:
        load_encoder(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--margin-per-crf", "0"], ["--weight-decay", "-1"],
                  ["--types-weight", "nan"], ["--learning-rate", "0"]],
)  # fmt: skip
def test_impossible_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *arguments])
    assert arguments[0] in capsys.readouterr().err
