"""The benchmark of the reader: what is timed reads what our reader reads."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.loader import elsewhere
from benchmarks.loader.__main__ import main
from benchmarks.loader.corpus import WHOLE, Size, export_folders, make_dataset, write_clips
from benchmarks.loader.folders import (
    FolderDataset,
    FolderReader,
    RedsStyle,
    VimeoStyle,
    bytes_read,
)
from benchmarks.loader.readers import Bare, OwnReader, PlainWebDataset
from benchmarks.loader.windows import Request, decode_window, digest
from schemas.manifest import read_manifest
from schemas.recipe_files import load_recipe
from schemas.shard import iter_samples
from tests.pictures import moving_clip
from tests.synthetic import write_video
from training.config import StreamSettings
from training.draw import Cut
from training.index import read_index
from training.samples import read_window
from training.shards import Shards

FRAMES, CROP = 7, 16
SETTINGS = StreamSettings(frames=FRAMES, crop=CROP, batch_size=2)


# webdataset leaves its files open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _left_open() -> Iterator[None]:
    """Files that were left open are closed while that is ignored."""
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """The benchmark sets threads for the process; tests after these get theirs back."""
    torch_threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(opencv_threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of seven frames of 128x96."""
    folder = tmp_path_factory.mktemp("loader")
    frames = moving_clip(2 * FRAMES, 96, 128)
    write_video(folder / "clip.mp4", frames, options={"crf": "12"})
    inputs, recipe = [str(folder / "clip.mp4")], load_recipe("cavsr")
    made = write_clips(folder / "clips", inputs, recipe, 9, FRAMES, Size(96, 128))
    assert made == (2, 0)
    return folder / "clips"


@pytest.fixture(scope="module")
def whole(clips: Path) -> OwnReader:
    """Our reader over whole frames."""
    return own_reader(clips, "whole", WHOLE)


@pytest.fixture(scope="module")
def small(clips: Path) -> OwnReader:
    """Our reader over patches of the size that is trained on."""
    return own_reader(clips, "small", Size(4 * CROP, 4 * CROP))


def own_reader(clips: Path, name: str, patch: Size) -> OwnReader:
    recipe = load_recipe("cavsr")
    dataset = make_dataset(clips.with_name(name), clips, recipe, patch, FRAMES, workers=1)
    return OwnReader(dataset, SETTINGS, num_windows=5)


@pytest.fixture(scope="module")
def reds(whole: OwnReader) -> FolderDataset:
    root = whole.dataset.with_name("whole-folders")
    return RedsStyle(root, export_folders(root, whole.dataset, "cavsr", 1), whole.scale)


@pytest.fixture(scope="module")
def vimeo(small: OwnReader) -> FolderDataset:
    root = small.dataset.with_name("small-folders")
    return VimeoStyle(root, export_folders(root, small.dataset, "cavsr-vimeo", 1), small.scale)


def test_clips_cover_the_size_asked_for_and_are_cut_in_the_middle(tmp_path: Path) -> None:
    frames = moving_clip(FRAMES, 64, 64)
    (tmp_path / "in" / "clip").mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "in" / "clip" / f"{t}.png")
    recipe, inputs = load_recipe("cavsr"), [str(tmp_path / "in")]
    made = write_clips(tmp_path / "clips", inputs, recipe, 1, FRAMES, Size(64, 128))
    assert made == (1, 1)
    files = sorted((tmp_path / "clips" / "clip-000").iterdir())
    assert [file.name for file in files] == [f"{t:08d}.png" for t in range(FRAMES)]
    for frame, file in zip(frames, files, strict=True):
        expected = cv2.resize(frame, (128, 128), interpolation=cv2.INTER_CUBIC)[32:96]
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected)


