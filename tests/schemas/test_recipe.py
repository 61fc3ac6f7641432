import copy
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pytest
import yaml

from schemas.number import Range
from schemas.recipe import Recipe, RecipeError, parse_recipe
from schemas.recipe_files import load_recipe, shipped_recipes
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION

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


def test_the_quality_of_stored_hr_holds_for_training_and_is_told_where_it_is_set() -> None:
    plain, lossy = parse(SMALL), small_with(("hr", "jpeg_quality"), 95)
    assert plain.hr.stored_quality("train") is None
    assert "jpeg_quality" not in plain.model_dump(mode="json")["hr"]
    assert plain == small_with(("hr", "jpeg_quality"), None)
    assert lossy.hr.stored_quality("train") == 95
    assert lossy.hr.stored_quality("validation") is None
    assert Recipe.model_validate(lossy.model_dump(mode="json")) == lossy
    assert lossy.model_dump(mode="json")["hr"]["jpeg_quality"] == 95
    assert (plain.schema_version, lossy.schema_version) == (SCHEMA_VERSION, LOSSY_HR_VERSION)


@pytest.mark.parametrize("quality", [0, 74, 101, 95.5, "best"])
def test_qualities_that_are_no_ground_truth_are_refused(quality: object) -> None:
    assert "hr.jpeg_quality" in refusal(("hr", "jpeg_quality"), quality)


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
H264, HEVC, MPEG2, MPEG4, VP9, AV1 = (
    {"codec": name} for name in ("h264", "hevc", "mpeg2video", "mpeg4", "vp9", "av1")
)
EXACTLY_ONE = "exactly one of crf, qscale, bits_per_pixel and bits_per_second"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("shared", 0, "sigma"), {"min": 3, "max": 1}, "need min <= max"),
        (("shared", 0, "sigma"), {"min": 1, "max": 3, "step": -1}, "need min <= max"),
        (("shared", 0, "sigma"), [], "at least 1 item"),
        (("shared", 0, "sigma"), "wide", "valid number"),
        (("shared", 0, "probability"), 1.5, "less than or equal to 1"),
        (("shared", 0, "kernels"), {}, "at least 1 item"),
        (
            ("shared", 0, "kernels"),
            {"isotropc": 1},
            "shared.0.blur.kernels: unknown name 'isotropc', did you mean 'isotropic'?",
        ),
        (("shared", 0, "kernels"), {"isotropic": -1}, "greater than or equal to 0"),
        (
            ("shared", 0, "op"),
            "blurr",
            "shared.0.op: unknown name 'blurr', did you mean 'blur'? (known: blur, resize, ",
        ),
        (("shared", 0, "op"), "zzz", "shared.0.op: unknown name 'zzz' (known: blur, resize, "),
        (("shared", 0), {"size": 7}, "shared.0.op: Field required"),
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
        (ENCODER, H264, EXACTLY_ONE),
        (ENCODER, H264 | {"crf": 1, "qscale": 2}, EXACTLY_ONE),
        (ENCODER, H264 | {"bits_per_pixel": 1, "bits_per_second": 1e4}, EXACTLY_ONE),
        (ENCODER, MPEG4 | {"crf": 20}, "mpeg4 has no crf"),
        (ENCODER, MPEG2 | {"crf": 20}, "mpeg2video has no crf"),
        (
            ENCODER,
            MPEG2 | {"qscale": 3, "presets": {"fast": 1}},
            "mpeg2video: unknown presets ['fast'], it has none",
        ),
        (
            ENCODER,
            H264 | {"crf": 1, "presets": {"fats": 1}},
            "unknown presets ['fats'], choose from",
        ),
        (ENCODER, HEVC | {"crf": 20, "tunes": {"film": 1}}, "hevc: unknown tunes ['film']"),
        (ENCODER, AV1 | {"crf": 20, "profiles": {"main": 1}}, "av1: unknown profiles ['main']"),
        (
            ENCODER,
            MPEG2 | {"qscale": 3, "pixel_formats": {"yuv444p": 1}},
            "mpeg2video: unknown pixel formats ['yuv444p'], choose from",
        ),
        (ENCODER, VP9 | {"crf": 20, "b_frames": 2}, "vp9 takes 0 B frames at most"),
        (ENCODER, VP9 | {"crf": 20, "refs": 2}, "vp9 has no setting refs here"),
        (ENCODER, VP9 | {"crf": 20, "b_pyramid": False}, "vp9 has no setting b_pyramid"),
        (ENCODER, MPEG4 | {"qscale": 3, "loss": 0.1}, "mpeg4 has no setting lost"),
        (ENCODER, MPEG2 | {"qscale": 3, "slices": 2}, "mpeg2video has no setting slices"),
        (ENCODER, AV1 | {"crf": 30, "max_bits_per_pixel": 1}, "av1 has no setting vbv"),
        (
            ENCODER,
            MPEG4 | {"qscale": 3, "max_bits_per_pixel": 1},
            "mpeg4: a cap goes with ('bitrate',) only",
        ),
        (
            ENCODER,
            H264 | {"crf": 20, "profiles": {"main": 1}, "pixel_formats": {"yuv444p": 1}},
            "h264: profile main has no ['yuv444p']",
        ),
        (ENCODER, H264 | {"crf": 20, "profiles": {"baseline": 1}}, "needs b_frames = 0"),
        (ENCODER, HEVC | {"crf": 20, "tunes": {"zerolatency": 1}}, "needs b_frames = 0"),
        (ENCODER, H264 | {"crf": 20, "loss": 0.1}, "needs slices > 1"),
        (
            ENCODER,
            {"codec": "x264", "crf": 20},
            "encoders.0.codec: unknown name 'x264', did you mean 'h264'? (known: ",
        ),
        (("streams", 1, "stages", 0, "encoders"), [], "at least 1 item"),
        (
            ("streams", 1, "stages", 0, "width_ratio"),
            {"keep": 0},
            "the weights of up, down and keep are all 0",
        ),
        (
            ("streams", 1, "stages", 0, "size_ratio"),
            {"walk": 0.1},
            "a codec has one size along a clip",
        ),
        (("streams", 1, "stages", 0, "resize_kernels"), ["bd"], "not for resize_kernels"),
        (("streams", 1, "stages", 0, "fps"), {"min": 1, "max": 9, "walk": 1}, "drawn once a clip"),
        (("shared", 0, "sigma"), {"min": 1, "max": 2, "spread": "log", "step": 1}, "has no step"),
        (("shared", 0, "sigma"), {"min": 0, "max": 2, "spread": "log"}, "a log spread has no 0"),
        (("shared", 0, "sigma"), {"min": 0, "max": 2, "spread": "inverse"}, "has no 0"),
        (
            ("shared", 0, "sigma"),
            {"min": 1, "max": 2, "walk": 1, "fresh": True},
            "give walk or fresh, not both",
        ),
        (("shared", 0, "size"), {"min": 7, "max": 9, "step": 2, "walk": 2}, "drawn once a clip"),
    ],
)
def test_what_cannot_be_done_is_refused(path: Path, value: object, message: str) -> None:
    assert message in refusal(path, value)


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
            *("bilinear", "bicubic", "lr", "current", "mpeg4", "hevc", "webp", "off", "target"),
            *("camera", "intra", "square", "fast"),
        ]
    if isinstance(value, list):
        return [[{"op": "still"}], [0]]
    return [{"fast": 1}] if isinstance(value, dict) else [5, 0.5]


