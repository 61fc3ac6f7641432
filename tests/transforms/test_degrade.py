import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from schemas.draw import NoiseDraw, ResizeDraw, SceneDraw, StageDraw, StreamDraw
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION
from schemas.sample import LrKind, Sample, SampleKind, member_names
from tests.pictures import moving_clip, texture
from transforms.decode import decode_hr, decode_lr
from transforms.degrade import Clip, MadeSample, apply_stages, make_sample
from transforms.draw import draw_scene, draw_stream
from transforms.motion import read_blocks
from transforms.pixels import to_uint8
from transforms.streams import split_at_last_codec

SOURCE = "ab" * 32


def shrunk(name: str, height: int = 96, width: int = 128) -> Recipe:
    """A shipped recipe with small patches, and tiles that do not divide them."""
    recipe = load_recipe(name)
    hr = recipe.hr.model_copy(update={"patch_height": height, "patch_width": width, "tile": 40})
    return recipe.model_copy(update={"hr": hr})


class Made(NamedTuple):
    """A sample, and what it was made from."""

    recipe: Recipe
    hr: np.ndarray
    scene: SceneDraw
    draws: list[StreamDraw]
    sample: Sample
    members: dict[str, bytes]

    def lr(self, stream: int) -> np.ndarray:
        """Stream number `stream` as the reference decoder returns it."""
        return decode_lr(self.sample.streams[stream], self.members[f"lr{stream}.nut"])


def planned(frames: int, kind: SampleKind = SampleKind.CLIP, split: str = "train") -> PlannedSample:
    return PlannedSample(
        shard="train-000000",
        key="key-00000",
        kind=kind,
        split=split,
        group="夜",
        licence="CC0",
        clip=0,
        patch=0,
        spans=[Span(source_id=SOURCE, start=0, count=frames)],
        estimated_bytes=0,
    )


def make(
    recipe: Recipe,
    hr: np.ndarray,
    kind: SampleKind = SampleKind.CLIP,
    seed: int = 0,
    split: str = "train",
) -> Made:
    row = planned(len(hr), kind, split)
    height, width = hr.shape[1:3]
    is_clip = kind is SampleKind.CLIP
    # A pseudo-video takes its patches from one large image, a clip from frames of their size.
    size = (height, width) if is_clip else (height * len(hr), width)
    scene = draw_scene(recipe, seed, row, {SOURCE: size})
    draws = [draw_stream(recipe, seed, row, scene, k) for k in range(len(recipe.streams))]
    made: MadeSample = make_sample(recipe, seed, row, scene, draws, hr, 24.0 if is_clip else 0)
    return Made(recipe, hr, scene, draws, made.sample, made.members)


@cache
def cavsr() -> Made:
    return make(shrunk("cavsr"), moving_clip(9, 96, 128))


@cache
def vcisr_pack() -> Made:
    hr = np.stack([texture(96, 96, seed) for seed in range(5)])
    return make(shrunk("vcisr", 96, 96), hr, SampleKind.PSEUDO_VIDEO)


BOTH = pytest.mark.parametrize("made_by", [cavsr, vcisr_pack])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2))


@BOTH
def test_a_sample_has_every_member_and_the_json_is_left_to_the_shard(
    made_by: Callable[[], Made],
) -> None:
    made = made_by()
    assert sorted(made.members) == sorted(member_names(len(made.recipe.streams))[1:])
    assert all(isinstance(data, bytes) and data for data in made.members.values())


@BOTH
def test_the_record_is_that_of_the_plan_and_the_draws(made_by: Callable[[], Made]) -> None:
    made = made_by()
    sample = made.sample
    assert (sample.key, sample.group, sample.licence) == ("key-00000", "夜", "CC0")
    assert (sample.num_frames, sample.hr_height, sample.hr_width) == made.hr.shape[:3]
    assert sample.recipe_sha256 == made.recipe.sha256
    assert [stream.name for stream in sample.streams] == [s.name for s in made.recipe.streams]
    assert SceneDraw.model_validate_json(sample.scene_draw) == made.scene
    assert sample.origins == made.scene.origins
    for stream, draw in zip(sample.streams, made.draws, strict=True):
        assert StreamDraw.model_validate_json(stream.draw) == draw
        assert [frame.display_index for frame in stream.frames] == list(range(len(made.hr)))
    assert Sample.model_validate_json(sample.model_dump_json()) == sample


@BOTH
def test_hr_is_stored_exactly(made_by: Callable[[], Made]) -> None:
    made = made_by()
    assert np.array_equal(decode_hr(made.sample, made.members["hr.zip"]), made.hr)


def with_jpeg(recipe: Recipe, quality: int) -> Recipe:
    hr = recipe.hr.model_copy(update={"jpeg_quality": quality})
    return recipe.model_copy(update={"hr": hr})


