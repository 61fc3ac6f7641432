import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.conftest import pan_frames
from tests.training.test_checkpoint import TINY, new_state
from training.checkpoint import WEIGHTS_NAME, RunConfig, save_checkpoint
from training.config import TrainConfig
from training.evaluate import RESULTS_NAME, SHEET_NAME, TABLE_NAME, UNFINISHED_NAME, main
from training.evaluating import methods
from training.evaluating.results import Results
from training.inference import Clip, restore_clip

FRAMES = 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "Größe 夜"
    for seed, clip in enumerate(["pan", "still"]):
        (folder / clip).mkdir(parents=True)
        for number, frame in enumerate(pan_frames(FRAMES if clip == "pan" else 1, seed)):
            Image.fromarray(frame[:64, :80]).save(folder / clip / f"{number}.png")
    return folder


def make_run(run: Path, scale: int = 4) -> Path:
    """A network that was never trained, which puts out bicubic interpolation."""
    run.mkdir(parents=True)
    model = TINY.model_copy(update={"scale": scale})
    config = RunConfig(model=model, training=TrainConfig(), data=[])
    save_checkpoint(run, config, new_state(model=model))
    return run


def evaluated(data: Path, output: Path, *more: str) -> dict[str, Any]:
    options = ["--device", "cpu", "--output", str(output)]
    assert main(["--data", str(data), *options, *more]) == 0
    return json.loads((output / RESULTS_NAME).read_text())


def mean(found: dict[str, Any], metric: str, method: str, condition: str) -> float:
    value = Results.model_validate(found).mean(metric, method, condition)
    assert value is not None
    return value


def test_networks_are_measured_beside_cubic(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, run = tmp_path / "new" / "out", make_run(tmp_path / "my run")
    found = evaluated(data, output, "--weights", str(run), "--crf", "none", "35")
    assert found["methods"] == ["cubic", "my run"]
    assert found["conditions"] == ["clean", "CRF 35 4:2:0"]
    assert found["frames"] == {"pan": FRAMES, "still": 1}
    assert len(found["weights"]["my run"]) == 64
    for method in found["methods"]:
        clean, coded = (mean(found, "psnr_y", method, c) for c in found["conditions"])
        assert coded < clean < 40
        assert 0 < mean(found, "ssim_y", method, "CRF 35 4:2:0") < 1
    assert mean(found, "psnr_y", "my run", "clean") != mean(found, "psnr_y", "cubic", "clean")
    types = {(c["clip"], c["condition"]): c["frame_types"] for c in found["codings"]}
    assert types["still", "CRF 35 4:2:0"] == "I" and len(types["pan", "clean"]) == FRAMES
    told = capsys.readouterr().out
    assert (output / TABLE_NAME).read_text() in told
    assert "| my run |" in told and "| cubic |" in told
    assert np.array(Image.open(output / SHEET_NAME)).std() > 10


def test_each_frame_has_its_values(data: Path, tmp_path: Path) -> None:
    metrics = ["--metrics", "psnr", "ssim", "tof", "warp", "--channels", "y", "rgb"]
    found = evaluated(data, tmp_path / "out", *metrics, "--crf", "25")
    counts = {
        (s["method"], s["clip"]): {name: len(values) for name, values in s["values"].items()}
        for s in found["scores"]
    }
    pictures = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
    assert counts["cubic", "pan"] == {**dict.fromkeys(pictures, 3), "tof": 2, "warp": 2}
    assert counts["cubic", "still"] == {**dict.fromkeys(pictures, 1), "tof": 0, "warp": 0}
    assert counts["ground truth", "pan"] == {"warp": 2}


def test_tiles_change_little_and_are_told(data: Path, tmp_path: Path) -> None:
    run = str(make_run(tmp_path / "run"))
    whole, tiled = (
        evaluated(data, tmp_path / "out", "--weights", run, "--crf", "25", *more)
        for more in ([], ["--tiled"])
    )
    assert tiled["tiled"] and not whole["tiled"]
    psnrs = [mean(found, "psnr_y", "run", "CRF 25 4:2:0") for found in (whole, tiled)]
    assert psnrs[0] == pytest.approx(psnrs[1], abs=0.05)


def test_the_other_protocol_counts_less(tmp_path: Path) -> None:
    (tmp_path / "data" / "pan").mkdir(parents=True)
    for number, frame in enumerate(pan_frames(6, 0)):
        Image.fromarray(frame).save(tmp_path / "data" / "pan" / f"{number}.png")
    options = ["--crf", "none", "--metrics", "psnr", "ssim", "tof"]
    found = {
        name: evaluated(tmp_path / "data", tmp_path / name, *options, "--protocol", name)
        for name in ("cavsr", "comisr")
    }
    values = {name: x["scores"][-1]["values"] for name, x in found.items()}
    assert [len(values["comisr"][name]) for name in ("psnr_y", "ssim_y", "tof")] == [2, 2, 1]
    assert len(values["cavsr"]["psnr_y"]) == 6
    assert values["comisr"]["ssim_y"][0] != pytest.approx(values["cavsr"]["ssim_y"][2], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--weights", "nowhere"], "nowhere holds no run"),
        (["--protocol", "comisr"], "2 clips cannot be used"),
        (["--metrics", "lpips"], "needs pyiqa"),
        (["--output", "{file}/out"], "cannot be made"),
        (["--output", "{data}"], "would be a clip"),
        (["--output", "{data}/out"], "would be a clip"),
    ],
)
def test_mistakes_are_told_before_any_work(
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    told: str,
) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    (tmp_path / "file").touch()
    options = [option.format(file=tmp_path / "file", data=data) for option in options]
    output = [] if "--output" in options else ["--output", str(tmp_path / "out")]
    assert main(["--data", str(data), *output, *options]) == 2
    assert told in caplog.text
    assert not list(tmp_path.rglob(RESULTS_NAME))


