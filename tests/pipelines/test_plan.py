import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from pipelines import plan as planning
from pipelines.corpus import SourceRule
from pipelines.errors import UserError
from pipelines.licences import ANY_LICENCE, LicencePolicy
from pipelines.probe import Probed
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.record import Status
from schemas.sample import SampleKind
from schemas.source import Source, SourceKind
from schemas.tables import table_of
from tests.pipelines.planning import Planned, make_plan


def recipe(**fields: Any) -> Recipe:
    plain: dict[str, Any] = {
        "name": "test",
        "validation_fraction": 0,
        "hr": {"patch_height": 64, "patch_width": 64},
        "shared": [{"op": "downscale"}],
        "streams": [{"name": "clean"}],
    }
    return Recipe.model_validate(plain | fields)


SPLIT = recipe(validation_fraction=0.5)


def identity(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def probed(
    uri: str,
    kind: SourceKind,
    spans: Sequence[tuple[int, int]],
    content: str = "",
    path: str = "",
    **facts: Any,
) -> Probed:
    source_id = identity(content or uri)
    plain = Source(
        source_id=source_id,
        kind=kind,
        uris=[uri],
        group="",
        split="",
        licence="",
        attribution="",
        size=1000,
        width=256,
        height=192,
        num_frames=sum(count for _, count in spans),
    )
    return Probed(
        source=plain.model_copy(update=facts),
        spans=[Span(source_id=source_id, start=start, count=count) for start, count in spans],
    )


def image(uri: str, spans: Sequence[tuple[int, int]] = ((0, 4),), **facts: Any) -> Probed:
    return probed(uri, SourceKind.IMAGE, spans, **facts)


def video(uri: str, spans: Sequence[tuple[int, int]] = ((0, 8),), **facts: Any) -> Probed:
    return probed(uri, SourceKind.VIDEO, spans, **facts)


def broken(
    uri: str, reason: str, status: Status = Status.FAILED_PERMANENT, source_id: str = ""
) -> Probed:
    facts = {"source_id": source_id, "status": status, "stage": "probe", "reason": reason}
    return image(uri, (), **facts)


def images(count: int, **facts: Any) -> list[Probed]:
    return [image(f"photos/{number}-夜.png", **facts) for number in range(count)]


def videos(count: int, **facts: Any) -> list[Probed]:
    return [video(f"videos/{number}.mp4", **facts) for number in range(count)]


def rule(pattern: str, **fields: str) -> SourceRule:
    return SourceRule(pattern=pattern, **fields)


def split_of(plan: Planned) -> dict[str, str]:
    """Uri -> split."""
    return {uri: source.split for source in plan.sources for uri in source.uris}


def refusal(items: Sequence[Probed], given: Recipe, rules: Sequence[SourceRule] = ()) -> str:
    with pytest.raises(UserError) as caught:
        make_plan(items, rules, given, 0)
    return str(caught.value)


# Sources, groups and splits


def test_equal_content_at_two_places_is_one_source() -> None:
    items = [video("b/x.mp4", content="same"), video("a/夜.mp4", content="same"), video("c.mp4")]
    plan = make_plan(items, [], recipe(), 0)
    (same,) = (s for s in plan.sources if s.source_id == identity("same"))
    assert same.uris == ["a/夜.mp4", "b/x.mp4"]
    assert len(plan.sources) == len(plan.samples) == 2


def test_unreadable_files_stay_apart_and_are_kept_as_rows() -> None:
    items = [broken("a.png", "corrupt"), broken("b.png", "corrupt"), *videos(1)]
    plan = make_plan(items, [], recipe(), 0)
    left_out = [source for source in plan.sources if source.status is not Status.OK]
    assert [source.uris for source in left_out] == [["a.png"], ["b.png"]]
    assert {(source.group, source.split) for source in left_out} == {("", "")}
    assert [row.spans[0].source_id for row in plan.samples] == [identity("videos/0.mp4")]


def groups_by_uri(items: Sequence[Probed], rules: Sequence[SourceRule] = ()) -> dict[str, str]:
    plan = make_plan(items, rules, recipe(), 0)
    return {uri: source.group for source in plan.sources for uri in source.uris}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stereo/1_left.mp4", "stereo/1_right.mp4"),
        ("stereo/1-L.mp4", "stereo/1-R.mp4"),
        ("flower.mp4", "flower.webm"),
        ("vimeo/sequences/00001/0001", "vimeo/sequences/00001/0002"),
    ],
)
def test_what_belongs_together_by_its_place_is_one_group(one: str, other: str) -> None:
    groups = groups_by_uri([video(one), video(other), video("stranger.mp4")])
    assert groups[one] == groups[other] != groups["stranger.mp4"]


