import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from schemas.recipe import Recipe, RecipeError, parse_recipe
from schemas.sample import FrameType, SampleKind
from tests.pictures import moving_clip, texture
from training import inputs as inputs_module
from training.batch import Batch, Window, collate
from training.config import UserError
from training.online import OnlineDataset
from transforms.degrade import make_streams
from transforms.pictures import decode_picture

SCALE, PATCH, FRAMES, CROP = 2, 64, 4, 24
RECIPE = """
name = "mild"
scale = 2
[hr]
patch_height = 64
patch_width = 64
[clips]
frames = 6
patches = 2
[pseudo_video]
frames = 5
patches_per_image = 8
[[shared]]
op = "downscale"
[[streams]]
name = "clean"
[[streams]]
name = "coded"
[[streams.stages]]
op = "noise"
kinds = { gaussian = 1 }
sigma = { min = 0, max = 1 }
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "h264"
crf = { min = 10, max = 16, step = 1 }
presets = { superfast = 1 }
pixel_formats = { yuv444p = 1 }
"""


def mild(**changes: dict[str, Any]) -> Recipe:
    """The recipe above, with other settings in its tables."""
    recipe = parse_recipe(RECIPE, "toml", "test")
    tables = {
        name: getattr(recipe, name).model_copy(update=fields) for name, fields in changes.items()
    }
    return recipe.model_copy(update=tables)


def dataset(
    inputs: str | Path | Sequence[Any], recipe: Recipe | None = None, **options: Any
) -> OnlineDataset:
    return OnlineDataset(inputs, recipe or mild(), **{"frames": FRAMES, "crop": CROP, **options})


def pictures(count: int = 3) -> list[np.ndarray]:
    return [texture(150, 210, seed) for seed in range(count)]


def clips(count: int = 2, frames: int = 13) -> list[np.ndarray]:
    return [moving_clip(frames, 80, 140, seed=seed) for seed in range(count)]


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def same(a: Any, b: Any) -> bool:
    if dataclasses.is_dataclass(a) or isinstance(a, tuple):
        fields = a if isinstance(a, tuple) else vars(a).values()
        others = b if isinstance(b, tuple) else vars(b).values()
        return all(same(x, y) for x, y in zip(fields, others, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2))