def test_hr_as_jpeg_is_stored_for_training_and_lr_is_made_of_exact_hr() -> None:
    plain = cavsr()
    made = make(with_jpeg(plain.recipe, 90), plain.hr)
    jpeg, stored = made.sample.hr_jpeg, decode_hr(made.sample, made.members["hr.zip"])
    assert jpeg is not None and jpeg.quality == 90
    error = np.mean((stored.astype(int) - plain.hr) ** 2)
    assert error == jpeg.mse and 0 < error < 20
    assert made.sample.schema_version == LOSSY_HR_VERSION
    assert Sample.model_validate_json(made.sample.model_dump_json()) == made.sample
    for name in member_names(len(plain.sample.streams))[2:]:
        assert made.members[name] == plain.members[name]
    changed = {"schema_version", "recipe_sha256", "hr_tiles", "hr_jpeg"}
    assert made.sample.model_dump(exclude=changed) == plain.sample.model_dump(exclude=changed)


def test_hr_of_validation_is_exact_whatever_the_recipe_says() -> None:
    plain = cavsr()
    made = make(with_jpeg(plain.recipe, 90), plain.hr, split="validation")
    assert made.members == plain.members
    assert made.sample.hr_jpeg is None and made.sample.schema_version == SCHEMA_VERSION
    assert made.sample.hr_tiles == plain.sample.hr_tiles


def test_a_record_of_exact_hr_is_written_as_before_there_was_jpeg() -> None:
    made = cavsr()
    assert "jpeg" not in made.sample.model_dump_json()
    assert "jpeg" not in made.recipe.model_dump(mode="json")["hr"]