def test_a_users_group_joins_and_gives_its_name() -> None:
    items = [video("a.mp4"), video("b.mp4"), video("c.mp4"), image("d.png")]
    groups = groups_by_uri(items, [rule("[ab].mp4", group="Größe"), rule("d.*", group="Größe")])
    assert groups["a.mp4"] == groups["b.mp4"] == groups["d.png"] == "Größe"
    assert groups["c.mp4"] == identity("c.mp4")


def test_groups_that_share_a_content_are_one() -> None:
    # a and b are one by name, b and c by content, c and d by the user's list.
    items = [
        video("x/a.mp4"),
        video("x/a.webm", content="same"),
        video("y/c.mp4", content="same"),
        video("z/d.mp4"),
        video("other.mp4"),
    ]
    rules = [rule("y/c.mp4", group="one"), rule("z/*", group="one")]
    groups = groups_by_uri(items, rules)
    assert {groups.pop("other.mp4")} == {identity("other.mp4")}
    assert set(groups.values()) == {"one"}


def test_a_group_does_not_change_when_files_are_renamed() -> None:
    before = [video("a_left.mp4", content="1"), video("a_right.mp4", content="2")]
    after = [video("z/b_l.mov", content="1"), video("z/b_r.mov", content="2")]
    assert set(groups_by_uri(before).values()) == set(groups_by_uri(after).values())


def test_no_group_is_on_both_sides() -> None:
    items = [video(f"{n}_{side}.mp4") for n in range(40) for side in ("left", "right")]
    items += [video(f"clip{n}.{suffix}") for n in range(40) for suffix in ("mp4", "webm")]
    items += [video(f"v/sequences/{n:05d}/{m:04d}") for n in range(40) for m in range(3)]
    items += [video(f"copies/{n}/{n}.mp4", content=f"{n % 20}") for n in range(40)]
    plan = make_plan(items, [], SPLIT, 0)
    splits = defaultdict(set)
    for source in plan.sources:
        splits[source.group].add(source.split)
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert {split for of_group in splits.values() for split in of_group} == {"train", "validation"}
    by_uri = split_of(plan)
    assert all(by_uri[f"{n}_left.mp4"] == by_uri[f"{n}_right.mp4"] for n in range(40))
    copies = [by_uri[f"copies/{n}/{n}.mp4"] for n in range(40)]
    assert copies[:20] == copies[20:]
    of_source = {source.source_id: source.split for source in plan.sources}
    for row in plan.samples:
        assert {of_source[span.source_id] for span in row.spans} == {row.split}


def test_the_share_of_the_validation_split_is_about_the_recipes() -> None:
    plan = make_plan(videos(600), [], recipe(validation_fraction=0.2), 0)
    counts = Counter(source.split for source in plan.sources)
    assert counts["validation"] / 600 == pytest.approx(0.2, abs=0.05)


def test_a_source_keeps_its_split_when_others_come_and_with_another_seed() -> None:
    few, many = (make_plan(videos(count), [], SPLIT, 0) for count in (20, 60))
    assert split_of(few).items() <= split_of(many).items()
    assert split_of(make_plan(videos(20), [], SPLIT, 9)) == split_of(few)


def test_the_users_split_wins_over_the_hash() -> None:
    items = videos(20)
    for wanted in ("train", "validation"):
        rules = [rule("videos/1*.mp4", split=wanted)]
        splits = split_of(make_plan(items, rules, SPLIT, 0))
        assert {split for uri, split in splits.items() if uri.startswith("videos/1")} == {wanted}
    assert set(splits.values()) == {"train", "validation"}


