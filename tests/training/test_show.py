import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.test_dataset import SETTINGS
from tests.training.test_train import run_training
from tests.training.test_views import row, write
from training.batches import Part
from training.dataset import SampleStream
from training.drawing import UNKNOWN_MOTION, enlarged, flow_legend, flow_picture
from training.show import draw_items, main, pixels, read_items

OPTIONS = ["--frames", "4", "--crop", "16", "--batch-size", "2", "--seed", "3"]


def stream_of(dataset: Path) -> SampleStream:
    return SampleStream(dataset, "train", SETTINGS)


def holds(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture lies somewhere in another, to the bit."""
    height, width, _ = picture.shape
    corners = np.argwhere((sheet == picture[0, 0]).all(-1))
    parts = (sheet[y : y + height, x : x + width] for y, x in corners)
    return any(np.array_equal(part, picture) for part in parts)


def test_items_are_the_batch_that_training_sees(ruler_dataset: Path) -> None:
    stream = stream_of(ruler_dataset)
    for number in (1, stream.batches_per_epoch + 3):
        (batch,) = stream.batches(number, number + 1)
        items = read_items(stream, number)
        assert [item.key for item in items] == list(batch.keys)
        for n, item in enumerate(items):
            assert np.array_equal(item.lr, thwc(batch.lr[n]))
            assert np.array_equal(item.hr, thwc(batch.hr[n]))
            assert np.array_equal(item.flow[0], batch.flow_previous[n].permute(0, 2, 3, 1).numpy())
            known = torch.from_numpy(item.is_known[0] * 1 + item.is_known[1] * 2)
            assert torch.equal(known, batch.flow_valid[n].long())
            assert [t.code for t in item.frame_types] == batch.frame_type[n].tolist()
            assert item.coding == {"clean": "lossless", "crf35": "h264 crf 35"}[item.stream_name]
            assert item.shard == "train-000000"


def thwc(images: torch.Tensor) -> np.ndarray:
    whole = images if images.dtype == torch.uint8 else (images * 255).round().byte()
    return whole.permute(0, 2, 3, 1).numpy()


def test_pixels_are_those_of_the_tensor() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    assert np.array_equal(pixels(levels)[1, :, :, 2].ravel(), np.arange(256))


def test_the_picture_holds_what_training_sees(ruler_dataset: Path) -> None:
    for item in read_items(stream_of(ruler_dataset), 1):
        sheet = np.array(draw_items([item]))
        for frame in range(4):
            assert holds(sheet, item.hr[frame])
            assert holds(sheet, enlarged(item.lr[frame], 4))
        # The disc of motion, and the number below it, end above the pictures.
        below_disc = 16 + 88
        height = item.hr.shape[1]
        assert not holds(sheet[: below_disc + height], enlarged(item.lr[0], 4))


def test_all_items_lie_in_one_sheet(
    ruler_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "sheet.png"
    assert main([str(ruler_dataset), *OPTIONS, "--batch", "1", "--output", str(output)]) == 0
    told = capsys.readouterr().out
    sheet = np.array(Image.open(output))
    items = read_items(stream_of(ruler_dataset), 1)
    assert len(items) == 2
    for item in items:
        assert holds(sheet, item.hr[0])
        cut = item.cut
        assert f"{item.number}: {item.key}  (train-000000)" in told
        assert f"frames {cut.start} to {cut.start + 3}" in told
        assert f"crop 16x16 at row {cut.top}, column {cut.left} of LR" in told
        assert f"turns: {', '.join(item.turns) or 'none'}" in told
        assert f"frame types {''.join(item.frame_types)}; QP" in told
    one = tmp_path / "one.png"
    options = [*OPTIONS, "--batch", "1", "--item", "1", "--output", str(one)]
    assert main([str(ruler_dataset), *options]) == 0
    told = capsys.readouterr().out
    assert "1: " in told and "\n0: " not in f"\n{told}"
    assert np.array_equal(np.array(Image.open(one)), np.array(draw_items(items[1:])))


def test_frames_of_a_pseudo_video_come_alone(ruler_dataset: Path, tmp_path: Path) -> None:
    view = write(ruler_dataset, tmp_path / "view", [row("pack0", 0), row("pack1", 1)])
    stream = SampleStream([Part(ruler_dataset, view)], "train", SETTINGS)
    items = read_items(stream, 0)
    assert len(items) == 8
    for item in items:
        assert item.cut.count == len(item.hr) == 1
        assert item.hr[0, 0, 0, 2] == 10 * item.cut.start  # the ruler's blue
    starts = [item.cut.start for item in items]
    assert starts[:4] == list(range(starts[0], starts[0] + 4))
    assert starts[4:] == list(range(starts[4], starts[4] + 4))


def test_hue_is_the_direction_of_motion() -> None:
    flow = np.array([[[3, 0], [0, 3], [-3, 0], [0, 0], [9, 9]]], np.float32)
    is_known = np.array([[True, True, True, True, False]])
    right, down, left, still, unknown = flow_picture(flow, is_known, 3)[0]
    assert right.tolist() == [255, 0, 0]
    assert left.tolist() == [0, 255, 255]
    assert down.argmax() == 1 and down[2] == 0  # between yellow and green
    assert still.tolist() == [255, 255, 255]
    assert unknown.tolist() == [UNKNOWN_MOTION] * 3
    faint = flow_picture(flow, is_known, 30)[0, 0]
    assert faint[0] == 255 and 200 < faint[1] < 255
    legend = flow_legend(41)
    assert legend[20, 40, 0] == 255 and legend[20, 40, 1] < 20
    assert legend[0, 0].tolist() == [255, 255, 255]


def test_settings_of_a_run(
    pan_dataset: Path,
    ruler_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = tmp_path / "run"
    assert run_training(pan_dataset, run, "--steps", "1", "--seed", "7") == 0
    caplog.clear()
    from_run = [str(pan_dataset), "--batch", "2", "--run", str(run)]
    assert main(from_run) == 0
    told = capsys.readouterr().out
    same = ["--frames", "3", "--crop", "16", "--batch-size", "2", "--seed", "7"]
    assert main([str(pan_dataset), "--batch", "2", *same]) == 0
    assert capsys.readouterr().out == told
    assert main([*from_run, "--crop", "9"]) == 0
    assert "crop 9x9" in capsys.readouterr().out
    view = write(pan_dataset, tmp_path / "view", [row("pan0")])
    for more, message in (
        ([str(ruler_dataset), "--batch", "2", "--run", str(run)], "trained on other datasets"),
        ([*from_run, "--view", str(view)], "trained on the whole split: leave --view out"),
        ([str(pan_dataset), "--batch", "0", "--run", str(tmp_path)], "holds no run"),
    ):
        caplog.clear()
        assert main(more) == 2
        assert message in caplog.text


def test_mistakes_are_one_message(
    ruler_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    assert main([str(ruler_dataset), *OPTIONS, "--batch", "0", "--item", "2"]) == 2
    assert "--item 2: the batch has 2, give a number from 0 to 1" in caplog.text
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "x.png")
    assert main([str(ruler_dataset), *OPTIONS, "--batch", "0", "--output", output]) == 2
    assert "cannot be written" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        main([str(ruler_dataset), "--batch", "-1"])
