import copy
import json
import math
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from training.checkpoint import (
    CONFIG_NAME,
    STATE_NAME,
    WEIGHTS_NAME,
    RunConfig,
    TrainedOn,
    TrainingState,
    load_model,
    read_config,
    restore_state,
    save_checkpoint,
)
from training.config import TrainConfig, UserError
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.configs import choose_config
from training.models.encoder import EncoderConfig
from training.pretraining import read_run

TINY = CavsrConfig(channels=8, trunk_blocks=1, modulation_blocks=1, encoder=EncoderConfig(width=4))
CONFIG = RunConfig(
    model=TINY, training=TrainConfig(), data=[TrainedOn(dataset_name="d", manifest_sha256="0")]
)


def new_state(seed: int = 0, model: CavsrConfig = TINY) -> TrainingState:
    torch.manual_seed(seed)
    network = Cavsr(model)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    return TrainingState(network, copy.deepcopy(network), optimizer)


def saved(run: Path) -> TrainingState:
    state = new_state()
    state.model(torch.rand(1, 2, 3, 8, 8)).sum().backward()
    state.optimizer.step()
    for weight in state.average.parameters():
        weight.data += 1  # unlike those that are trained
    state.step, state.stream = 7, {"next_batch": 14}
    save_checkpoint(run, CONFIG, state)
    return state


def test_weights_and_state_come_back(tmp_path: Path) -> None:
    state = saved(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [CONFIG_NAME, STATE_NAME, WEIGHTS_NAME]
    )
    assert read_config(tmp_path) == CONFIG
    other = new_state(seed=1)
    restore_state(tmp_path, other)
    assert (other.step, other.stream) == (7, {"next_batch": 14})
    pairs = [(other.model, state.model), (other.average, state.average)]
    for model, expected in [*pairs, (load_model(tmp_path), state.average)]:
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, expected.state_dict()[name])
    ours, theirs = (x.optimizer.state_dict()["state"] for x in (state, other))
    assert all(torch.equal(ours[i]["exp_avg"], theirs[i]["exp_avg"]) for i in ours)


class Payload:
    """What an attacker would send: unpickling it calls a function."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_state_that_would_run_code_is_refused(tmp_path: Path, form: str) -> None:
    saved(tmp_path)
    payload = Payload(tmp_path / "payload-was-run")
    if form == "torch":
        torch.save({"step": 1, "model": payload, "optimizer": {}}, tmp_path / STATE_NAME)
    else:
        (tmp_path / STATE_NAME).write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(UserError, match=r"training_state\.pt cannot be loaded"):
        restore_state(tmp_path, new_state())
    assert not payload.mark.exists()


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    saved(tmp_path)
    for name in (STATE_NAME, WEIGHTS_NAME):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    with pytest.raises(UserError, match="cannot be loaded"):
        restore_state(tmp_path, new_state())
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path)


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    other = new_state(model=TINY.model_copy(update={"channels": 16}))
    with pytest.raises(UserError, match="cannot be loaded"):
        restore_state(tmp_path, other)


def test_an_empty_folder_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="nothing to resume"):
        restore_state(tmp_path, new_state())
    (tmp_path / CONFIG_NAME).write_text("{}")
    with pytest.raises(UserError, match="not the configuration of a run") as told:
        read_config(tmp_path)
    assert "\n" not in str(told.value) and "give the folder of one" in str(told.value)


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"model": {"9" * 5000}}}'])
def test_a_configuration_that_is_made_to_harm_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_NAME).write_text(text)
    with pytest.raises(UserError, match="is not the configuration"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="is not the configuration"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="is not the configuration"):
        choose_config(str(tmp_path / CONFIG_NAME))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", math.inf),
        ("step", -5),
        ("optimizer", 5),
        ("stream", {"next_batch": "x"}),
        ("stream", {"other": 1}),
        ("stream", 3),
    ],
)
def test_a_state_that_says_nonsense_is_refused(tmp_path: Path, field: str, value: object) -> None:
    saved(tmp_path)
    stored = torch.load(tmp_path / STATE_NAME, weights_only=True)
    torch.save({**stored, field: value}, tmp_path / STATE_NAME)
    with pytest.raises(UserError, match=r"training_state\.pt cannot be loaded"):
        restore_state(tmp_path, new_state())


def test_the_optimizers_settings_are_those_of_the_run_that_goes_on(tmp_path: Path) -> None:
    saved(tmp_path)
    other = new_state()
    other.optimizer.param_groups[0]["betas"] = (0.5, 0.6)
    restore_state(tmp_path, other)
    assert other.optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = saved(tmp_path)
    next(state.average.parameters()).data[0] = math.nan
    save_checkpoint(tmp_path, CONFIG, state)
    with pytest.raises(UserError, match="some weights are no numbers"):
        load_model(tmp_path)


def test_a_configuration_of_a_giant_allocates_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    fields = json.loads((tmp_path / CONFIG_NAME).read_text())
    fields["model"] |= {"channels": 1024, "trunk_blocks": 256}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(fields))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path)
    fields["model"]["channels"] = 10**9
    (tmp_path / CONFIG_NAME).write_text(json.dumps(fields))
    with pytest.raises(UserError, match="1024"):
        load_model(tmp_path)


def test_half_precision_weights_become_full(tmp_path: Path) -> None:
    state = saved(tmp_path)
    halves = {name: x.half() for name, x in state.average.state_dict().items()}
    safetensors.torch.save_file(halves, tmp_path / WEIGHTS_NAME)
    assert {x.dtype for x in load_model(tmp_path).state_dict().values()} == {torch.float32}