def test_the_users_split_takes_the_whole_group_along() -> None:
    pairs = [video(f"{n}_{side}.mp4") for n in range(10) for side in ("left", "right")]
    for wanted in ("train", "validation"):
        rules = [rule("*_left.mp4", split=wanted)]
        splits = split_of(make_plan([*pairs, *videos(20)], rules, SPLIT, 0))
        assert {splits[f"{n}_right.mp4"] for n in range(10)} == {wanted}


def test_a_source_can_be_named_by_its_digest() -> None:
    rules = [rule(identity("videos/3.mp4"), split="validation", licence="CC-BY")]
    plan = make_plan(videos(5), rules, recipe(), 0)
    assert [s.uris for s in plan.sources if s.split == "validation"] == [["videos/3.mp4"]]
    assert [s.uris for s in plan.sources if s.licence] == [["videos/3.mp4"]]


@pytest.mark.parametrize(
    ("items", "rules"),
    [
        (
            [video("a_left.mp4"), video("a_right.mp4")],
            [rule("*left*", split="train"), rule("*right*", split="validation")],
        ),
        (
            [video("a.mp4", content="same"), video("b.mp4", content="same")],
            [rule("a.mp4", split="validation"), rule("b.mp4", split="train")],
        ),
        (
            [video("a.mp4"), video("b.mp4")],
            [rule("*", group="g"), rule("a*", split="validation"), rule("b*", split="train")],
        ),
    ],
)
def test_a_group_that_the_list_puts_on_both_sides_is_refused(
    items: list[Probed], rules: list[SourceRule]
) -> None:
    message = refusal(items, SPLIT, rules)
    assert "into train and " in message and "into validation" in message
    assert "must share a split" in message


def test_licence_and_attribution_come_from_the_first_rule_that_gives_them() -> None:
    rules = [
        rule("videos/1.*", attribution="Zoë"),
        rule("videos/*", licence="CC-BY", attribution="all of us"),
        rule("*", licence="CC0"),
    ]
    plan = make_plan([*videos(2), image("c.png")], rules, recipe(), 0)
    given = {source.uris[0]: (source.licence, source.attribution) for source in plan.sources}
    assert given == {
        "videos/0.mp4": ("CC-BY", "all of us"),
        "videos/1.mp4": ("CC-BY", "Zoë"),
        "c.png": ("CC0", ""),
    }


def test_an_empty_validation_split_is_refused_with_the_cure() -> None:
    message = refusal(videos(3), recipe(validation_fraction=1e-9))
    assert message.startswith("the validation split is empty: 3 groups of sources")
    assert "validation_fraction (0 for no validation split)" in message and "--sources" in message
    assert "the train split is empty" in refusal(videos(3), recipe(validation_fraction=1))


def test_a_fraction_of_0_wants_no_validation_split() -> None:
    plan = make_plan(videos(3), [], recipe(validation_fraction=0), 0)
    assert set(split_of(plan).values()) == {"train"}


def test_a_validation_split_by_the_list_alone_is_made() -> None:
    plan = make_plan(videos(3), [rule("videos/0*", split="validation")], recipe(), 0)
    assert Counter(split_of(plan).values()) == {"train": 2, "validation": 1}


def test_where_nothing_is_usable_the_reasons_are_counted() -> None:
    items = [
        broken("a.png", "too_small", Status.FILTERED, identity("a")),
        broken("b.png", "too_small", Status.FILTERED, identity("b")),
        broken("c.png", "corrupt"),
    ]
    message = refusal(items, recipe())
    assert message.startswith("of 3 sources, none can be used (2 too_small, 1 corrupt): give")
    assert "64x64 pixels" in message


def test_nothing_at_all_is_refused_too() -> None:
    assert "of 0 sources, none can be used" in refusal([], recipe())


# Order


