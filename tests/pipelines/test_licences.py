"""Which licences get into a dataset, and into which of its shards."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.audit.dataset import open_dataset
from pipelines.corpus import SourceRule
from pipelines.errors import UserError
from pipelines.licences import LicencePolicy, licence_slugs, spdx_identifier
from pipelines.options import parse_options
from pipelines.synthesize.__main__ import main
from schemas.record import Status
from tests.pictures import texture
from tests.pipelines import small
from tests.pipelines.planning import Planned, make_plan
from tests.pipelines.test_plan import broken, identity, images, recipe, rule, split_of, videos

RULES = [
    rule("videos/0*", licence="CC0-1.0"),
    rule("videos/1*", licence="CC-BY-4.0"),
    rule("videos/2*", licence="CC-BY-NC-4.0"),
]


def plan_of(allowed: Sequence[str], rules: Sequence[SourceRule] = RULES, **others: Any) -> Planned:
    policy = LicencePolicy(allowed=tuple(allowed), separate=others.pop("separate", False))
    return make_plan([*videos(5), *images(4)], rules, recipe(**others), 0, policy)


def test_sources_of_other_licences_and_of_none_are_counted_rows() -> None:
    plan = plan_of(["CC0-1.0", "CC-BY-4.0"])
    left_out = {s.uris[0]: s for s in plan.sources if s.status is not Status.OK}
    assert sorted(left_out) == sorted(
        [*(f"videos/{n}.mp4" for n in (2, 3, 4)), *(f"photos/{n}-夜.png" for n in range(4))]
    )
    row = left_out["videos/2.mp4"]
    assert (row.status, row.stage, row.reason) == (Status.FILTERED, "plan", "licence")
    assert row.detail == "the licence is 'CC-BY-NC-4.0', allowed: CC0-1.0, CC-BY-4.0"
    assert row.licence == "CC-BY-NC-4.0"
    assert left_out["videos/3.mp4"].detail == "the licence is unknown, allowed: CC0-1.0, CC-BY-4.0"
    assert {(s.group, s.split) for s in left_out.values()} == {("", "")}
    assert {sample.licence for sample in plan.samples} == {"CC0-1.0", "CC-BY-4.0"}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("cc0-1.0", {"CC0-1.0"}),
        ("CC-BY-*", {"CC-BY-4.0", "CC-BY-NC-4.0"}),
        ("CC-BY-[0-9]*", {"CC-BY-4.0"}),
        ("CC-BY", None),
    ],
)
def test_licences_are_globs_without_regard_to_case(pattern: str, kept: set[str] | None) -> None:
    if kept is None:  # no part of a name stands for it
        with pytest.raises(UserError):
            plan_of([pattern])
        return
    assert {sample.licence for sample in plan_of([pattern]).samples} == kept


@pytest.mark.parametrize("licence", ["[weird]", "a*", "What? [v2]"])
def test_a_licence_that_looks_like_a_glob_goes_by_its_name(licence: str) -> None:
    plan = plan_of([licence.upper()], [rule("videos/0*", licence=licence)])
    assert {sample.licence for sample in plan.samples} == {licence}


def test_each_pattern_tells_what_it_takes() -> None:
    policy = LicencePolicy(allowed=("CC-BY-*", "CC0-1.0"))
    assert policy.taken(source.licence for source in plan_of([]).sources) == {
        "CC-BY-*": ["CC-BY-4.0", "CC-BY-NC-4.0"],
        "CC0-1.0": ["CC0-1.0"],
    }


def test_where_licences_leave_nothing_the_message_tells_of_both_options() -> None:
    only_one = broken("b.png", "too_small", Status.FILTERED, identity("b"))
    rules = [rule("b.png", licence="CC0-1.0")]
    policy = LicencePolicy(allowed=("CC0-1.0",))
    with pytest.raises(UserError) as caught:
        make_plan([*videos(3), only_one], rules, recipe(), 0, policy)
    told = str(caught.value)
    assert "none can be used (3 licence, 1 too_small): allow more with --licences" in told
    assert "(--sources); or give images of at least" in told


def test_a_licence_that_no_source_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        plan_of(["CC0-1.0", "CC-BY-5.0"])
    assert str(caught.value) == (
        "--licences names 'CC-BY-5.0', which no source has: the source list (--sources) has "
        "'CC-BY-4.0', 'CC-BY-NC-4.0', 'CC0-1.0'"
    )
    with pytest.raises(UserError, match="gives no licences"):
        plan_of(["CC0-1.0"], [])


def test_the_policy_moves_no_source_to_the_other_split() -> None:
    items = videos(40)
    rules = [rule(f"videos/{n}*", licence="CC0-1.0") for n in (1, 2, 3)]
    halves = recipe(validation_fraction=0.5)
    everything = split_of(make_plan(items, rules, halves, 0))
    some = split_of(make_plan(items, rules, halves, 0, LicencePolicy(allowed=("CC0-1.0",))))
    used = {uri: split for uri, split in some.items() if split}
    assert 0 < len(used) < len(items)
    assert used.items() <= everything.items()


def test_no_shard_holds_two_licences_if_they_are_separated() -> None:
    plan = plan_of([], separate=True)
    by_shard = defaultdict(set)
    for row in plan.samples:
        by_shard[row.shard].add(row.licence)
    assert by_shard == {
        "train-cc0-1-0-000000": {"CC0-1.0"},
        "train-cc-by-4-0-000000": {"CC-BY-4.0"},
        "train-cc-by-nc-4-0-000000": {"CC-BY-NC-4.0"},
        "train-unknown-000000": {""},
    }
    together = plan_of([])
    assert {row.shard for row in together.samples} == {"train-000000"}
    assert sorted(row.key for row in together.samples) == sorted(row.key for row in plan.samples)


def test_different_licences_have_different_names() -> None:
    licences = ["CC BY 4.0", "CC-BY-4.0", "", "unknown", "夜", "x" * 99, "x" * 98, "MIT"]
    slugs = licence_slugs(licences, {})
    assert len(set(slugs.values())) == len(licences)
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for slug in slugs.values())
    assert (slugs["MIT"], slugs["夜"]) == ("mit", "other")
    assert licence_slugs(reversed(licences), {}) == slugs


@pytest.mark.parametrize(
    ("licence", "known"), [("cc-by-4.0", "CC-BY-4.0"), ("CC BY 4.0", ""), ("", "")]
)
def test_known_licences_have_their_spdx_name(licence: str, known: str) -> None:
    assert spdx_identifier(licence) == known


def test_the_options_arrive() -> None:
    options = parse_options(["--licences", "MIT, CC0-1.0,,MIT", "--separate-licences"])
    assert options.licences == LicencePolicy(allowed=("CC0-1.0", "MIT"), separate=True)
    assert parse_options([]).licences == LicencePolicy()
    with pytest.raises(UserError, match="--licences names none"):
        parse_options(["--licences", " ,"])


def test_the_command_obeys_and_keeps_policies_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "in"
    corpus.mkdir()
    for name in "abc":
        Image.fromarray(texture(140, 72, ord(name))).save(corpus / f"photo-{name}.png")
    sources = tmp_path / "list.csv"
    sources.write_text("pattern,licence\n*-a.png,CC0-1.0\n*-b.png,CC-BY-4.0\n")
    options = (f"--sources={sources}", "--licences=CC0-1.0,CC-BY-[0-9]*")
    output = small.synthesize(corpus, tmp_path / "made", small.RECIPE, *options)
    printed = capsys.readouterr().out
    assert "  licences  CC-BY-4.0 1, CC0-1.0 1\n" in printed
    assert "  allowed   CC-BY-[0-9]*: CC-BY-4.0\n  allowed   CC0-1.0: CC0-1.0\n" in printed
    assert open_dataset(output).manifest.failures == {"licence": 1}
    assert {row.licence for row in small.samples(output)} == {"CC0-1.0", "CC-BY-4.0"}

    run = ["--runner=DirectRunner", f"--input={corpus}", f"--output={output}"]
    run += [f"--recipe={tmp_path / 'made.toml'}", "--workers=1"]
    assert main([*run, *options, "--separate-licences"]) == 2
    assert "made with other --licences or --separate-licences" in capsys.readouterr().err
