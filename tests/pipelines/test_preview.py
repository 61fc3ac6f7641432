"""What the preview shows is what synthesis makes."""

import tomllib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.drawing import fitted, sampled
from pipelines.preview import comparison, sheet
from pipelines.preview.__main__ import main
from pipelines.preview.chain import grouped
from pipelines.preview.film import timing
from pipelines.preview.outcome import busiest, outcome_of
from pipelines.preview.subject import Subject, find_subject
from pipelines.preview.words import lines, name
from schemas.draw import CropDraw, NoiseDraw, PadDraw, ResizeDraw, RetimeDraw, StageDraw
from schemas.recipe import Recipe
from tests.pictures import moving_clip, texture
from tests.synthetic import write_video
from tests.transforms.coding import draw_for
from transforms.degrade import make_streams
from transforms.draw import draw_scene, draw_stream

SIDE, NUM_FRAMES = 96, 8
HR = f"[hr]\npatch_height = {SIDE}\npatch_width = {SIDE}\n"
PLAIN = f"""
name = "plain"
{HR}
[[shared]]
op = "blur"
[[shared]]
op = "downscale"
[[streams]]
name = "clean"
[[streams]]
name = "coded"
[[streams.stages]]
op = "codec"
[[streams.stages.encoders]]
codec = "h264"
crf = 30
"""
NOISY = f"""
name = "noisy"
{HR}
[[streams]]
name = "noisy"
[[streams.stages]]
op = "noise"
[[streams.stages]]
op = "downscale"
"""
# A stage of every kind that leaves frames as floats, or needs them all, in front of another.
LONG: dict[str, Any] = {
    "name": "long",
    "hr": {"patch_height": SIDE, "patch_width": SIDE},
    "shared": [{"op": "blur"}, {"op": "denoise"}, {"op": "sharpen"}],
    "streams": [
        {
            "name": "long",
            "stages": [
                {"op": "resize", "scaling": {"down": 1, "up": 0, "keep": 0, "down_factor": 0.6}},
                {"op": "still", "codec": "jpeg", "truncate": True},
                {"op": "downscale", "kernels": ["area"]},
                {
                    "op": "codec",
                    "frame_rate_ratio": 0.5,
                    "size_ratio": {"down": 1, "up": 0, "keep": 0, "down_factor": 0.75},
                    "grid_shift": 3,
                    "encoders": [{"codec": "mpeg4", "qscale": 6, "gop_frames": 4}],
                },
                {"op": "noise", "static_probability": 0.5},
                {"op": "retime", "freeze_probability": 0.5},
                {"op": "codec", "grid_shift": 2, "encoders": [{"codec": "h264", "crf": 28}]},
                {"op": "blur", "kernels": {"sinc": 1}},
            ],
        }
    ],
}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    return str(written(tmp_path / "plain.toml", PLAIN))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.fromarray(texture(220, 220)).save(path)
    return str(path)


@pytest.fixture
def film(tmp_path: Path) -> str:
    return str(write_video(tmp_path / "film.mp4", moving_clip(NUM_FRAMES, 128, 128)))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def look(film: str, fields: dict[str, Any]) -> tuple[Recipe, Subject]:
    recipe = Recipe.model_validate(fields)
    return recipe, find_subject(film, recipe, seed=1, sample=0, num_frames=0)