def test_the_order_of_the_input_does_not_matter() -> None:
    items = [
        *images(15, spans=((0, 3), (5, 2))),
        *videos(10, spans=((0, 8), (8, 9))),
        *(video(f"{n}_{side}.mp4") for n in range(3) for side in "lr"),
        *(image(f"copy/{n}.png", content=f"photos/{n}-夜.png") for n in range(5)),
        broken("bad.png", "corrupt"),
    ]
    rules = [rule("photos/1*", licence="CC0"), rule("videos/2*", group="g")]
    small = SPLIT.model_copy(update={"shard_mib": 0.2})
    plan = make_plan(items, rules, small, 5)
    assert len(plan.shards) > 5
    for seed in range(5):
        shuffled = random.Random(seed).sample(items, len(items))
        assert make_plan(shuffled, rules, small, 5) == plan


def test_another_seed_is_another_order() -> None:
    first, second = (make_plan(videos(20), [], recipe(), seed) for seed in (0, 1))
    assert [row.key for row in first.samples] != [row.key for row in second.samples]
    assert {row.key for row in first.samples} == {row.key for row in second.samples}


# Clips


def test_every_span_of_a_video_is_a_clip_with_its_patches() -> None:
    items = [video("a.mp4", ((0, 8), (8, 11)), fps=24.0)]
    plan = make_plan(items, [], recipe(clips={"patches": 3}), 0)
    rows = sorted(plan.samples, key=lambda row: row.clip)
    assert [(row.clip, row.patch, row.spans[0].start) for row in rows] == [
        (0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 0, 8), (4, 1, 8), (5, 2, 8),
    ]  # fmt: skip
    assert {row.kind for row in rows} == {SampleKind.CLIP}
    assert {row.group for row in rows} == {identity("a.mp4")}
    assert len({row.key for row in rows}) == 6


def test_a_small_picture_gives_as_many_patches_as_fit() -> None:
    four = recipe(clips={"patches": 4})
    sizes = {(64, 64): 1, (127, 127): 1, (128, 64): 2, (192, 256): 4}
    for (height, width), count in sizes.items():
        plan = make_plan([video("a.mp4", height=height, width=width)], [], four, 0)
        assert len(plan.samples) == count


def test_pre_downscale_counts_before_the_patches() -> None:
    halved = recipe(
        clips={"patches": 9}, hr={"patch_height": 64, "patch_width": 64, "pre_downscale": 2}
    )
    plan = make_plan([video("a.mp4", height=256, width=256)], [], halved, 0)
    assert len(plan.samples) == 4


def test_whole_frames_give_one_patch() -> None:
    whole = recipe(clips={"patches": 4}, hr={"patch_height": 0, "patch_width": 0})
    (row,) = make_plan([video("a.mp4", height=75, width=101)], [], whole, 0).samples
    hr, lr = 72 * 96, 72 * 96 / 16
    assert row.estimated_bytes == pytest.approx(8 * (hr + 0.5 * lr))


def test_patches_of_a_clip_stay_together() -> None:
    items = videos(12, spans=((0, 8), (8, 8), (16, 8)))
    rows = make_plan(items, [], recipe(clips={"patches": 4}), 0).samples
    for start in range(0, len(rows), 4):
        together = rows[start : start + 4]
        assert len({row.spans[0].model_dump_json() for row in together}) == 1
        assert [row.patch for row in together] == [0, 1, 2, 3]
    starts = [rows[k].spans[0].source_id for k in range(0, len(rows), 4)]
    assert any(starts[k] != starts[k + 1] for k in range(len(starts) - 1))


# Packs


def cells_of(rows: Sequence[PlannedSample]) -> Counter[tuple[str, int]]:
    return Counter(
        (span.source_id, cell)
        for row in rows
        for span in row.spans
        for cell in range(span.start, span.start + span.count)
    )


def test_packs_take_every_cell_once_and_the_last_is_shorter() -> None:
    items = [image(f"{n}.png", ((0, 2), (4, 3))) for n in range(7)]
    rows = make_plan(items, [], recipe(pseudo_video={"frames": 8}), 0).samples
    sizes = sorted(sum(span.count for span in row.spans) for row in rows)
    assert sizes == [35 - 4 * 8, 8, 8, 8, 8]
    expected = {(identity(f"{n}.png"), cell) for n in range(7) for cell in (0, 1, 4, 5, 6)}
    assert cells_of(rows) == dict.fromkeys(expected, 1)
    assert {(row.kind, row.clip, row.patch) for row in rows} == {(SampleKind.PSEUDO_VIDEO, 0, 0)}