def test_inputs_without_a_clip_are_told(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", moving_clip(3, 64, 64))
    recipe = load_recipe("cavsr")
    with pytest.raises(SystemExit, match="no video among the inputs has 7 frames"):
        write_clips(tmp_path / "clips", [str(tmp_path)], recipe, 1, FRAMES, Size(64, 64))


def test_our_reader_tells_what_it_draws(whole: OwnReader) -> None:
    assert (whole.num_samples, len(whole.epochs)) == (2, 3)
    assert whole.hr_pixels == 2 * FRAMES * 96 * 128
    for epoch in whole.epochs:
        assert len({request.key for request in epoch}) == 2
        assert {(request.start, request.num_frames, request.side) for request in epoch} == {
            (0, FRAMES, CROP)
        }
    assert len({(r.stream, r.top, r.left) for epoch in whole.epochs for r in epoch}) > 2
    assert whole.measure().windows == 6


def test_members_in_memory_give_the_window_that_our_reader_gives(whole: OwnReader) -> None:
    dataset, manifest = whole.dataset, read_manifest(whole.dataset)
    entries = {e.key: e for e in read_index(dataset, manifest, "train")}
    shards = Shards(dataset, manifest.shards)
    with next((dataset / "data").glob("*.tar")).open("rb") as file:
        samples = dict(iter_samples(file))
    for request in [*whole.epochs[0], Request(next(iter(samples)), 2, 3, 2, 4, 8, CROP)]:
        key, stream, start, count, top, left, side = request
        cut = Cut(
            stream=stream, start=start, count=count, top=top, left=left, height=side, width=side
        )
        ours = read_window(shards, entries[key], cut)
        found = decode_window(samples[key], request)
        assert (ours.key, ours.stream_name, ours.kind) == (found.key, found.stream_name, found.kind)
        for a, b in [
            *((getattr(ours, name), getattr(found, name)) for name in ("lr", "hr", "qp")),
            (ours.frame_type, found.frame_type),
            *zip(ours.flow, found.flow, strict=True),
        ]:
            np.testing.assert_array_equal(a, b)


def test_contenders_read_the_same_pixels(
    whole: OwnReader, small: OwnReader, reds: FolderDataset, vimeo: FolderDataset
) -> None:
    assert whole.digest() != small.digest()
    for own, folders in ((whole, reds), (small, vimeo)):
        for contender in (
            Bare(own.dataset, own.epochs),
            PlainWebDataset(own.dataset, own.epochs, 2),
            FolderReader(folders, own.epochs, 2),
        ):
            assert contender.digest() == own.digest()


def test_all_requests_are_read(small: OwnReader, vimeo: FolderDataset) -> None:
    expected = sum(len(epoch) for epoch in small.epochs)
    bare = Bare(small.dataset, small.epochs)
    plain = PlainWebDataset(small.dataset, small.epochs, 2)
    folders = FolderReader(vimeo, small.epochs, 2)
    for measure in (bare.measure_pictures, bare.measure_motion, plain.measure, folders.measure):
        reading = measure()
        assert reading.windows == expected
        assert reading.seconds > 0 and reading.cpu_seconds > 0


@pytest.mark.parametrize("style", ["reds", "vimeo"])
def test_folders_give_tensors_as_the_release_does(
    style: str, request: pytest.FixtureRequest, whole: OwnReader, small: OwnReader
) -> None:
    folders = request.getfixturevalue(style)
    own = whole if style == "reds" else small
    window = folders[own.epochs[0][0]]
    assert window["lq"].shape == (FRAMES, 3, CROP, CROP)
    assert window["gt"].shape == (FRAMES, 3, 4 * CROP, 4 * CROP)
    assert window["mv"].shape == (2 * FRAMES, CROP, CROP, 2)
    assert window["frm_type"].shape == (FRAMES, 1)
    assert {window[name].dtype for name in ("lq", "gt", "mv")} == {torch.float32}
    assert window["frm_type"][0] == 0 and set(window["frm_type"].flatten().tolist()) <= {0, 1, 2}


def test_folders_turn_vectors_with_the_picture(reds: FolderDataset, whole: OwnReader) -> None:
    request = whole.epochs[0][0]
    plain = reds._load(request, np.array([False, False, False]))
    turned = reds._load(request, np.array([True, True, True]))
    assert plain["mv"].abs().max() > 0
    for name in ("lq", "gt"):
        assert torch.equal(turned[name], plain[name].flip(2, 3).transpose(2, 3))
    vectors = -plain["mv"].flip(1, 2).transpose(1, 2)[..., [1, 0]]
    assert torch.equal(turned["mv"], vectors)


def test_folders_have_the_vectors_of_the_stream(reds: FolderDataset, whole: OwnReader) -> None:
    # The clip moves by (2, 1) HR pixels a frame, (0.5, 0.25) LR pixels.
    request = Request(whole.epochs[0][0].key, 1, 0, FRAMES, 4, 8, CROP)
    vectors = reds._load(request, np.zeros(3, bool))["mv"]
    backward = vectors[FRAMES + 1 :].reshape(-1, 2)
    known = backward[backward.abs().sum(dim=1) > 0]
    assert len(known) > len(backward) / 4
    assert (known.median(dim=0).values < 0).all()


def test_bytes_of_folders_are_those_that_are_read(reds: FolderDataset) -> None:
    pictures = sum(file.stat().st_size for file in reds.root.rglob("*.png"))
    metadata = sum(file.stat().st_size for file in reds.root.rglob("*.npz"))
    assert pictures < bytes_read(reds.root) < pictures + metadata


def test_other_formats_are_given_all_members_and_checked_alike(
    small: OwnReader, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The part that runs in another interpreter, with a library that keeps samples in memory."""
    stored: dict[str, list[dict[str, bytes]]] = {}

    def write(folder: str, tars: list[str]) -> None:
        stored[folder] = [sample for tar in tars for sample in elsewhere.iter_tar(tar)]

    monkeypatch.setitem(elsewhere.LIBRARIES, "memory", (write, stored.__getitem__))
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps(small.epochs))
    tars = [str(tar) for tar in (small.dataset / "data").iterdir()]
    results = []
    for task in (["convert", "there", *tars], ["digest", "there", str(requests)],
                 ["read", "there", str(requests), "2"]):  # fmt: skip
        assert elsewhere.main(["memory", *task]) == 0
        results.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert results[1] == small.digest()
    assert results[2][0] == sum(len(epoch) for epoch in small.epochs)


def test_an_interpreter_without_the_library_is_told(small: OwnReader, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match=r"does not convert with mds(.|\n)*no such library"):
        elsewhere.Elsewhere("mds", str(python), small.dataset, tmp_path / "mds", small.epochs, 2)


def test_a_digest_tells_pictures_apart_but_not_their_order(small: OwnReader) -> None:
    bare = Bare(small.dataset, small.epochs)
    pictures = [(request.key, bare._pixels(request)) for request in small.epochs[0]]
    assert digest(pictures) == digest(pictures[::-1])
    key, pixels = pictures[0]
    other = pixels._replace(hr=pixels.hr ^ 1)
    assert digest([(key, other), *pictures[1:]]) != digest(pictures)


def test_the_report_names_every_contender_and_what_is_left_out(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--height=96", "--width=128", "--patch=64", "--crop=16", "--clip-frames=8"]
    counts = ["--clips=2", "--frames=8", "--windows=2", "--rounds=1", "--batch-size=2"]
    video = clips.with_name("clip.mp4")
    assert main([f"--input={video}", *sizes, *counts, "--workers=1", "--profile"]) == 0
    report = capsys.readouterr().out
    for text in (
        "clips of 8 frames of 128x96", "our reader, JPEG", "bare decode, JPEG",
        "LitData left out", "MDS left out",
        "\nwhole frames:", "folders, whole frames", "\nsmall patches:", "folders, small patches",
        "webdataset", "bare decode", "the speed of the bare decode", "decode HR",
    ):  # fmt: skip
        assert text in report


def test_windows_longer_than_clips_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--frames=9", "--clip-frames=8"], ["--frames=4", "--clip-frames=6"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "--clip-frames must be" in capsys.readouterr().err