def refusal(make: Callable[[], OnlineDataset]) -> str:
    with pytest.raises(UserError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("inputs", [pictures(), clips()], ids=["pictures", "clips"])
def test_an_item_follows_from_seed_epoch_and_number(inputs: list[np.ndarray]) -> None:
    one, other, third = dataset(inputs), dataset(inputs), dataset(inputs, seed=1)
    assert same(one[1], other[1])
    assert same(one[-1], other[len(other) - 1])
    first = one[1]
    one.set_epoch(5)
    assert not same(one[1], first)
    assert not same(third[1], first)
    other[0]
    other.set_epoch(5)
    assert same(one[1], other[1])
    one.set_epoch(0)
    assert same(one[1], first)


def batches(data: OnlineDataset, **options: Any) -> list[Batch]:
    loader = DataLoader(data, batch_size=2, collate_fn=collate, **options)
    found = list(loader)
    data.set_epoch(1)
    return found + list(loader)


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"num_workers": 1, "persistent_workers": True},
        pytest.param(
            {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["fork", "persistent", "spawn"],
)
def test_batches_are_the_same_whatever_the_workers(options: dict[str, Any]) -> None:
    alone, together = batches(dataset(pictures())), batches(dataset(pictures()), **options)
    assert len(alone) == len(together) == 4
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(alone[0].hr, alone[2].hr)


@pytest.mark.parametrize("inputs", [pictures(), clips()], ids=["pictures", "clips"])
def test_an_item_is_what_synthesis_makes_of_the_same_draw(inputs: list[np.ndarray]) -> None:
    recipe = mild()
    data = dataset(inputs, recipe, augment=False, stream="coded")
    kind, scene, stream, cut, turns = data.draw(1)
    item = data[1]
    assert not any(turns)
    number = int(scene.origins[0].source_id)
    source = inputs[number] if inputs[number].ndim == 4 else inputs[number][None]
    hr = np.stack(
        [source[o.frame, o.top : o.top + PATCH, o.left : o.left + PATCH] for o in scene.origins]
    )
    alone = recipe.model_copy(update={"streams": recipe.streams[1:]})
    (made,) = make_streams(alone, scene, [stream], hr)
    times = slice(cut.start, cut.start + FRAMES)
    rows, columns = slice(cut.top, cut.top + CROP), slice(cut.left, cut.left + CROP)
    large = [slice(SCALE * part.start, SCALE * part.stop) for part in (rows, columns)]
    assert np.array_equal(item.lr, made.decoded[times, rows, columns])
    assert np.array_equal(item.hr, hr[times, large[0], large[1]])
    frames = made.stream.frames[times]
    assert item.frame_type.tolist() == [frame.frame_type.code for frame in frames]
    assert item.qp == pytest.approx([frame.qp_mean for frame in frames])
    assert item.kind is kind


@pytest.mark.parametrize("packing", ["clip", "patches", "camera", "intra"])
def test_hr_lies_where_lr_says_after_crop_and_flips(packing: str) -> None:
    inputs = clips() if packing == "clip" else pictures()
    recipe = mild() if packing == "clip" else mild(pseudo_video={"packing": packing})
    data = dataset(inputs, recipe)
    for index in range(len(data)):
        item = data[index]
        assert item.lr.shape == (FRAMES, CROP, CROP, 3)
        assert item.hr.shape == (FRAMES, SCALE * CROP, SCALE * CROP, 3)
        for lr, hr in zip(item.lr, item.hr, strict=True):
            large = cv2.resize(
                np.ascontiguousarray(lr), hr.shape[1::-1], interpolation=cv2.INTER_CUBIC
            )
            fit = psnr(large, hr)
            assert fit > 30
            shifts = [(step, axis) for step in (-1, 1) for axis in (0, 1)]
            assert all(psnr(np.roll(large, *shift), hr) < fit - 0.5 for shift in shifts)


def test_a_pack_is_neighbouring_patches_of_one_picture_without_motion() -> None:
    data = dataset(pictures(), augment=False)
    assert len(data) == 3
    for index in range(3):
        drawn, item = data.draw(index), data[index]
        assert item.kind is SampleKind.PSEUDO_VIDEO
        corners = [(origin.top, origin.left) for origin in drawn.scene.origins]
        assert len(set(corners)) == 5
        assert {origin.source_id for origin in drawn.scene.origins} == {str(index)}
        assert not item.flow.valid.any()
        assert not item.flow.previous.any() and not item.flow.next.any()
    batch = collate([data[0], data[1]])
    assert batch.lr.shape == (2 * FRAMES, 1, 3, CROP, CROP)


def test_all_of_a_picture_comes_up_over_the_epochs() -> None:
    data = dataset([texture(130, 520)])
    lefts = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        lefts |= {origin.left // PATCH for origin in data.draw(0).scene.origins}
    assert lefts == set(range(8))


def test_an_intra_pack_is_coded_without_prediction() -> None:
    data = dataset(pictures(1), mild(pseudo_video={"packing": "intra"}), stream="coded")
    assert (data[0].frame_type == FrameType.I.code).all()


def test_a_clip_is_consecutive_frames_with_motion() -> None:
    data = dataset(clips(1, frames=13), stream="coded")
    assert len(data) == 2 * 2
    starts = set()
    for index in range(len(data)):
        drawn, item = data.draw(index), data[index]
        times = [origin.frame for origin in drawn.scene.origins]
        assert times in ([*range(6)], [*range(6, 13)])
        starts.add((times[0], drawn.scene.origins[0].top, drawn.scene.origins[0].left))
        assert item.kind is SampleKind.CLIP
        assert item.flow.valid.any()
        assert item.flow.previous.shape == (FRAMES, CROP, CROP, 2)
        assert (item.qp > 0).all()
    assert len(starts) == 4
    batch = collate([data[0], data[1]])
    assert batch.lr.shape == (2, FRAMES, 3, CROP, CROP)


def test_the_motion_of_a_clip_is_that_of_its_content() -> None:
    # The content moves down by 2 and right by 4 HR pixels, so back by half of that in LR.
    data = dataset([moving_clip(6, 80, 140, step=(2, 4))], stream="coded", augment=False)
    item = data[0]
    known = (item.flow.valid & 1).astype(bool)
    assert np.median(item.flow.previous[known], axis=0).tolist() == [-2, -1]


def test_a_camera_moves_over_each_picture() -> None:
    recipe = mild(pseudo_video={"packing": "camera", "patches_per_image": 3})
    data = dataset(pictures(2), recipe, stream="coded")
    assert len(data) == 6
    item = data[0]
    assert item.kind is SampleKind.CAMERA
    assert len(data.draw(0).scene.views) == 5
    assert data.draw(0).scene != data.draw(1).scene
    assert item.flow.valid.any()
    assert collate([data[0], data[4]]).lr.shape == (2, FRAMES, 3, CROP, CROP)


def test_streams_are_drawn_or_fixed() -> None:
    data = dataset(pictures(1))
    names = set()
    for epoch in range(12):
        data.set_epoch(epoch)
        names.add(data.draw(0).cut.stream)
    assert names == {0, 1}
    for name in ("clean", "coded"):
        assert dataset(pictures(1), stream=name)[0].stream_name == name
    assert "choose from ['clean', 'coded']" in refusal(lambda: dataset(pictures(), stream="crf"))


def test_sources_are_shrunk_first_as_the_recipe_says() -> None:
    data = dataset([texture(300, 420)], mild(hr={"pre_downscale": 2}), augment=False)
    origins = data.draw(0).scene.origins
    assert max(origin.top for origin in origins) <= 150 - PATCH
    assert data[0].hr.shape == (FRAMES, SCALE * CROP, SCALE * CROP, 3)
    assert "too small" in refusal(lambda: dataset(pictures(1), mild(hr={"pre_downscale": 3})))


def detail(item: Window) -> float:
    return float(np.abs(np.diff(item.hr.astype(float), axis=2)).mean())


@pytest.mark.parametrize("inputs", [pictures(1), clips(1)], ids=["pictures", "clips"])
def test_targets_are_sharpened_as_the_recipe_says(inputs: list[np.ndarray]) -> None:
    plain, target, both = (
        dataset(inputs, mild(hr={"sharpen": how}), stream="clean")[0]
        for how in ("off", "target", "target_and_input")
    )
    assert np.array_equal(plain.lr, target.lr)
    assert np.array_equal(target.hr, both.hr)
    assert not np.array_equal(both.lr, target.lr)
    assert detail(target) > 1.02 * detail(plain)


def test_folders_give_their_pictures_sorted_and_told_by_content(tmp_path: Path) -> None:
    shots = pictures(3)
    second = save(tmp_path / "b" / "夜 ü.png", shots[1])
    first = save(tmp_path / "a.png", shots[0])
    third = save(tmp_path / "c.png", shots[2]).rename(tmp_path / "c.dat")
    save(tmp_path / ".hidden" / "d.png", shots[0])
    save(tmp_path / ".e.png", shots[0])
    (tmp_path / "notes.png").write_text("no picture")
    data = dataset(tmp_path)
    assert [data[i].key for i in range(3)] == [f"{p}-00000" for p in (first, second, third)]
    assert same(dataset([str(tmp_path)])[2].hr, data[2].hr)
    listed = dataset([first, str(second), third])
    assert same(listed[1], data[1])
    assert same(listed[1].hr, dataset(shots)[1].hr)


def test_a_list_of_paths_is_a_clip(tmp_path: Path) -> None:
    (clip,) = clips(1)
    paths = [save(tmp_path / f"{t}.png", frame) for t, frame in enumerate(clip)]
    data = dataset([paths])
    assert len(data) == 4
    assert same(data[3].lr, dataset([clip])[3].lr)


def test_a_memory_mapped_clip_is_a_clip(tmp_path: Path) -> None:
    (clip,) = clips(1)
    np.save(tmp_path / "clip.npy", clip)
    mapped = np.load(tmp_path / "clip.npy", mmap_mode="r")
    assert same(dataset([mapped])[1], dataset([clip])[1])


def test_pictures_become_rgb_by_the_common_policy(tmp_path: Path) -> None:
    rgb = texture(150, 210)
    deep, grey, clear = (tmp_path / f"{name}.png" for name in ("deep", "grey", "clear"))
    cv2.imwrite(str(deep), rgb.astype(np.uint16) * 257)
    cv2.imwrite(str(grey), rgb[:, :, 0])
    save(clear, np.dstack([rgb, rgb[:, :, 1]]))
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(turned, exif=exif)
    for path in (deep, grey, clear, turned):
        decoded = decode_picture(path.read_bytes())
        assert same(dataset([path])[0].hr, dataset([decoded])[0].hr)


def test_only_headers_are_read_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", texture(150, 210))
    monkeypatch.setattr(inputs_module, "decode_picture", None)
    assert len(dataset([path])) == 1


def test_all_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", texture(150, 210))
    small = save(tmp_path / "small 夜.png", texture(60, 210))
    narrow = save(tmp_path / "narrow.png", texture(150, 64))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    given = [good, small, narrow, text, tmp_path / "none.png", np.zeros((150, 210), np.uint8)]
    message = refusal(lambda: dataset(given))
    assert message.startswith("5 inputs cannot be used")
    for part in (
        "small 夜.png: 210x60 is too small for patches of 64x64",
        "narrow.png: the recipe makes clips of 2 patches of it: too few for frames = 4",
        "text.png: cannot be read (corrupt",
        "none.png: cannot be read (",
        "array 5: uint8 of shape (150, 210), expected",
    ):
        assert part in message
    assert "good.png" not in message
    assert "and 10 more" in refusal(lambda: dataset([small] * 30))


def test_clips_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    frames = [save(tmp_path / f"{side}.png", texture(side, 90)) for side in (80, 82)]
    assert "frames of 2 sizes" in refusal(lambda: dataset([frames]))
    assert "frames of 0 sizes" in refusal(lambda: dataset([[]]))
    assert "clips of 3 frames of it: too few" in refusal(lambda: dataset(clips(1, frames=3)))
    assert "uint8 of (H, W, 3)" in refusal(lambda: dataset([clips(1)[0].astype(np.float32)]))


def test_requests_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    assert "no inputs" in refusal(lambda: dataset([]))
    assert "there is no picture in" in refusal(lambda: dataset(tmp_path))
    assert "make a dataset of each" in refusal(lambda: dataset([*pictures(1), *clips(1)]))
    assert "too small for crop = 33" in refusal(lambda: dataset(pictures(), crop=33))
    assert "clips of 5 patches of it: too few" in refusal(lambda: dataset(pictures(), frames=6))
    assert "clips of 1 patch of it: too few" in refusal(lambda: dataset([texture(64, 64)]))
    no_file = tmp_path / "vcisr"
    with pytest.raises(RecipeError, match="no recipe and no file"):
        OnlineDataset(pictures(), no_file)
    bad = tmp_path / "bad.toml"
    bad.write_text("name = 3")
    with pytest.raises(RecipeError, match=r"bad\.toml is not a recipe"):
        OnlineDataset(pictures(), bad)


def test_a_file_that_changes_later_is_an_error_not_another_item(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", texture(150, 210))
    data = dataset([path])
    save(path, texture(160, 210))
    with pytest.raises(UserError, match=r"a\.png has changed"):
        data[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"a\.png cannot be read \(corrupt"):
        data[0]
    with pytest.raises(IndexError):
        data[1]


def test_a_recipe_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mild.toml"
    path.write_text(RECIPE)
    by_file = OnlineDataset(pictures(1), str(path), frames=FRAMES, crop=CROP)
    assert same(by_file[0], dataset(pictures(1))[0])


def test_a_shipped_recipe_packs_a_picture() -> None:
    data = OnlineDataset([texture(400, 1100)], "vcisr", frames=3, seed=2)
    item = data[0]
    assert item.kind is SampleKind.PSEUDO_VIDEO
    batch = collate([item])
    assert batch.lr.shape == (3, 1, 3, 48, 48)
    assert batch.hr.shape == (3, 1, 3, 192, 192)