def test_packs_that_come_out_even_leave_no_empty_one() -> None:
    items = [image(f"{n}.png", ((0, 4),)) for n in range(4)]
    rows = make_plan(items, [], recipe(pseudo_video={"frames": 8}), 0).samples
    assert [sum(span.count for span in row.spans) for row in rows] == [8, 8]


def test_a_single_image_of_a_single_cell_is_a_pack() -> None:
    (row,) = make_plan([image("a.png", ((3, 1),))], [], recipe(), 0).samples
    assert [(span.start, span.count) for span in row.spans] == [(3, 1)]
    assert row.group == row.key and row.shard == "train-000000"


def test_a_large_image_is_cut_into_several_packs() -> None:
    items = [image("a.png", ((0, 21),))]
    rows = make_plan(items, [], recipe(pseudo_video={"frames": 8}), 0).samples
    counts = sorted(span.count for row in rows for span in row.spans)
    assert counts == [5, 8, 8] and set(cells_of(rows).values()) == {1}


def test_a_pack_has_one_split_one_licence_and_one_patch_size() -> None:
    licences = [rule("photos/1*", licence="CC0"), rule("photos/2*", licence="CC-BY")]
    items = [*images(30), *(image(f"small/{n}.png", height=72, width=80) for n in range(10))]
    whole = recipe(
        validation_fraction=0.4,
        hr={"patch_height": 0, "patch_width": 0},
        pseudo_video={"frames": 5},
    )
    plan = make_plan(items, licences, whole, 0)
    sources = {source.source_id: source for source in plan.sources}
    seen = set()
    for row in plan.samples:
        parts = [sources[span.source_id] for span in row.spans]
        assert {source.split for source in parts} == {row.split}
        assert {source.licence for source in parts} == {row.licence}
        assert len({(source.height, source.width) for source in parts}) == 1
        seen.add((row.split, row.licence))
    assert len(seen) == 6
    assert len(cells_of(plan.samples)) == 40 * 4


def test_packs_are_no_part_of_clips() -> None:
    plan = make_plan([*images(4), *videos(3)], [], recipe(), 0)
    assert Counter(row.kind for row in plan.samples) == {
        SampleKind.CLIP: 3,
        SampleKind.PSEUDO_VIDEO: 1,
    }
    for row in plan.samples:
        assert len(row.spans) == (4 if row.kind is SampleKind.PSEUDO_VIDEO else 1)


def test_a_folder_of_frames_is_a_clip() -> None:
    (row,) = make_plan([probed("clip", SourceKind.FRAMES, ((0, 7),))], [], recipe(), 0).samples
    assert row.kind is SampleKind.CLIP


# Camera clips

CAMERA = recipe(pseudo_video={"packing": "camera", "frames": 6})


def test_every_usable_cell_of_an_image_is_a_camera_clip() -> None:
    plan = make_plan([image("a.png", ((0, 2), (5, 1))), *videos(1)], [], CAMERA, 0)
    rows = sorted(
        (row for row in plan.samples if row.kind is SampleKind.CAMERA), key=lambda row: row.clip
    )
    assert len(plan.samples) == 4
    assert [(row.clip, row.patch) for row in rows] == [(0, 0), (1, 1), (2, 5)]
    for row in rows:
        (span,) = row.spans
        assert (span.source_id, span.start, span.count) == (identity("a.png"), 0, 6)
        assert row.group == identity("a.png")
        assert row.estimated_bytes == round(6 * 64 * 64 * (1 + 0.5 / 16))


def test_camera_clips_have_the_split_and_licence_of_their_image() -> None:
    rules = [rule("photos/1*", licence="CC0"), rule("photos/2*", group="two")]
    split = CAMERA.model_copy(update={"validation_fraction": 0.4})
    plan = make_plan(images(40), rules, split, 0)
    sources = {source.source_id: source for source in plan.sources}
    assert len(plan.samples) == 40 * 4
    assert {row.split for row in plan.samples} == {"train", "validation"}
    for row in plan.samples:
        source = sources[row.spans[0].source_id]
        assert (row.split, row.licence) == (source.split, source.licence)
        assert row.group == source.group
    assert {row.group for row in plan.samples if row.group == "two"}


