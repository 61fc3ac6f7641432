"""Whatever the chain, size and length: shape, range, alignment and determinism."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.recipe import Recipe
from schemas.sample import SampleKind
from tests.pictures import moving_clip, texture
from tests.transforms.test_degrade import Made, make
from tests.transforms.test_draw_stages import CODEC, SIZED, UNSIZED
from transforms.decode import decode_lr, decode_quantisers
from transforms.motion import dense_flow, read_blocks

KINDS = {True: SampleKind.PSEUDO_VIDEO, False: SampleKind.CLIP}


def recipe_of(height: int, width: int, shared: list[Any], stages: list[Any]) -> Recipe | None:
    """A recipe of scale 2 with one stream; None where the chain is refused."""
    fields = {
        "name": "any",
        "scale": 2,
        "hr": {"patch_height": height, "patch_width": width, "tile": 64},
        "shared": shared,
        "streams": [{"name": "one", "stages": stages}],
    }
    try:
        return Recipe.model_validate(fields)
    except ValidationError:
        return None


def check(made: Made) -> None:
    sample, stream = made.sample, made.sample.streams[0]
    frames, height, width, _ = made.hr.shape
    lr = made.lr(0)
    assert lr.shape == (frames, height // 2, width // 2, 3) and lr.dtype == np.uint8
    assert hashlib.sha256(lr.tobytes()).hexdigest() == stream.decoded_sha256
    start = frames // 2
    window = decode_lr(stream, made.members["lr0.nut"], start, 1)
    assert np.array_equal(window[0], lr[start])
    assert [frame.display_index for frame in stream.frames] == list(range(frames))
    flow = dense_flow(read_blocks(made.members["mv0.npy"]), stream, *lr.shape[1:3], 0, frames)
    assert flow.previous.shape == (*lr.shape[:3], 2) and np.isfinite(flow.previous).all()
    assert decode_quantisers(stream, made.members["lr0.nut"]).shape == lr.shape[:3]
    assert all(generation.stream_bytes > 0 for generation in stream.earlier)
    assert type(sample).model_validate_json(sample.model_dump_json()) == sample


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    shared=UNSIZED,
    before=UNSIZED,
    after=SIZED,
    last=st.sampled_from([[], [CODEC]]),
    rows=st.integers(4, 20),
    columns=st.integers(4, 20),
    num_frames=st.integers(1, 5),
    is_pack=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_chain_makes_a_sample_that_holds_together_and_makes_it_again(
    shared: list[Any],
    before: list[Any],
    after: list[Any],
    last: list[Any],
    rows: int,
    columns: int,
    num_frames: int,
    is_pack: bool,
    seed: int,
) -> None:
    height, width = 4 * rows, 4 * columns
    stages = [*before, {"op": "downscale"}, *after, *last]
    recipe = recipe_of(height, width, shared, stages)
    assume(recipe is not None)
    assert recipe is not None
    hr = (
        np.stack([texture(height, width, number) for number in range(num_frames)])
        if is_pack
        else moving_clip(num_frames, height, width)
    )
    first = make(recipe, hr, KINDS[is_pack], seed=seed)
    check(first)
    second = make(recipe, hr.copy(), KINDS[is_pack], seed=seed)
    assert first.members == second.members and first.sample == second.sample


def centroid(frame: np.ndarray) -> np.ndarray:
    """(row, column) of a bright blob on black."""
    mass = np.maximum(frame.astype(float).mean(-1) - 40, 0)
    rows, columns = np.indices(mass.shape)
    return np.array([(rows * mass).sum(), (columns * mass).sum()]) / mass.sum()


MILD_CODEC = {"op": "codec", "encoders": [{"codec": "h264", "crf": 4}]}
ALIGNED = st.lists(
    st.sampled_from(
        [
            {"op": "blur", "sigma": 1.0},
            {"op": "resize", "scaling": {"down": 1, "keep": 0, "down_factor": 0.71}},
            {"op": "resize", "scaling": {"up": 1, "keep": 0, "up_factor": 1.23}},
            {"op": "sharpen", "amount": 0.2, "sigma": 1.0},
            {**MILD_CODEC, "grid_shift": {"min": 0, "max": 15, "step": 1}},
            {**MILD_CODEC, "size_ratio": {"down": 1, "keep": 0, "down_factor": 0.8}},
            {**MILD_CODEC, "width_ratio": {"up": 1, "keep": 0, "up_factor": 1.3}},
            {"op": "still", "quality": 95},
        ]
    ),
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(before=ALIGNED, after=ALIGNED, seed=st.integers(0, 1000))
def test_no_chain_moves_the_picture(before: list[Any], after: list[Any], seed: int) -> None:
    after = [stage for stage in after if stage["op"] != "resize"]
    recipe = recipe_of(128, 144, before, [{"op": "downscale"}, *after])
    assert recipe is not None
    rows, columns = np.indices((128, 144))
    blob = 40 + 180 * np.exp(-((rows - 60.0) ** 2 + (columns - 77.0) ** 2) / (2 * 9.0**2))
    hr = np.repeat(np.rint(blob).astype(np.uint8)[None, :, :, None], 3, axis=-1)
    made = make(recipe, hr, seed=seed)
    expected = (centroid(hr[0]) + 0.5) / 2 - 0.5
    assert np.abs(centroid(made.lr(0)[0]) - expected).max() < 0.1
