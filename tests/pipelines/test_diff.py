"""Two datasets compared: what is said of each way in which they can differ."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.audit.dataset import open_dataset
from pipelines.diff.__main__ import compare_datasets, main
from pipelines.diff.report import Comparison, Difference
from pipelines.layout import Layout
from pipelines.shards import describe_file
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.record import Status
from schemas.sample import Member, SampleRow, StreamRow
from schemas.tables import R, read_table, write_table
from tests.pictures import moving_clip, texture
from tests.pipelines.small import RECIPE, changed, samples, synthesize
from tests.synthetic import write_video


@pytest.fixture(scope="module")
def dataset(plain: Path) -> Path:
    return plain


@pytest.fixture(scope="module")
def better(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but for a lower limit of the rate factor."""
    recipe = changed(("max = 38", "max = 28"))
    return synthesize(corpus, tmp_path_factory.mktemp("better") / "set", recipe)


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def compare(a: Path, b: Path) -> Comparison:
    return compare_datasets(open_dataset(a), open_dataset(b))


def causes(item: Difference) -> dict[str, str]:
    return {cause.cause: cause.detail for cause in item.causes}


def remake(corpus: Path, tmp_path: Path, recipe: str = RECIPE, *others: str) -> Path:
    """Another dataset, of a corpus that has the same name."""
    return synthesize(corpus, tmp_path / "other", recipe, *others)


def edit(dataset: Path, table: str, record: type[R], change: Callable[[R], R]) -> None:
    """Change the rows of a table, and the manifest with it."""
    layout, manifest = Layout(dataset), read_manifest(dataset)
    (shard,) = manifest.shards
    path = layout.table(table, shard.shard)
    rows = [change(row) for row in read_table(str(path), record)]
    write_table(str(path), record, rows)
    name = layout.relative(path)
    files = [describe_file(path, name, len(rows)) if f.path == name else f for f in shard.files]
    shard = shard.model_copy(update={"files": files})
    layout.manifest.write_text(manifest.model_copy(update={"shards": [shard]}).model_dump_json())


def edit_first(dataset: Path, names: set[str], **fields: object) -> str:
    """Change the checksums of some members of one sample, and fields of its row."""
    key = samples(dataset)[0].key

    def change(row: SampleRow) -> SampleRow:
        if row.key != key:
            return row
        members = [
            Member(**{**m.model_dump(), "crc32": m.crc32 ^ 1}) if m.name in names else m
            for m in row.members
        ]
        return row.model_copy(update={"members": members, **fields})

    edit(dataset, "samples", SampleRow, change)
    return key


def test_equal_datasets_are_equal(
    dataset: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset), str(copied)]) == 0
    printed = capsys.readouterr().out
    assert "equal        4 samples\n" in printed
    assert "different" not in printed and "only in" not in printed