def test_camera_clips_of_an_image_stay_together_and_are_read_once() -> None:
    rows = make_plan(images(12), [], CAMERA, 0).samples
    for start in range(0, len(rows), 4):
        together = rows[start : start + 4]
        assert len({row.spans[0].model_dump_json() for row in together}) == 1
        assert [row.clip for row in together] == [0, 1, 2, 3]
    assert len({row.key for row in rows}) == len(rows)


def test_intra_packs_are_planned_like_patches() -> None:
    plans = [
        make_plan(images(9), [], recipe(pseudo_video={"packing": packing, "frames": 5}), 0)
        for packing in ("patches", "intra")
    ]
    assert plans[0] == plans[1]


# Keys and shards


def test_keys_are_unique_and_fit_for_a_shard() -> None:
    items = [*videos(30, spans=((0, 8), (8, 8))), *images(50)]
    given = recipe(clips={"patches": 4}, pseudo_video={"frames": 3})
    keys = [row.key for row in make_plan(items, [], given, 0).samples]
    assert len(set(keys)) == len(keys) == 30 * 2 * 4 + 67
    assert all(key.isascii() and "." not in key and key == key.lower() for key in keys)


def test_shards_are_filled_up_to_their_size_and_counted_per_split() -> None:
    given = recipe(validation_fraction=0.3, shard_mib=0.2)
    plan = make_plan(videos(60), [], given, 0)
    names = [rows[0].shard for rows in plan.shards]
    assert names == sorted(set(names))
    for split in ("train", "validation"):
        of_split = [name for name in names if name.startswith(split)]
        assert of_split == [f"{split}-{number:06d}" for number in range(len(of_split))]
        assert of_split
    sizes = [sum(row.estimated_bytes for row in rows) for rows in plan.shards]
    assert max(sizes) <= 0.2 * 2**20
    one = plan.samples[0].estimated_bytes
    full = [s for s, rows in zip(sizes, plan.shards, strict=True) if rows[0].split == "train"][:-1]
    assert min(full) + one > 0.2 * 2**20
    for rows in plan.shards:
        assert {row.split for row in rows} == {rows[0].shard.split("-")[0]}


def test_a_sample_larger_than_a_shard_has_one_of_its_own() -> None:
    plan = make_plan(videos(5), [], recipe(shard_mib=0.0001), 0)
    assert [len(rows) for rows in plan.shards] == [1] * 5


def test_each_split_has_a_shard_however_small() -> None:
    plan = make_plan(videos(2), [rule("videos/0*", split="validation")], recipe(), 0)
    assert [row.shard for row in plan.samples] == ["train-000000", "validation-000000"]


def test_more_streams_weigh_more() -> None:
    streams = [{"name": f"s{number}"} for number in range(4)]
    one, four = (
        make_plan(videos(1), [], given, 0).samples[0].estimated_bytes
        for given in (recipe(), recipe(streams=streams))
    )
    assert one == round(8 * 64 * 64 * (1 + 0.5 / 16))
    assert four == round(8 * 64 * 64 * (1 + 4 * 0.5 / 16))


def test_of_several_matching_rules_the_first_that_says_something_counts() -> None:
    items = [video("a/1.mp4"), video("a/2.mp4"), video("b/3.mp4")]
    rules = [
        rule("*/1.mp4", split="validation"),
        rule("a/*", licence="CC0-1.0"),
        rule("*", split="train", licence="other"),
    ]
    plan = make_plan(items, rules, recipe(), 0)
    told = {s.uris[0]: (s.split, s.licence) for s in plan.sources}
    assert told == {
        "a/1.mp4": ("validation", "CC0-1.0"),
        "a/2.mp4": ("train", "CC0-1.0"),
        "b/3.mp4": ("train", "other"),
    }


def test_a_copy_of_one_picture_of_a_pair_does_not_part_the_pair() -> None:
    # The copy comes first in order of uris, and says nothing of the pair by its own place.
    pair = [image("z_left.png", content="left"), image("z_right.png", content="right")]
    copy = image("a.png", content="left")
    groups = groups_by_uri([copy, *pair])
    assert len(set(groups.values())) == 1