def test_the_picture_has_a_row_for_every_stage_and_for_the_lr_of_every_stream(
    photo: str, recipe: str, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "sheet.png"
    assert main(["--recipe", recipe, photo, "--output", str(output), "--no-video"]) == 0
    # HR, blur, downscale; the LR of one stream; codec and LR of the other.
    height = sheet.HEADER_HEIGHT + 3 * sheet.HEADING_HEIGHT + 6 * sheet.ROW_HEIGHT
    assert pixels_of(output).shape == (height, sheet.WIDTH, 3)
    assert not output.with_suffix(".mp4").exists()


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_pictures(
    film: str, recipe: str, tmp_path: Path
) -> None:
    outputs = [tmp_path / "first.png", tmp_path / "again.png", tmp_path / "other.png"]
    for output, arguments in zip(outputs, ([], [], ["--seed", "1", "--no-video"]), strict=True):
        assert main(["--recipe", recipe, film, "--output", str(output), *arguments]) == 0
    first, again, other = outputs
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    films = [output.with_suffix(".mp4").read_bytes() for output in (first, again)]
    assert films[0] == films[1]


def test_the_last_step_is_what_synthesis_stores(film: str) -> None:
    recipe, subject = look(film, LONG)
    outcome = outcome_of(recipe, subject, seed=1)
    sizes = {subject.planned.spans[0].source_id: (128, 128)}
    scene = draw_scene(recipe, 1, subject.planned, sizes)
    draw = draw_stream(recipe, 1, subject.planned, scene, 0)
    (made,) = make_streams(recipe, scene, [draw], subject.plain)
    assert np.array_equal(outcome.streams[0].lr, made.decoded)
    assert np.array_equal(outcome.streams[0].steps[-1].picture, made.decoded[subject.shown])
    # The codecs' rows say what the sample's record says.
    coded = [step.generation for step in outcome.streams[0].steps if step.generation]
    assert coded[:-1] == made.stream.earlier
    assert coded[-1].frame_types == "".join(frame.frame_type for frame in made.stream.frames)


def test_a_codec_and_what_is_around_it_are_one_step(film: str) -> None:
    recipe, subject = look(film, LONG)
    steps = outcome_of(recipe, subject, seed=1).streams[0].steps
    ops = [[stage.op for stage in step.stages] for step in steps]
    around = ["retime", "resize", "pad", "codec", "crop", "resize", "retime"]
    assert ops == [
        ["resize"],
        ["still"],
        ["resize"],
        around,
        ["noise"],
        ["retime"],
        ["pad", "codec", "crop"],
        ["blur"],
    ]


def test_a_resize_that_the_codec_does_not_undo_is_a_step_of_its_own() -> None:
    codec = draw_for("h264", height=32, width=32)
    there = ResizeDraw(height=[32], width=[32], kernel="area")
    back = ResizeDraw(height=[64], width=[64], kernel="area")
    further = ResizeDraw(height=[24], width=[24], kernel="area")
    frozen = RetimeDraw(frames=[0, 0, 2])
    pad = PadDraw(top=0, left=0, height=32, width=32)
    crop = CropDraw(top=0, left=0, height=30, width=30)
    stages: list[StageDraw] = [frozen, there, codec, back]
    assert [len(group) for group in grouped(stages, (64, 64), 3)] == [1, 3]
    stages = [there, pad, codec, crop, further]
    assert [len(group) for group in grouped(stages, (64, 64), 3)] == [1, 3, 1]
    assert grouped([], (64, 64), 3) == []


def test_words_tell_what_was_drawn(film: str) -> None:
    recipe, subject = look(film, LONG)
    steps = outcome_of(recipe, subject, seed=1).streams[0].steps
    codec = steps[3]
    assert name(codec, 4) == "mpeg4 qscale 6"
    text = "\n".join(lines(codec, (24, 24), 4))
    assert codec.generation is not None
    assert "mean QP 6" in text
    assert "GOP 4" in text
    assert "resized from 24 x 24 to 18 x 18 and back" in text
    assert "3 rows and 3 columns off the block grid" in text
    assert "4 frames coded" in text
    noise = NoiseDraw(kind="gaussian", level=[2.0, 10.0], gray=[True, False], seed=0)
    step = steps[4]._replace(stages=[noise])
    assert lines(step, (24, 24), 1)[0] == "sigma 10 (frames: 2 to 10) of 255"
    assert name(step, 0) == "noise gaussian 2"


def test_recipes_stand_side_by_side_on_the_same_patch(
    film: str, recipe: str, tmp_path: Path
) -> None:
    other = str(written(tmp_path / "noisy.toml", NOISY))
    output = tmp_path / "both.png"
    assert main(["--recipe", recipe, film, "--output", str(output), "--compare", other]) == 0
    picture = pixels_of(output)
    assert picture.shape[1] == comparison.column_left(3) + 10
    top, side = comparison.HEADER_HEIGHT + comparison.TITLE_HEIGHT, sheet.SIDE
    recipes = [
        Recipe.model_validate(fields) for fields in (tomllib.loads(PLAIN), tomllib.loads(NOISY))
    ]
    subject = find_subject(film, recipes[0], 0, 0, 0)
    shown = [subject.plain] + [outcome_of(r, subject, 0).streams[-1].lr for r in recipes]
    for column, frames in enumerate(shown):
        left = comparison.column_left(column)
        wanted = fitted(frames[subject.shown], side)
        differs = (picture[top : top + side, left : left + side] != wanted).any(axis=2)
        assert differs.mean() < (0.05 if column == 0 else 1e-9)  # HR has the detail marked
    with av.open(str(output.with_suffix(".mp4"))) as container:
        frame = next(container.decode(video=0))
        assert frame.width >= 3 * SIDE


def test_the_film_shows_every_frame_as_often_as_it_says(
    film: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "seen.png"
    assert main(["--recipe", recipe, film, "--output", str(output), "--frames", "5"]) == 0
    with av.open(str(output.with_suffix(".mp4"))) as container:
        count = sum(1 for _ in container.decode(video=0))
    when = timing(5, 25, is_pack=False)
    assert count == 5 * when.loops == 75
    told = f"{count} frames, 25 a second; the clip is shown {when.loops} times"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("num_frames", "fps", "is_pack", "wanted"),
    [(32, 60, False, 25), (32, 5, False, 10), (300, 0, False, 25), (4, 0, True, 10)],
)
def test_films_run_at_10_to_25_frames_a_second_for_3_seconds_or_more(
    num_frames: int, fps: float, is_pack: bool, wanted: int
) -> None:
    when = timing(num_frames, fps, is_pack)
    assert when.fps == wanted
    assert num_frames * when.hold * when.loops >= 3 * when.fps


def test_a_folder_of_frames_is_a_clip(recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(moving_clip(3, 128, 128)):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    output = tmp_path / "sheet.png"
    assert main(["--recipe", recipe, str(folder), "--output", str(output)]) == 0


def test_a_camera_moves_over_an_image_if_the_recipe_says_so(photo: str) -> None:
    fields = tomllib.loads(PLAIN) | {"pseudo_video": {"packing": "camera", "frames": 4}}
    recipe = Recipe.model_validate(fields)
    subject = find_subject(photo, recipe, 0, 1, 0)
    assert subject.plain.shape == (4, SIDE, SIDE, 3)
    assert not np.array_equal(subject.plain[0], subject.plain[3])


def test_a_sharpened_target_is_shown_and_the_original_degraded(photo: str) -> None:
    fields = tomllib.loads(PLAIN)
    fields["hr"]["sharpen"] = "target"
    recipe = Recipe.model_validate(fields)
    subject = find_subject(photo, recipe, 0, 0, 0)
    frames = outcome_of(recipe, subject, 0).frames
    assert np.array_equal(frames.degraded, subject.plain)
    assert not np.array_equal(frames.hr, subject.plain)


def test_the_detail_is_the_part_with_the_most_edges() -> None:
    picture = np.full((256, 256, 3), 128, np.uint8)
    picture[100:160, 140:200] = texture(60, 60)
    top, left, height, width = busiest(picture, 4)
    assert top * 256 <= 100
    assert left * 256 <= 140
    assert (top + height) * 256 >= 160
    assert (left + width) * 256 >= 200
    assert top * 256 % 4 == left * 256 % 4 == 0


def test_a_detail_is_the_same_part_at_every_size() -> None:
    small = texture(16, 16)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    box = (0.25, 0.5, 0.5, 0.25)
    assert np.array_equal(sampled(small, box, (64, 32)), sampled(large, box, (64, 32)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample", "9"], "choose from 0 to"),
        (["--seed", "-1"], "--seed is -1"),
        (["--frames", "-1"], "--frames is -1"),
        (["--output", "sheet.jpg"], "name it .png"),
        (["--compare", "nothing"], "there is no recipe"),
        (["--compare", "x3.toml"], "multiples of 10"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(
    arguments: list[str],
    message: str,
    photo: str,
    recipe: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = PLAIN.replace('"plain"', '"odd"\nscale = 5').replace(str(SIDE), "120")
    written(tmp_path / "x3.toml", odd)
    assert main(["--recipe", recipe, photo, *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert message in errors[-1]
    assert not [file for file in tmp_path.iterdir() if file.name in ("preview.png", "sheet.jpg")]


def test_inputs_that_are_no_media_are_refused_with_a_reason(
    recipe: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = str(written(tmp_path / "notes.txt", "no picture"))
    small = tmp_path / "small.png"
    Image.fromarray(texture(32, 32)).save(small)
    for path, message in (
        (text, "not_media"),
        (str(small), "too_small"),
        (str(tmp_path / "missing.png"), "does not exist"),
        (str(tmp_path), "no numbered series"),
    ):
        output = tmp_path.parent / f"{tmp_path.name}.png"
        assert main(["--recipe", recipe, path, "--output", str(output)]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("output", ["film.png", "clip/x.png"])
def test_the_input_is_never_overwritten(
    recipe: str, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip").mkdir()
    source = tmp_path / output.split("/")[0] if "/" in output else tmp_path / "film.mp4"
    if source.suffix:
        write_video(source, moving_clip(4, 96, 96))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    arguments = ["--recipe", recipe, str(source), "--output", str(tmp_path / output)]
    assert main(arguments) == 2
    assert "would be written into the input" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
