import copy
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pytest
import yaml

from pipelines.recipe_files import load_recipe, shipped_recipes
from schemas.recipe import Range, Recipe, RecipeError, parse_recipe

SMALL = """
name = "small"
scale = 4
validation_fraction = 0.25

[hr]
patch_height = 64
patch_width = 96

[[shared]]
op = "blur"
sigma = { min = 0.2, max = 3 }
size = [7, 9, 11]

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
crf = { min = 20, max = 32, step = 1 }
presets = { medium = 2, fast = 1 }
[[streams.stages.encoders]]
codec = "mpeg4"
bits_per_pixel = 0.5
"""

Path = tuple[str | int, ...]


def parse(text: str, syntax: Literal["toml", "yaml"] = "toml") -> Recipe:
    return parse_recipe(text, syntax, f"my recipe.{syntax}")


def with_value(fields: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    """The fields, but for the value at the path."""
    changed: Any = copy.deepcopy(fields)
    at = changed
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return changed


def small_with(path: Path, value: object) -> Recipe:
    """The small recipe with one other value, by way of a file."""
    fields = with_value(tomllib.loads(SMALL), path, value)
    return parse(yaml.safe_dump(fields), "yaml")


def refusal(path: Path, value: object) -> str:
    with pytest.raises(RecipeError) as caught:
        small_with(path, value)
    return str(caught.value)


def test_defaults_are_filled_in() -> None:
    recipe = parse(SMALL)
    assert (recipe.name, recipe.scale, recipe.hr.patch_width, recipe.hr.tile) == (
        "small",
        4,
        96,
        256,
    )
    assert [stage.op for stage in recipe.shared] == ["blur", "downscale"]
    assert recipe.streams[0].stages == []


def test_toml_and_yaml_give_the_same_recipe() -> None:
    as_yaml = yaml.safe_dump(tomllib.loads(SMALL))
    assert parse(as_yaml, "yaml") == parse(SMALL)
    assert parse(as_yaml, "yaml").sha256 == parse(SMALL).sha256


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_parse_and_survive_the_manifest(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert again == recipe and again.sha256 == recipe.sha256
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("path", "where", "suggestion"),
    [
        (("validation_fracton",), "validation_fracton", "validation_fraction"),
        (("hr", "patch_hight"), "hr.patch_hight", "patch_height"),
        (("shared", 0, "sigmaa"), "shared.0.blur.sigmaa", "sigma"),
        (("streams", 1, "nam"), "streams.1.nam", "name"),
        (
            ("streams", 1, "stages", 0, "encoders", 1, "bit_per_pixel"),
            "streams.1.stages.0.codec.encoders.1.bit_per_pixel",
            "bits_per_pixel",
        ),
    ],
)
def test_a_mistyped_key_is_named_with_its_path_and_a_suggestion(
    path: Path, where: str, suggestion: str
) -> None:
    message = refusal(path, 1)
    assert message.startswith("my recipe.yaml is not a recipe:")
    assert f"\n  {where}: unknown key, did you mean {suggestion!r}?" in message


def test_a_key_like_no_other_is_refused_without_a_suggestion() -> None:
    message = refusal(("zzzzqqq",), 1)
    assert message.endswith("zzzzqqq: unknown key")


def test_all_problems_are_told_at_once() -> None:
    text = SMALL.replace("scale = 4", "scale = 9\nnmae = 1").replace("size = [7, 9, 11]", "size=[]")
    with pytest.raises(RecipeError) as caught:
        parse(text)
    message = str(caught.value)
    assert "\n  scale: " in message and "\n  nmae: unknown key" in message
    assert "\n  shared.0.blur.size" in message


ENCODER = ("streams", 1, "stages", 0, "encoders", 0)
H264, MPEG2, MPEG4 = ({"codec": name} for name in ("h264", "mpeg2video", "mpeg4"))
DOWN: dict[str, Any] = {"op": "downscale"}
CODEC = {"op": "codec", "encoders": [H264 | {"crf": 20}]}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("shared", 0, "sigma"), {"min": 3, "max": 1}, "need min <= max"),
        (("shared", 0, "sigma"), {"min": 1, "max": 3, "step": -1}, "need min <= max"),
        (("shared", 0, "sigma"), [], "at least 1 item"),
        (("shared", 0, "sigma"), "wide", "valid number"),
        (("shared", 0, "probability"), 1.5, "less than or equal to 1"),
        (("shared", 0, "kernels"), {}, "at least 1 item"),
        (("shared", 0, "kernels"), {"isotropc": 1}, "isotropic"),
        (("shared", 0, "kernels"), {"isotropic": -1}, "greater than or equal to 0"),
        (("shared", 0, "op"), "blurr", "'blur'"),
        (("name",), "Größe", "pattern"),
        (("name",), "", "pattern"),
        (("scale",), 0, "greater than or equal to 1"),
        (("scale",), 9, "less than or equal to 8"),
        (("validation_fraction",), -0.1, "greater than or equal to 0"),
        (("shard_mib",), 0, "greater than 0"),
        (("hr", "tile"), 8, "greater than or equal to 16"),
        (("hr", "patch_height"), 60, "make it a multiple of 8 (2 * scale)"),
        (("hr", "patch_width"), 100, "make it a multiple of 8 (2 * scale)"),
        (("hr", "patch_height"), 0, "both 0, or neither"),
        (("hr", "pre_downscale"), 0.5, "greater than or equal to 1"),
        (("clips",), {"frames": 4, "min_frames": 5}, "clips.min_frames exceeds clips.frames"),
        (("clips",), {"scene_cut_score": 0}, "greater than 0"),
        (("pseudo_video",), {"frames": 0}, "greater than or equal to 1"),
        (("streams",), [], "at least 1 item"),
        (("streams", 1, "name"), "clean", "two streams have the same name"),
        (ENCODER, H264, "exactly one of crf, qscale and bits_per_pixel"),
        (ENCODER, H264 | {"crf": 1, "qscale": 2}, "exactly one of crf, qscale and bits_per_pixel"),
        (ENCODER, MPEG4 | {"crf": 20}, "mpeg4 has no crf"),
        (ENCODER, MPEG2 | {"crf": 20}, "mpeg2video has no crf"),
        (ENCODER, MPEG2 | {"qscale": 3, "presets": {"fast": 1}}, "mpeg2video has no presets"),
        (ENCODER, H264 | {"crf": 1, "presets": {"fats": 1}}, "unknown presets ['fats']"),
        (
            ENCODER,
            MPEG2 | {"qscale": 3, "pixel_format": "yuv444p"},
            "mpeg2video takes yuv420p here",
        ),
        (ENCODER, MPEG4 | {"qscale": 3, "pixel_format": "yuv444p"}, "mpeg4 takes yuv420p only"),
        (ENCODER, {"codec": "av1", "crf": 20}, "'h264'"),
        (("streams", 1, "stages", 0, "encoders"), [], "at least 1 item"),
        (
            ("streams", 1, "stages", 0, "width_ratio"),
            {"keep": 0},
            "the weights of up, down and keep are all 0",
        ),
        (("shared",), [DOWN, CODEC], "shared: a codec belongs to a stream"),
        (("shared",), [], "'clean' needs exactly one downscale stage"),
        (("shared",), [DOWN, DOWN], "'clean' needs exactly one downscale stage"),
        (
            ("streams", 1, "stages"),
            [{"op": "resize", "scaling": {}}, CODEC],
            "'coded': resize before downscale, codec after it",
        ),
        (("streams", 1, "stages"), [CODEC, CODEC], "'coded': a codec is the last stage"),
        (
            ("streams", 1, "stages"),
            [CODEC, {"op": "jpeg"}],
            "'coded': a codec is the last stage",
        ),
        (
            ("shared",),
            [{"op": "resize", "scaling": {}}, DOWN | {"kernels": ["bd"]}],
            "the bd kernel is the x4 downscale of an unresized HR patch",
        ),
        (
            ("shared",),
            [{"op": "resize", "scaling": {}, "kernels": ["bd"]}, DOWN],
            "the bd kernel is the x4 downscale of an unresized HR patch",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(path: Path, value: object, message: str) -> None:
    assert message in refusal(path, value)


def test_a_codec_before_the_downscale_is_refused() -> None:
    streams = {"name": "early", "scale": 4, "streams": [{"name": "s", "stages": [CODEC, DOWN]}]}
    with pytest.raises(RecipeError, match="codec after it"):
        parse(yaml.safe_dump(streams), "yaml")


def test_the_bd_kernel_needs_scale_4() -> None:
    for scale, is_refused in ((4, False), (2, True)):
        text = SMALL.replace("scale = 4", f"scale = {scale}")
        text = text.replace('op = "downscale"', 'op = "downscale"\nkernels = ["bd"]')
        if is_refused:
            with pytest.raises(RecipeError, match="the bd kernel is the x4 downscale"):
                parse(text)
        else:
            parse(text)


def test_whole_frames_are_a_recipe_too() -> None:
    fields = with_value(tomllib.loads(SMALL), ("hr",), {"patch_height": 0, "patch_width": 0})
    assert parse(yaml.safe_dump(fields), "yaml").hr.patch_height == 0


@pytest.mark.parametrize(
    ("text", "syntax", "message"),
    [
        ("a = ", "toml", "my recipe.toml is not TOML"),
        ("a: [1", "yaml", "my recipe.yaml is not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "yaml", "my recipe.yaml is not YAML"),
        ("", "yaml", "my recipe.yaml holds no table of settings"),
        ("- 1\n- 2", "yaml", "my recipe.yaml holds no table of settings"),
        ("", "toml", "name: Field required"),
        ("夜: 1", "yaml", "夜: unknown key"),
        ("1: 2", "yaml", "my recipe.yaml is not a recipe"),
    ],
)
def test_a_text_that_is_no_recipe_is_refused_with_the_reason(
    text: str, syntax: Literal["toml", "yaml"], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, syntax)
    assert message in str(caught.value)


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "1E-4"])
def test_small_numbers_may_be_written_in_either_way(written: str) -> None:
    # YAML 1.1 takes 1e-4, without a dot, for a string.
    in_yaml = parse(yaml.safe_dump(tomllib.loads(SMALL)) + f"\nshard_mib: {written}\n", "yaml")
    in_toml = parse(f"shard_mib = {written}\n{SMALL}")
    assert in_yaml.shard_mib == in_toml.shard_mib == 1e-4
    assert in_yaml.sha256 == in_toml.sha256
    assert small_with(("hr", "max_bar_share"), written).hr.max_bar_share == 1e-4


