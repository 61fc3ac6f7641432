"""Pair groups: one HR under many draws, one draw over many sources."""

from collections import defaultdict
from pathlib import Path

import pytest

from pipelines.layout import Layout
from schemas.draw import CodecDraw, NoiseDraw, SceneDraw, StreamDraw
from schemas.recipe import RecipeError, parse_recipe
from schemas.sample import SampleKind, SampleRow
from schemas.shard import read_member
from tests.pipelines.small import changed, samples, streams, synthesize

TWO_VARIANTS = changed(("variants = 1", "variants = 2"))
ONE_DRAW = changed(("num_draws = 0", "num_draws = 1"))
TWO_OF_TWO = changed(("variants = 1", "variants = 2"), ("num_draws = 0", "num_draws = 2"))
CAMERA = ('packing = "patches"', 'packing = "camera"')


@pytest.fixture(scope="module", params=["patches", "camera"])
def paired(
    corpus: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two samples of each HR clip."""
    recipe = TWO_VARIANTS.replace(CAMERA[0], f'packing = "{request.param}"')
    return synthesize(corpus, tmp_path_factory.mktemp("paired") / "set", recipe)


def member(dataset: Path, row: SampleRow, name: str) -> bytes:
    (found,) = [member for member in row.members if member.name == name]
    with Layout(dataset).tar(row.shard).open("rb") as tar:
        return read_member(tar, found)


def stream_draws(dataset: Path, name: str) -> dict[str, StreamDraw]:
    """Sample -> what a stream adds."""
    return {
        key: StreamDraw.model_validate_json(row.draw)
        for (key, stream), row in streams(dataset).items()
        if stream == name
    }


def by_hr(dataset: Path) -> dict[str, list[SampleRow]]:
    groups = defaultdict(list)
    for row in samples(dataset):
        groups[row.hr_id].append(row)
    return groups


def test_variants_share_hr_and_nothing_else(paired: Path) -> None:
    made, groups = streams(paired), by_hr(paired)
    assert len(groups) in (4, 7)  # 3 clips, and a pack or 4 camera clips
    for rows in groups.values():
        assert [row.variant for row in sorted(rows, key=lambda row: row.key)] == [0, 1]
        assert [row.key[-3:] for row in sorted(rows, key=lambda row: row.key)] == ["-00", "-01"]
        assert len({member(paired, row, "hr.zip") for row in rows}) == 1
        assert len({row.group for row in rows}) == len({row.split for row in rows}) == 1
        assert len({row.scene_draw for row in rows}) == 2
        for name in ("noisy", "coded"):
            assert len({made[row.key, name].draw_id for row in rows}) == 2
            assert len({made[row.key, name].decoded_sha256 for row in rows}) == 2


def test_a_first_variant_is_the_sample_without_variants(plain: Path, paired: Path) -> None:
    firsts = {row.hr_id: row for row in samples(paired) if row.variant == 0}
    common = [row for row in samples(plain) if row.hr_id in firsts]
    assert len(common) >= 3
    for row in common:
        first = firsts[row.hr_id]
        assert first.key == f"{row.key}-00"
        assert first.scene_draw == row.scene_draw
        for name in ("noisy", "coded"):
            pair = streams(plain)[row.key, name], streams(paired)[first.key, name]
            assert pair[0].decoded_sha256 == pair[1].decoded_sha256


def test_with_one_draw_all_clips_of_a_length_have_it(corpus: Path, tmp_path: Path) -> None:
    dataset = synthesize(corpus, tmp_path / "set", ONE_DRAW)
    made, rows = streams(dataset), samples(dataset)
    clips = [row.key for row in rows if row.kind is SampleKind.CLIP]
    assert len({row.hr_id for row in rows}) == len(rows) == 4
    for name in ("noisy", "coded"):
        assert len({made[key, name].draw_id for key in clips}) == 1
        assert len({made[key, name].decoded_sha256 for key in clips}) == 3
    draws = {row.key: SceneDraw.model_validate_json(row.scene_draw).stages for row in rows}
    assert draws[clips[0]] == draws[clips[1]] == draws[clips[2]]
    noises = [s for d in stream_draws(dataset, "noisy").values() for s in d.stages]
    seeds = {n.seed for n in noises if isinstance(n, NoiseDraw) and len(n.level) == 1}
    codecs = [s for d in stream_draws(dataset, "coded").values() for s in d.stages]
    assert len(seeds) == 1
    # The rate factor is drawn once a sample, whatever its kind: the pack has it, too.
    assert len({c.rate_value for c in codecs if isinstance(c, CodecDraw)}) == 1


def test_camera_clips_share_a_draw_with_clips_of_their_length(corpus: Path, tmp_path: Path) -> None:
    recipe = ONE_DRAW.replace(*CAMERA).replace("frames = 4", "frames = 6")
    dataset = synthesize(corpus, tmp_path / "set", recipe)
    kinds = {row.kind for row in samples(dataset)}
    assert kinds == {SampleKind.CLIP, SampleKind.CAMERA}
    assert len({row.draw_id for row in streams(dataset).values()}) == 2  # one a stream
    views = {row.scene_draw for row in samples(dataset) if row.kind is SampleKind.CAMERA}
    assert len(views) == 4


def test_as_many_variants_as_draws_give_each_clip_every_draw(corpus: Path, tmp_path: Path) -> None:
    dataset = synthesize(corpus, tmp_path / "set", TWO_OF_TWO)
    made = streams(dataset)
    clips = [rows for rows in by_hr(dataset).values() if rows[0].kind is SampleKind.CLIP]
    dealt = [{made[row.key, "coded"].draw_id for row in rows} for rows in clips]
    assert len(dealt) == 3
    assert all(len(draws) == 2 and draws == dealt[0] for draws in dealt)


def test_equal_hr_settings_give_equal_hr_ids_under_other_degradations(
    corpus: Path, plain: Path, tmp_path: Path
) -> None:
    other = changed(
        ("max = 38", "max = 28"),
        ('"noisy"', '"grainy"'),
        ("sigma = { min = 0.2", "sigma = { min = 1"),
    )
    dataset = synthesize(corpus, tmp_path / "set", other)
    ours, theirs = by_hr(plain), by_hr(dataset)
    assert ours.keys() == theirs.keys()
    for hr_id, (row,) in ours.items():
        (twin,) = theirs[hr_id]
        assert member(plain, row, "hr.zip") == member(dataset, twin, "hr.zip")
        assert row.recipe_sha256 != twin.recipe_sha256


@pytest.mark.parametrize(
    ("recipe", "others"),
    [
        (changed(("pre_downscale = 1", "pre_downscale = 1.1")), ()),
        (changed(("patch_height = 64", "patch_height = 48")), ()),
        (changed(("pre_downscale = 1", 'sharpen = "target"')), ()),
        (changed(), ("--seed=1",)),  # the grid of patches lies elsewhere
    ],
)
def test_other_hr_has_another_id(
    corpus: Path, plain: Path, tmp_path: Path, recipe: str, others: tuple[str, ...]
) -> None:
    dataset = synthesize(corpus, tmp_path / "set", recipe, *others)
    ours, theirs = by_hr(plain), by_hr(dataset)
    if others:  # a grid may lie at the same offset by chance; most do not
        assert len(ours.keys() & theirs.keys()) <= len(ours) // 2
    else:
        assert ours.keys().isdisjoint(theirs)


def test_variants_that_would_be_equal_are_refused() -> None:
    text = TWO_VARIANTS.replace("num_draws = 0", "num_draws = 1")
    with pytest.raises(RecipeError, match=r"variants is 2, num_draws 1.*make num_draws as large"):
        parse_recipe(text, "toml", "small.toml")