def test_a_long_chain_of_what_lies_beside_each_other_is_one_group() -> None:
    items = [
        video(f"{number + side}_{name}.mp4", content=f"content {number}")
        for number in range(200)
        for side, name in enumerate(("left", "right"))
    ]
    random.Random(0).shuffle(items)
    groups = groups_by_uri([*items, video("apart.mp4")])
    first = min(identity(f"content {number}") for number in range(200))
    assert groups.pop("apart.mp4") == identity("apart.mp4")
    assert set(groups.values()) == {first}


def test_sources_are_written_in_parts_and_samples_as_often_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = [image(f"{n}.png", width=256 + n, size=n) for n in range(600)]
    given = recipe(shard_mib=0.5)
    at_once = make_plan(items, [], given, 0)
    monkeypatch.setattr(planning, "_GROUP_ROWS", 7)
    tables = (table_of(Probed, [item]) for item in items)
    plan = planning.make_plan(tables, [], given, 0)
    parts = list(plan.sources())
    assert [part.num_rows for part in parts] == [7] * 85 + [5]
    rows = [Source.model_validate(row) for part in parts for row in part.to_pylist()]
    assert rows == at_once.sources
    sizes = {source.uris[0]: (source.width, source.size) for source in rows}
    assert sizes == {f"{n}.png": (256 + n, n) for n in range(600)}
    assert list(plan.shards()) == list(plan.shards()) == at_once.shards


# Generations


def added(
    before: Planned,
    items: Sequence[Probed],
    given: Recipe = SPLIT,
    rules: Sequence[SourceRule] = (),
    policy: LicencePolicy = ANY_LICENCE,
) -> Planned:
    plan = make_plan(items, rules, given, 0, policy, before)
    assert plan.samples[: len(before.samples)] == before.samples
    assert plan.sources[: len(before.sources)] == before.sources
    return plan


def stereo(side: str) -> list[Probed]:
    return [video(f"{number}_{side}.mp4") for number in range(20)]


def test_what_belongs_to_an_earlier_source_has_its_group_and_split() -> None:
    before = make_plan(stereo("left"), [], SPLIT, 0)
    plan = added(before, stereo("right"))
    told = {uri: (s.group, s.split) for s in plan.sources for uri in s.uris}
    assert {split for _, split in told.values()} == {"train", "validation"}
    for number in range(20):
        assert told[f"{number}_right.mp4"] == told[f"{number}_left.mp4"]
    assert [s.generation for s in plan.sources] == [0] * 20 + [1] * 20


def test_earlier_groups_of_the_source_list_are_remembered() -> None:
    rules = [rule("0_left*", group="a"), rule("0_right*", group="b")]
    before = make_plan([*stereo("left"), *stereo("right")], rules, SPLIT, 0)
    plan = added(before, [video("new.mp4")], rules=[rule("new*", group="b")])
    splits = {uri: (s.group, s.split) for s in plan.sources for uri in s.uris}
    assert splits["new.mp4"] == splits["0_left.mp4"] == splits["0_right.mp4"]
    assert splits["new.mp4"][0] == "a"


def test_the_source_list_is_about_new_sources_only() -> None:
    before = make_plan(videos(20), [], SPLIT, 0)
    rules = [rule("*", group="g", split="validation", licence="CC0")]
    plan = added(before, [video("x.mp4"), video("y.mp4")], rules=rules)
    new = [source for source in plan.sources if source.generation]
    assert {(s.group, s.split, s.licence) for s in new} == {("g", "validation", "CC0")}


def test_an_equal_source_at_a_new_place_binds_what_lies_beside_it() -> None:
    before = make_plan(videos(20), [], SPLIT, 0)
    splits = split_of(before)
    for number in range(20):
        copy = video("copy_left.mp4", content=f"videos/{number}.mp4")
        plan = added(before, [copy, video("copy_right.mp4")])
        assert split_of(plan)["copy_right.mp4"] == splits[f"videos/{number}.mp4"]