def test_whole_and_real_numbers_of_equal_value_are_one_recipe() -> None:
    one, other = small_with((*ENCODER, "crf"), 25), small_with((*ENCODER, "crf"), 25.0)
    assert one.sha256 == other.sha256


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    fields = tomllib.loads(SMALL)
    text = yaml.safe_dump(turned(fields), sort_keys=False)
    assert text.index("streams") < text.index("name: small")
    assert parse(text, "yaml").sha256 == parse(SMALL).sha256


def test_leaving_a_default_out_and_spelling_it_are_one_recipe() -> None:
    assert small_with(("hr", "tile"), 256).sha256 == parse(SMALL).sha256


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    children: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        if isinstance(child, dict | list) and child:
            yield from _leaves(child, (*path, key))
        else:
            yield (*path, key), child


def _other_values(value: object) -> list[object]:
    """Values of which one should be allowed where `value` is."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float | int):
        return [value + 1, value + 2, value / 2 + 0.01, value + 40, value * 0.95, value * 1.05]
    if isinstance(value, str):
        return [
            f"{value}-2",
            *("bilinear", "bicubic", "plateau_isotropic", "lr", "current", "mpeg4", "hevc"),
            "yuv444p",
        ]
    if isinstance(value, list):
        return [[{"op": "jpeg"}]]
    return [{"fast": 1}] if isinstance(value, dict) else [5]


BOUND = ("op", "scale", "codec", "crf", "qscale", "bits_per_pixel", "presets", "pixel_format")


def _first_valid(candidates: Iterable[dict[str, Any]]) -> Recipe | None:
    for fields in candidates:
        try:
            return Recipe.model_validate(fields)
        except ValueError:
            continue
    return None


@pytest.mark.parametrize("name", ["small", *shipped_recipes()])
def test_the_digest_changes_with_every_field(name: str) -> None:
    recipe = parse(SMALL) if name == "small" else load_recipe(name)
    fields = recipe.model_dump(mode="json")
    seen = {recipe.sha256}
    for path, value in _leaves(fields):
        changed = _first_valid(
            with_value(fields, path, other) for other in _other_values(value) if other != value
        )
        if changed is None:  # bound by a rule: an op, the scale of bd, the only rate
            assert path[-1] in BOUND, path
            continue
        assert changed.sha256 not in seen, path
        seen.add(changed.sha256)
    assert len(seen) > 30


def test_the_order_of_stages_and_streams_is_part_of_the_digest() -> None:
    fields = tomllib.loads(SMALL)
    turned = parse(yaml.safe_dump(fields | {"streams": fields["streams"][::-1]}), "yaml")
    assert turned.sha256 != parse(SMALL).sha256


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(SMALL).scale = 2  # type: ignore[misc]


def test_a_range_of_one_value_is_a_range() -> None:
    assert Range(min=2, max=2).max == 2


IMPOSSIBLE_STAGES = [
    *(f"op: blur, size: {size}" for size in ("8", "0", "-3", "7.5", "{min: 7, max: 21}", "[7, 8]")),
    "op: blur, sigma: 0",
    "op: blur, kernels: {isotropic: 0}",
    "op: jpeg, quality: 200",
    "op: noise, sigma: .nan",
    "op: noise, sigma: {min: 0, max: .inf}",
    "op: noise, sigma: -5",
    "op: resize, scaling: {down: 1, keep: 0, down_factor: -1}",
]


@pytest.mark.parametrize("stage", IMPOSSIBLE_STAGES)
def test_numbers_that_no_stage_can_use_are_refused(stage: str) -> None:
    text = f"name: t\nstreams: [{{name: s}}]\nshared: [{{{stage}}}, {{op: downscale}}]"
    with pytest.raises(RecipeError, match=r"shared\.0"):
        parse_recipe(text, "yaml", "r.yaml")


IMPOSSIBLE_ENCODERS = [
    "codec: h264, crf: 20, weight: 0",
    "codec: h264, crf: 20, presets: {fast: 0}",
    "codec: h264, crf: 20, weight: .inf",
    "codec: h264, crf: 99",
    "codec: h264, crf: 20, gop_frames: -1",
    "codec: h264, crf: 20, b_frames: 99",
    "codec: mpeg4, qscale: 0",
    "codec: mpeg4, qscale: 32",
]


@pytest.mark.parametrize("encoder", IMPOSSIBLE_ENCODERS)
def test_settings_that_no_encoder_takes_are_refused(encoder: str) -> None:
    stages = f"[{{op: downscale}}, {{op: codec, encoders: [{{{encoder}}}]}}]"
    with pytest.raises(RecipeError, match=r"streams\.0"):
        parse_recipe(f"name: t\nstreams: [{{name: s, stages: {stages}}}]", "yaml", "r.yaml")


def test_a_key_given_twice_is_refused_in_yaml_too() -> None:
    text = "name: t\nstreams: [{name: s}]\nshared: [{op: downscale}]\nscale: 4\nscale: 2\n"
    with pytest.raises(RecipeError, match="'scale' is given twice"):
        parse_recipe(text, "yaml", "r.yaml")