def test_runs_that_do_not_fit_are_refused(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = make_run(tmp_path / "twice", scale=2)
    assert main(["--data", str(data), "--weights", str(twice)]) == 2
    assert "enlarges 2 times" in caplog.text
    assert main(["--data", str(data), "--weights", str(twice), f"{twice}/../twice"]) == 2
    assert "a run twice" in caplog.text
    (twice / WEIGHTS_NAME).write_bytes(b"damaged")
    assert main(["--data", str(data), "--weights", str(twice)]) == 2
    assert "cannot be loaded" in caplog.text


@pytest.mark.parametrize("crf", ["60", "0", "nan", "x"])
def test_rate_factors_are_those_of_x264(crf: str, data: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data", str(data), "--crf", crf])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), torch.OutOfMemoryError()])
def test_what_was_found_before_an_early_end_is_kept(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    output = tmp_path / "out"
    options = ["--weights", str(make_run(tmp_path / "run")), "--crf", "none", "25"]
    whole = evaluated(data, output, *options)

    def fails(model: object, clip: Clip, *more: Any) -> np.ndarray:
        if len(clip.lr) == 1:  # of the second clip
            raise error
        return restore_clip(model, clip, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(methods, "restore_clip", fails)
        given = ["--data", str(data), "--device", "cpu", "--output", str(output), *options]
        assert main(given) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert "give --tiled" in caplog.text or isinstance(error, KeyboardInterrupt)
    found = json.loads((output / UNFINISHED_NAME).read_text())
    assert found["frames"] == {"pan": FRAMES} and len(found["codings"]) == 2
    assert found["scores"] == [score for score in whole["scores"] if score["clip"] == "pan"]
    assert json.loads((output / RESULTS_NAME).read_text()) == whole
    evaluated(data, output, *options)
    assert not (output / UNFINISHED_NAME).exists()


def test_a_run_called_cubic_stands_beside_interpolation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "cubic")
    monkeypatch.chdir(tmp_path)
    found = evaluated(data, tmp_path / "out", "--weights", "cubic", "--crf", "none")
    assert found["methods"] == ["cubic", str(run)]


def test_runs_of_one_name_are_told_apart_by_their_paths(data: Path, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / folder / "run") for folder in ("a", "b")]
    options = ["--weights", *map(str, runs), "--crf", "none", "--frames", "1"]
    found = evaluated(data, tmp_path / "out", *options)
    assert found["methods"] == ["cubic", *map(str, runs)]
    assert found["frames"]["pan"] == 1 and not found["whole"]