def test_what_would_join_both_splits_is_refused() -> None:
    before = make_plan(videos(20), [], SPLIT, 0)
    by_split = {split: uri for uri, split in split_of(before).items()}
    left, right = by_split["train"], by_split["validation"]
    joining = [
        video("pair_left.mp4", content=left),
        video("pair_right.mp4", content=right),
        video("pair.mp4"),
    ]
    with pytest.raises(UserError) as caught:
        added(before, joining)
    assert f"{left} into train and {right} into validation" in str(caught.value)
    assert "leave out what joins them, such as pair.mp4" in str(caught.value)
    rules = [rule("other*", split="validation")]
    beside = [video("other_left.mp4", content=left), video("other_right.mp4")]
    with pytest.raises(UserError, match=f"{left} into train and other_right.mp4 into val"):
        added(before, beside, rules=rules)


def test_shards_are_numbered_on_and_packs_hold_what_is_new() -> None:
    given = recipe(validation_fraction=0.3, shard_mib=0.2, pseudo_video={"frames": 3})
    before = make_plan([*videos(30), *images(10)], [], given, 0)
    new = [*(video(f"new/{n}.mp4") for n in range(30)), *(image(f"new/{n}.png") for n in range(10))]
    plan = added(before, new, given)
    assert plan.shards[: len(before.shards)] == before.shards
    names = [rows[0].shard for rows in plan.shards]
    for split in ("train", "validation"):
        of_split = [name for name in names if name.startswith(split)]
        assert of_split == [f"{split}-{number:06d}" for number in range(len(of_split))]
    generations = {source.source_id: source.generation for source in plan.sources}
    for row in plan.samples:
        assert {generations[span.source_id] for span in row.spans} == {row.generation}
    assert plan.committed.num_generations == 2
    for shuffled in (list(reversed(new)), [*videos(30), *images(10), *new]):
        assert make_plan(shuffled, [], given, 0, before=before) == plan


def test_a_licence_keeps_the_name_that_its_shards_have() -> None:
    policy = LicencePolicy(separate=True)
    before = make_plan(videos(2), [rule("*", licence="CC BY")], recipe(), 0, policy)
    rules = [rule("a*", licence="CC BY"), rule("b*", licence="cc-by"), rule("c*", licence="X")]
    new = [video("a.mp4"), video("b.mp4"), video("c.mp4")]
    plan = added(before, new, recipe(), rules, policy)
    shards = {row.licence: row.shard for row in plan.samples if row.generation}
    assert shards["CC BY"] == "train-cc-by-000001" and shards["X"] == "train-x-000000"
    assert shards["cc-by"].startswith("train-cc-by-") and shards["cc-by"].endswith("-000000")
    assert len(shards["cc-by"]) > len("train-cc-by-000000")


def test_both_splits_are_asked_of_the_whole_and_not_of_the_addition() -> None:
    before = make_plan(videos(20), [], SPLIT, 0)
    plan = added(before, [video("x.mp4")], rules=[rule("x*", split="train")])
    assert len(plan.samples) == 21


def test_what_failed_before_is_replaced_only_where_it_is_tried_again() -> None:
    failed = [
        broken("a.mp4", "unreadable", Status.FAILED_RETRYABLE),
        broken("b.mp4", "unreadable", Status.FAILED_RETRYABLE),
        broken("c.mp4", "corrupt"),
    ]
    before = make_plan([*videos(3), *failed], [], recipe(), 0)
    rows = [video("a.mp4"), broken("c.mp4", "corrupt")]
    plan = make_plan(rows, [], recipe(), 0, before=before)
    told = {s.uris[0]: (s.reason, s.generation) for s in plan.sources if "/" not in s.uris[0]}
    assert told == {"a.mp4": ("", 1), "b.mp4": ("unreadable", 0), "c.mp4": ("corrupt", 0)}


def test_an_addition_of_nothing_new_is_refused() -> None:
    before = make_plan(videos(3), [], recipe(), 0)
    with pytest.raises(UserError, match="nothing to add"):
        added(before, videos(2), recipe())
    with pytest.raises(UserError, match=r"of 1 new source, none can be used \(1 corrupt\)"):
        added(before, [*videos(2), broken("c.png", "corrupt")], recipe())
