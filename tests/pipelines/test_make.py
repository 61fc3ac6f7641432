"""From pictures to samples: what is cut out, what is sharpened, what the camera sees."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from pipelines.corpus import Entry
from pipelines.make import MakeTask, make
from pipelines.probe import probe
from pipelines.synthesize.__main__ import main
from schemas.draw import Origin, SceneDraw, View
from schemas.manifest import read_manifest
from schemas.recipe import Recipe
from schemas.record import Outcome
from schemas.sample import Sample, SampleKind
from schemas.shard import iter_samples
from tests.pictures import texture
from tests.pipelines.planning import make_plan
from training.dataset import SampleStream, StreamSettings
from transforms.camera import camera_flow, view_frame
from transforms.cut import USM, cut_frames
from transforms.decode import decode_hr, decode_lr
from transforms.degrade import MadeSample
from transforms.motion import dense_flow, read_blocks
from transforms.pixels import to_float, to_uint8
from transforms.sharpen import sharpen

Sharpening = Literal["off", "target", "target_and_input"]


def recipe_of(sharpen: Sharpening = "off", packing: str = "patches", **camera: Any) -> Recipe:
    codec = {"op": "codec", "encoders": [{"codec": "h264", "crf": 18, "presets": {"fast": 1}}]}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "validation_fraction": 0,
            "hr": {"patch_height": 64, "patch_width": 64, "sharpen": sharpen},
            "pseudo_video": {
                "packing": packing,
                "frames": 6,
                "patches_per_image": 3,
                "camera": camera,
            },
            "shared": [{"op": "downscale"}],
            "streams": [{"name": "clean"}, {"name": "coded", "stages": [codec]}],
        }
    )


def task_of(path: Path, recipe: Recipe, seed: int = 0) -> MakeTask:
    """All samples of one image."""
    entry = Entry(uri=path.name, paths=(str(path),), is_folder=False)
    probed = probe(entry, recipe, seed)
    assert probed is not None
    plan = make_plan([probed], [], recipe, seed)
    return MakeTask(
        recipe=recipe,
        seed=seed,
        rows=plan.samples,
        sources={source.source_id: source for source in plan.sources},
        paths={source.source_id: [str(path)] for source in plan.sources},
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(texture(200, 260, seed=8)).save(path)
    return path


def made(outcomes: Sequence[MadeSample | Outcome]) -> list[MadeSample]:
    samples = [outcome for outcome in outcomes if isinstance(outcome, MadeSample)]
    assert len(samples) == len(outcomes) > 0
    return samples


def hr_of(outcome: MadeSample) -> np.ndarray:
    count = outcome.sample.num_frames
    return decode_hr(outcome.sample, outcome.members["hr.zip"], start=0, count=count)


# Sharpening


def sharpened(picture: np.ndarray) -> np.ndarray:
    return to_uint8(sharpen(to_float(picture), USM, 0))


def scene(origins: Sequence[tuple[int, int]], views: Sequence[View] = ()) -> SceneDraw:
    return SceneDraw(
        height=64,
        width=48,
        origins=[Origin(source_id="ab", frame=0, top=top, left=left) for top, left in origins],
        views=list(views),
        stages=[],
    )


def test_patches_are_sharpened_as_parts_of_the_whole_picture() -> None:
    picture = texture(260, 300, seed=1)
    corners = [(0, 0), (196, 252), (98, 126), (30, 0), (0, 200), (60, 60)]
    frames = cut_frames(scene(corners), {("ab", 0): picture}, USM)
    whole = sharpened(picture)
    assert np.abs(whole.astype(int) - picture).mean() > 2
    for frame, (top, left) in zip(frames, corners, strict=True):
        difference = np.abs(frame.astype(int) - whole[top : top + 64, left : left + 48])
        # Fourier transforms of another size round differently: rarely, a level is off by one.
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_a_picture_smaller_than_the_masks_reach_is_sharpened_too() -> None:
    picture = texture(64, 48, seed=2)
    (frame,) = cut_frames(scene([(0, 0)]), {("ab", 0): picture}, USM)
    assert np.array_equal(frame, sharpened(picture))


def test_a_camera_sees_the_sharpened_picture() -> None:
    picture = texture(260, 300, seed=3)
    views = [View(y=80 + 3 * t, x=120 - 2.3 * t, zoom=1, angle=0.01 * t) for t in range(4)]
    frames = cut_frames(scene([(48, 96)] * 4, views), {("ab", 0): picture}, USM)
    whole = sharpened(picture)
    for frame, view in zip(frames, views, strict=True):
        difference = np.abs(frame.astype(int) - view_frame(whole, view, 64, 48))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-2


@pytest.mark.parametrize("packing", ["patches", "camera", "intra"])
def test_the_target_is_sharpened_and_the_input_as_asked(photo: Path, packing: str) -> None:
    outcomes = {}
    modes: tuple[Sharpening, ...] = ("off", "target", "target_and_input")
    for mode in modes:
        outcomes[mode] = made(make(task_of(photo, recipe_of(mode, packing))))[0]
    hr = {mode: hr_of(outcome) for mode, outcome in outcomes.items()}
    assert not np.array_equal(hr["off"], hr["target"])
    assert np.array_equal(hr["target"], hr["target_and_input"])
    lr = {mode: o.sample.streams[0].decoded_sha256 for mode, o in outcomes.items()}
    assert lr["off"] == lr["target"] != lr["target_and_input"]
    recorded = {mode: outcome.sample.hr_sharpened for mode, outcome in outcomes.items()}
    assert recorded == {"off": False, "target": True, "target_and_input": True}


# Camera clips


def test_an_image_gives_camera_clips_that_show_what_their_views_say(photo: Path) -> None:
    picture = texture(200, 260, seed=8)
    task = task_of(photo, recipe_of(packing="camera"))
    assert [row.kind for row in task.rows] == [SampleKind.CAMERA] * 3
    clips = made(make(task))
    assert len({hr_of(clip).tobytes() for clip in clips}) == 3
    for clip in clips:
        sample = clip.sample
        draw = SceneDraw.model_validate_json(sample.scene_draw)
        assert (sample.kind, sample.num_frames, sample.fps) == (SampleKind.CAMERA, 6, 0)
        assert sample.origins == draw.origins and len(draw.views) == 6
        expected = [view_frame(picture, view, 64, 64) for view in draw.views]
        assert np.array_equal(hr_of(clip), np.stack(expected))


def test_samples_do_not_depend_on_what_is_made_beside_them(photo: Path) -> None:
    task = task_of(photo, recipe_of(packing="camera"))
    together = [clip.members for clip in made(make(task))]
    assert [made(make(one))[0].members for one in task.alone()] == together


def test_a_camera_clip_that_sees_nothing_is_left_out(tmp_path: Path) -> None:
    # Probing looks at cells, which a path may leave; here making is told to expect more.
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[:, :2] = 120
    Image.fromarray(picture).save(tmp_path / "flat.png")
    recipe = recipe_of(packing="camera")
    task = task_of(tmp_path / "flat.png", recipe)
    stricter = recipe.model_copy(update={"hr": recipe.hr.model_copy(update={"min_std": 50.0})})
    (outcome,) = make(MakeTask(**{**vars(task), "recipe": stricter}))
    assert isinstance(outcome, Outcome) and outcome.reason == "flat"


def test_the_codecs_vectors_follow_the_cameras_flow(tmp_path: Path) -> None:
    Image.fromarray(texture(400, 500, seed=9)).save(tmp_path / "large.png")
    recipe = recipe_of(packing="camera", pan=4, zoom=1, turn=0, jitter=0)
    (clip, *_) = made(make(task_of(tmp_path / "large.png", recipe)))
    views = SceneDraw.model_validate_json(clip.sample.scene_draw).views
    blocks = read_blocks(clip.members["mv1.npy"])
    flow = dense_flow(blocks, clip.sample.streams[1], 16, 16, 0, 6)
    for t in range(1, 6):
        exact = camera_flow(views, 64, 64, t, -1, scale=4)
        is_known = (flow.valid[t] & 1).astype(bool)
        error = np.linalg.norm(flow.previous[t] - exact, axis=2)[is_known]
        assert is_known.mean() > 0.5 and np.median(error) < 0.5


# The whole command


@pytest.fixture(scope="module")
def camera_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camera")
    (folder / "photos").mkdir()
    for number, size in enumerate([(150, 180), (160, 64)]):
        Image.fromarray(texture(*size, 30 + number)).save(folder / "photos" / f"{number}.png")
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe_of("target", "camera").model_dump_json())  # JSON is YAML
    arguments = ["--runner=DirectRunner", f"--input={folder / 'photos'}", f"--recipe={recipe}"]
    assert main([*arguments, f"--output={folder / 'out'}", "--workers=1"]) == 0
    return folder / "out"


def samples_of(dataset: Path) -> list[tuple[Sample, dict[str, bytes]]]:
    with (dataset / "data" / "train-000000.tar").open("rb") as shard:
        return [
            (Sample.model_validate_json(members["json"]), members)
            for _, members in iter_samples(shard)
        ]


def test_a_dataset_of_camera_clips_is_made(camera_dataset: Path) -> None:
    samples = samples_of(camera_dataset)
    assert read_manifest(camera_dataset).splits == {"train": len(samples)}
    assert [sample.kind for sample, _ in samples] == [SampleKind.CAMERA] * 5
    for sample, members in samples:
        assert sample.group == sample.origins[0].source_id
        assert sample.key.startswith(sample.group[:20])
        lr = decode_lr(sample.streams[1], members["lr1.nut"], 0, 6)
        digest = hashlib.sha256(lr.tobytes()).hexdigest()
        assert digest == sample.streams[1].decoded_sha256
        assert {frame.frame_type for frame in sample.streams[1].frames} - {"I"}


def test_the_trainer_reads_camera_clips_as_clips(camera_dataset: Path) -> None:
    settings = StreamSettings(frames=4, crop=12, batch_size=2, seed=0)
    batches = list(SampleStream(camera_dataset, "train", settings).epoch(0))
    assert sum(len(batch.keys) for batch in batches) == 5
    assert all(batch.lr.shape[1:] == (4, 3, 12, 12) for batch in batches)
    assert any(batch.flow_valid.any() for batch in batches)