def test_equal_samples_in_other_shards_are_equal(
    corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    """Where a sample lies is no part of it; only the recipe's other key is told."""
    other = remake(corpus, tmp_path, changed(("variants = 1", "variants = 1\nshard_mib = 0.03")))
    assert len(read_manifest(other).shards) > 1
    found = compare(dataset, other)
    assert {item.effect for item in found.differences} == {"metadata only"}
    assert {tuple(causes(item)) for item in found.differences} == {("recipe",)}


def test_other_environments_with_equal_samples_are_told_and_no_difference(
    dataset: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads((copied / "manifest.json").read_text())
    fields["environment"]["libraries"]["av"] = "1.2.3"
    fields["environment"]["encoders"]["h264"] = "x264 core 1"
    (copied / "manifest.json").write_text(json.dumps(fields))
    assert main([str(dataset), str(copied)]) == 0
    printed = capsys.readouterr().out
    assert "equal        4 samples, though the environments differ" in printed
    assert "/ 1.2.3" in printed and "/ x264 core 1" in printed


def test_another_recipe_is_told_by_its_keys_and_draws(dataset: Path, better: Path) -> None:
    found = compare(dataset, better)
    (key,) = found.recipe
    assert key.startswith("streams.1.stages.0.encoders.0.crf.max: 38") and key.endswith("/ 28.0")
    assert (found.num_samples, found.num_equal, len(found.differences)) == ([4, 4], 0, 4)
    for item in found.differences:
        assert item.side == "both" and item.key == item.key_b
        assert item.effect == "LR only"
        assert {"lr:coded", "metadata"} <= set(item.parts) <= {
            "lr:coded", "motion:coded", "metadata",
        }  # fmt: skip
        assert list(causes(item)) == ["recipe", "stream_draw"]
        assert causes(item)["recipe"] == key
        assert causes(item)["stream_draw"].startswith("coded: stages.0.rate_value: ")


def test_another_shared_stage_is_a_scene_draw(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    found = compare(dataset, remake(corpus, tmp_path, changed(("max = 2 }", "max = 3 }"))))
    for item in found.differences:
        assert item.effect == "LR only" and {"lr:noisy", "lr:coded"} <= set(item.parts)
        assert list(causes(item)) == ["recipe", "scene_draw"]
        assert causes(item)["scene_draw"].startswith("stages.0.sigma_x.0: ")


def test_another_seed_is_told(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    found = compare(dataset, remake(corpus, tmp_path, RECIPE, "--seed=7"))
    assert found.seed == [0, 7] and not found.recipe and found.num_equal == 0
    both = [item for item in found.differences if item.side == "both"]
    assert len(both) >= 3
    for item in found.differences:
        assert causes(item)["seed"] == "0 / 7" and "recipe" not in causes(item)
    for item in both:
        assert {"seed", "scene_draw", "stream_draw"} <= causes(item).keys()


def test_a_stream_more_is_told(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    recipe = RECIPE + '[[streams]]\nname = "extra"\n'
    for item in compare(dataset, remake(corpus, tmp_path, recipe)).differences:
        assert item.parts == ["lr:extra", "metadata"]
        assert causes(item)["stream_draw"] == "extra: a stream of B alone"


def test_streams_are_matched_by_name(dataset: Path, copied: Path) -> None:
    def swap(row: StreamRow) -> StreamRow:
        return row.model_copy(update={"stream": 1 - row.stream})

    def rename(row: SampleRow) -> SampleRow:
        names = {
            "lr0.nut": "lr1.nut",
            "lr1.nut": "lr0.nut",
            "mv0.npy": "mv1.npy",
            "mv1.npy": "mv0.npy",
        }
        members = [m.model_copy(update={"name": names.get(m.name, m.name)}) for m in row.members]
        return row.model_copy(update={"members": members})

    edit(copied, "streams", StreamRow, swap)
    edit(copied, "samples", SampleRow, rename)
    assert all(not item.parts for item in compare(dataset, copied).differences)


def test_a_changed_source_is_recognised_by_its_place(
    corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    write_video(other / "kurz ü.mp4", moving_clip(6, 72, 80, seed=99))
    found = compare(dataset, remake(other, tmp_path))
    (item,) = found.differences
    assert found.num_equal == 3
    assert item.side == "both" and item.key != item.key_b
    assert item.uris == ["corpus/kurz ü.mp4"] and item.effect == "HR and LR"
    (source,) = [row for row in samples(dataset) if row.key == item.key]
    assert causes(item)["source"].startswith(
        f"corpus/kurz ü.mp4: content {source.source_ids[0][:12]} / "
    )
    assert "recipe" not in causes(item) and "unexplained" not in causes(item)


def test_a_pack_of_which_an_image_changed_has_no_other_group(
    corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    Image.fromarray(texture(140, 72, 7)).save(other / "photo-b.png")
    found = compare(dataset, remake(other, tmp_path))
    packs = [item for item in found.differences if any("photo" in uri for uri in item.uris)]
    assert packs and found.num_equal == 3
    for item in packs:
        assert "source" in causes(item) and "source_list" not in causes(item)


def test_packs_of_images_that_are_listed_otherwise(
    corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    sources = tmp_path / "list.csv"
    sources.write_text("pattern,licence\n*/photo-a.png,CC0-1.0\n")
    found = compare(dataset, remake(corpus, tmp_path, RECIPE, f"--sources={sources}"))
    told = {(item.side, *item.uris): causes(item) for item in found.differences}
    a = next(found for found in told if found[0] == "a")
    assert set(told) == {a, ("b", "corpus/photo-a.png"), ("b", "corpus/photo-b.png")}
    expected = {"source_list": "corpus/photo-a.png: licence:  / CC0-1.0"}
    assert told[a] == told["b", "corpus/photo-a.png"] == expected
    assert list(told["b", "corpus/photo-b.png"]) == ["plan"]  # its neighbour has left


def test_other_pixels_are_found_where_short_checksums_are_equal(
    dataset: Path, copied: Path
) -> None:
    key = samples(dataset)[0].key

    def change(row: StreamRow) -> StreamRow:
        is_it = (row.key, row.name) == (key, "coded")
        return row.model_copy(update={"decoded_sha256": "0"}) if is_it else row

    edit(copied, "streams", StreamRow, change)
    (item,) = compare(dataset, copied).differences
    assert (item.key, item.parts, item.effect) == (key, ["lr:coded"], "LR only")


def test_sources_that_are_gone_left_out_or_new(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    (other / "long.mp4").unlink()
    (other / "kurz ü.mp4").write_text("no video any more")
    write_video(other / "new.mp4", moving_clip(6, 72, 80, seed=50))
    found = compare(dataset, remake(other, tmp_path))
    told = Counter((item.side, causes(item)["source"]) for item in found.differences)
    assert told == {
        ("a", "corpus/long.mp4 is not among the other's sources"): 2,
        ("a", "corpus/kurz ü.mp4 is left out of the other: not_media"): 1,
        ("b", "corpus/new.mp4 is not among the other's sources"): 1,
    }
    assert found.num_equal == 1


def test_other_frames_of_a_source_are_told(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    longer = changed(("[clips]\nframes = 6", "[clips]\nframes = 12"))
    found = compare(dataset, remake(corpus, tmp_path, longer))
    in_both = [item for item in found.differences if "span" in causes(item)]
    alone = [item for item in found.differences if item.side == "a"]
    assert [causes(item)["span"] for item in in_both] == ["spans.0.count: 6 / 12"]
    assert [item.key[-5:] for item in alone] == ["00001"]
    assert "recipe" in causes(alone[0])


def test_a_sample_that_one_could_not_make(dataset: Path, copied: Path) -> None:
    key = edit_first(
        copied, set(), status=Status.FAILED_RETRYABLE, reason="worker_died", members=[]
    )
    (item,) = compare(dataset, copied).differences
    assert (item.key, item.parts, item.effect) == (key, [], "made in one alone")
    assert causes(item) == {"outcome": "ok / failed-retryable (worker_died)"}


@pytest.mark.parametrize(
    ("members", "fields", "effect", "cause", "detail"),
    [
        ({"hr.zip"}, {}, "HR only", "unexplained", "pipelines.verify"),
        ({"lr1.nut", "json"}, {}, "bytes of LR only", "unexplained", "hosts in logs"),
        ({"mv1.npy"}, {}, "bytes of LR only", "unexplained", ""),
        ({"json"}, {"licence": "CC0-1.0"}, "metadata only", "source_list", "licence:  / CC0-1.0"),
        ({"json"}, {"fps": 12.5}, "metadata only", "fields", "fps: 0.0 / 12.5"),
        ({"json"}, {}, "metadata only", "fields", "of frames or of HR tiles"),
    ],
)
def test_what_differs_though_all_behind_it_is_equal(
    dataset: Path,
    copied: Path,
    members: set[str],
    fields: dict[str, object],
    effect: str,
    cause: str,
    detail: str,
) -> None:
    key = edit_first(copied, members, **fields)
    (item,) = compare(dataset, copied).differences
    assert (item.key, item.effect) == (key, effect)
    assert list(causes(item)) == [cause]
    assert detail in causes(item)[cause]


def test_another_encoder_build_is_told(dataset: Path, copied: Path) -> None:
    key = edit_first(copied, {"lr1.nut", "json"})

    def change(row: StreamRow) -> StreamRow:
        if (row.key, row.name) != (key, "coded"):
            return row
        return row.model_copy(update={"encoder_build": "x264 1", "decoded_sha256": "0"})

    edit(copied, "streams", StreamRow, change)
    (item,) = compare(dataset, copied).differences
    assert item.parts == ["lr:coded", "metadata"] and item.effect == "LR only"
    assert list(causes(item)) == ["encoder_build"]
    assert causes(item)["encoder_build"].endswith("/ x264 1")


def test_other_libraries_explain_what_nothing_else_does(dataset: Path, copied: Path) -> None:
    edit_first(copied, {"hr.zip", "json"})
    fields = json.loads((copied / "manifest.json").read_text())
    fields["environment"]["libraries"]["pillow"] = "1.0"
    (copied / "manifest.json").write_text(json.dumps(fields))
    (item,) = compare(dataset, copied).differences
    assert list(causes(item)) == ["libraries"] and causes(item)["libraries"].endswith("/ 1.0")


def test_pixels_and_logs_are_not_needed(copied: Path, better: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(better, tmp_path / "other"))
    expected = compare(copied, other)
    for folder in (copied, other):
        shutil.rmtree(folder / "data")
        shutil.rmtree(folder / "logs")
    assert compare(copied, other) == expected and len(expected.differences) == 4


def test_the_report_counts_shows_examples_and_is_written_whole(
    dataset: Path, better: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "diff.json"
    assert main([str(dataset), str(better), "--json", str(file), "--limit", "1"]) == 1
    printed = capsys.readouterr().out
    assert "different    4 samples" in printed
    assert "in         LR only 4" in printed and "by         recipe 4, stream_draw 4" in printed
    assert printed.count("lr:coded") == 1 and printed.endswith("and 3 more\n")
    written = Comparison.model_validate_json(file.read_text())
    assert [item.key for item in written.differences] == sorted(r.key for r in samples(dataset))


def test_mistakes_are_one_message(
    dataset: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_first(copied, {"json"})
    assert main([str(dataset), str(tmp_path)]) == 2
    assert "has no manifest.json" in capsys.readouterr().err
    assert main([str(dataset), str(copied), "--limit", "-1"]) == 2
    assert "--limit is -1" in capsys.readouterr().err
    assert main([str(dataset), str(copied), "--json", str(tmp_path / "no" / "file")]) == 2
    assert "cannot write the report" in capsys.readouterr().err
    write_table(str(Layout(copied).plan), PlannedSample, [])
    assert main([str(dataset), str(copied)]) == 2
    assert "is in one table and missing in another" in capsys.readouterr().err
    table = next((copied / "index" / "streams").iterdir())
    table.write_bytes(table.read_bytes()[:-30])
    assert main([str(dataset), str(copied)]) == 2
    told = capsys.readouterr().err
    assert "is missing or damaged" in told and "copy the dataset again" in told
    assert "Traceback" not in told