def _first_valid(candidates: Iterable[dict[str, Any]]) -> Recipe | None:
    for fields in candidates:
        try:
            return Recipe.model_validate(fields)
        except ValueError:
            continue
    return None


def test_the_digest_changes_with_every_field() -> None:
    times_changed: Counter[str | int] = Counter()
    for recipe in (parse(SMALL), load_recipe("bsrgan"), load_recipe("streaming")):
        fields = recipe.model_dump(mode="json")
        seen = {recipe.sha256}
        for path, value in _leaves(fields):
            others = [other for other in _other_values(value) if other != value]
            if times_changed[path[-1]] < 2:
                # It may be bound by a rule where it stands.
                changed = _first_valid(with_value(fields, path, other) for other in others)
                assert changed is None or changed.sha256 not in seen, path
                seen.add(changed.sha256 if changed else "")
                times_changed[path[-1]] += changed is not None
    # A stage's name, rates that exclude each other, presets of who has none, and what the
    # gaussian kernel divides by.
    bound = {"op", "crf", "qscale", "bits_per_second", "bits_per_pixel", "presets", "down_factor"}
    assert {name for name, times in times_changed.items() if not times} <= bound
    assert len(times_changed) > 80


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
    *(f"op: still, quality: {quality}" for quality in (0, 200)),
    "op: still, codec: webp, subsampling: {444: 1}",
    "op: still, codec: webp, effort: 7",
    "op: denoise, strength: -1",
    "op: resize, scaling: {}, kernels: [bd]",
    "op: resize, scaling: {down: 1, keep: 0, down_factor: 0.3}, kernels: [gaussian]",
    "op: resize, scaling: {down: 1, down_factor: 0.5}, kernels: [gaussian]",
    "op: resize, scaling: {down: 1, keep: 0, down_factor: 0.5}, kernels: [gaussian, area]",
    "op: choice, branches: []",
    "op: choice, branches: [{weight: 0}]",
    "op: shuffle, groups: []",
    "op: shuffle, groups: [[], []], keep_order: [2]",
    "op: shuffle, groups: [[], []], keep_order: [0, 0]",
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
    "codec: av1, qscale: 30",
    "codec: av1, bits_per_pixel: 0.1, gop_frames: [1, 12]",
    "codec: hevc, crf: 20, refs: 9",
    "codec: hevc, crf: 20, b_frames: 5, presets: {ultrafast: 1}",
    "codec: h264, crf: 20, slices: 4, loss: 0.1, pixel_formats: {yuv420p10le: 1}",
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


def test_more_variants_than_keys_tell_apart_are_refused() -> None:
    text = 'name = "a"\nvariants = {}\n[[shared]]\nop = "downscale"\n[[streams]]\nname = "b"\n'
    assert parse_recipe(text.format(100), "toml", "a.toml").variants == 100
    with pytest.raises(RecipeError, match=r"variants: .*less than or equal to 100"):
        parse_recipe(text.format(101), "toml", "a.toml")