@BOTH
def test_lr_has_the_size_of_hr_over_the_scale_and_the_recorded_digest(
    made_by: Callable[[], Made],
) -> None:
    made = made_by()
    frames, height, width, _ = made.hr.shape
    for index, stream in enumerate(made.sample.streams):
        lr = made.lr(index)
        assert lr.shape == (frames, height // 4, width // 4, 3)
        assert hashlib.sha256(lr.tobytes()).hexdigest() == stream.decoded_sha256


@BOTH
def test_motion_members_hold_as_many_blocks_as_recorded(made_by: Callable[[], Made]) -> None:
    made = made_by()
    for index, stream in enumerate(made.sample.streams):
        assert len(read_blocks(made.members[f"mv{index}.npy"])) == stream.motion_blocks


def test_the_clean_stream_is_the_outcome_of_the_shared_stages_exactly() -> None:
    made = cavsr()
    shared = [to_uint8(f) for f in apply_stages(Clip(list(made.hr), []), made.scene.stages).frames]
    assert made.sample.streams[0].lr_kind is LrKind.LOSSLESS
    assert np.array_equal(made.lr(0), np.stack(shared))


def test_all_streams_are_frame_for_frame_the_same_clip_only_coarser() -> None:
    made = cavsr()
    clean = made.lr(0)
    for index in (1, 2, 3):
        coded = made.lr(index)
        assert made.sample.streams[index].lr_kind is LrKind.CODEC
        assert not np.array_equal(coded, clean)
        for t in range(len(clean)):
            distances = [np.abs(coded[t].astype(int) - frame).mean() for frame in clean]
            assert int(np.argmin(distances)) == t


def test_quality_falls_and_bytes_shrink_with_crf() -> None:
    made = cavsr()
    qualities = [psnr(made.lr(index), made.lr(0)) for index in (1, 2, 3)]
    sizes = [made.sample.streams[index].stream_bytes for index in (1, 2, 3)]
    assert qualities[0] > qualities[1] + 2 > qualities[2] + 4
    assert sizes[0] > sizes[1] > sizes[2]
    assert [stream.rate_value for stream in made.sample.streams] == [0, 15, 25, 35]


def test_streams_share_the_noise_of_the_scene() -> None:
    down = {"op": "downscale", "kernels": ["matlab_bicubic"]}
    recipe = Recipe.model_validate(
        {
            "name": "noisy",
            "hr": {"patch_height": 64, "patch_width": 64},
            "shared": [
                {"op": "noise", "sigma": 20, "kinds": {"gaussian": 1}, "gray_probability": 1},
                down,
            ],
            "streams": [
                {"name": "one"},
                {"name": "same"},
                {"name": "jpeg", "stages": [{"op": "still", "quality": 100}]},
            ],
        }
    )
    hr = np.full((3, 64, 64, 3), 128, np.uint8)
    made = make(recipe, hr)
    one, same, jpeg = (made.lr(index) for index in range(3))
    assert one.std() > 2
    assert np.array_equal(one, same)
    assert not np.array_equal(one, jpeg)
    assert np.corrcoef(one.mean(-1).ravel(), jpeg.mean(-1).ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(one[0].ravel(), one[1].ravel())[0, 1]) < 0.1


def test_the_noise_of_a_stream_is_its_own_and_fresh_in_every_frame() -> None:
    noise = {"op": "noise", "sigma": 20, "kinds": {"gaussian": 1}, "gray_probability": 0}
    recipe = Recipe.model_validate(
        {
            "name": "noisy",
            "hr": {"patch_height": 64, "patch_width": 64},
            "shared": [{"op": "downscale"}],
            "streams": [{"name": "one", "stages": [noise]}, {"name": "two", "stages": [noise]}],
        }
    )
    made = make(recipe, np.full((3, 64, 64, 3), 128, np.uint8))
    frames = [frame.ravel() for index in (0, 1) for frame in made.lr(index)]
    correlations = np.corrcoef(frames) - np.eye(6)
    assert np.abs(correlations).max() < 0.15
    assert min(frame.std() for frame in frames) > 15


@pytest.mark.parametrize("name", ["cavsr", "vcisr"])
def test_the_same_call_gives_the_same_bytes(name: str) -> None:
    recipe, hr = shrunk(name, 64, 96), moving_clip(4, 64, 96)
    first, second = make(recipe, hr), make(recipe, hr.copy())
    assert first.members == second.members
    assert first.sample.model_dump_json() == second.sample.model_dump_json()


def test_another_seed_gives_another_vcisr_sample_of_the_same_hr() -> None:
    recipe, hr = shrunk("vcisr", 64, 96), moving_clip(3, 64, 96)
    first, second = make(recipe, hr), make(recipe, hr, seed=1)
    assert first.members["hr.zip"] == second.members["hr.zip"]
    assert first.members["lr0.nut"] != second.members["lr0.nut"]


@pytest.mark.parametrize("name", ["cavsr", "vcisr"])
@pytest.mark.parametrize("kind", [SampleKind.CLIP, SampleKind.PSEUDO_VIDEO])
def test_a_single_frame_is_a_sample(name: str, kind: SampleKind) -> None:
    made = make(shrunk(name, 64, 64), moving_clip(1, 64, 64), kind)
    assert made.sample.num_frames == 1
    for index, stream in enumerate(made.sample.streams):
        assert made.lr(index).shape == (1, 16, 16, 3)
        assert [(f.frame_type, f.key_frame) for f in stream.frames] == [("I", True)]
        assert stream.motion_blocks == 0


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video"])
def test_every_codec_of_the_vcisr_recipe_makes_a_sample(codec: str) -> None:
    recipe, hr = shrunk("vcisr", 96, 96), moving_clip(3, 96, 96)
    for seed in range(200):
        stages = stages_of(recipe, seed)
        last = split_at_last_codec(stages)[1]
        # An anamorphic picture, which comes back square by a post step.
        if last and last.codec == codec and isinstance(stages[-1], ResizeDraw):
            break
    sample = make(recipe, hr, seed=seed)
    assert sample.sample.streams[0].codec == codec
    assert sample.lr(0).shape == (3, 24, 24, 3)
    assert sample.sample.streams[0].post_steps[-1].op == "resize"


def stages_of(recipe: Recipe, seed: int) -> list[StageDraw]:
    """What `make` draws for a clip of 3 frames."""
    row = planned(3)
    scene = draw_scene(recipe, seed, row, {SOURCE: (96, 96)})
    return draw_stream(recipe, seed, row, scene, 0).stages


def test_per_frame_values_go_with_their_frames() -> None:
    made = vcisr_pack()
    (first, *_) = (stage for stage in made.draws[0].stages if isinstance(stage, NoiseDraw))
    assert len(set(first.level)) == 5
    flat = [np.full((64, 64, 3), 0.5, np.float32)] * 5
    deviations = [frame.std() for frame in apply_stages(Clip(flat, []), [first]).frames]
    assert np.argsort(deviations).tolist() == np.argsort(first.level).tolist()


def centroid(frame: np.ndarray) -> np.ndarray:
    """(row, column) of a bright blob on black."""
    mass = frame.astype(float).mean(-1)
    rows, columns = np.indices(mass.shape)
    return np.array([(rows * mass).sum(), (columns * mass).sum()]) / mass.sum()


def test_lr_lies_where_hr_is() -> None:
    # A bright blob that moves by fractions of an LR pixel; where it is, is known in both.
    rows, columns = np.indices((96, 128))
    hr = np.stack(
        [
            np.exp(-((rows - 44 - t) ** 2 + (columns - 60 - 1.5 * t) ** 2) / (2 * 6.0**2))
            for t in range(6)
        ]
    )
    frames = np.rint(255 * np.repeat(hr[..., None], 3, -1)).astype(np.uint8)
    made = make(shrunk("cavsr"), frames)
    expected = np.stack([(centroid(frame) + 0.5) / 4 - 0.5 for frame in frames])
    clean = np.stack([centroid(frame) for frame in made.lr(0)])
    assert np.abs(clean - expected).max() < 0.05
    coded = np.stack([centroid(frame) for frame in made.lr(1)])
    assert np.abs(coded - expected).max() < 0.15
    assert np.abs((coded - expected).mean(axis=0)).max() < 0.05
