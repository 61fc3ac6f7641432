"""A dataset with HR as JPEG: exact in validation, and no command takes the one for the other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.audit.dataset import open_dataset
from pipelines.audit.pixels import check_pixels
from pipelines.diff.__main__ import compare_datasets
from pipelines.export.__main__ import main as export
from pipelines.export.tree import GT
from pipelines.materialize.__main__ import main as materialize
from pipelines.pool import shared_pool
from pipelines.publish import main as publish
from pipelines.resynth import main as resynth
from pipelines.verify.__main__ import main as verify
from schemas.manifest import read_manifest
from schemas.plan import PlannedSample
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION
from schemas.sample import Sample
from schemas.tables import read_table
from tests.pipelines.small import changed, make_corpus, samples, synthesize
from tests.pipelines.test_remake import elsewhere, tasks_of
from tests.pipelines.test_verify import Members, rewrite
from transforms.decode import decode_hr
from transforms.tiles import pack_jpeg_tiles, pack_tiles

LOSSY = changed(("pre_downscale = 1\n", "pre_downscale = 1\njpeg_quality = 95\ntile = 48\n"))
EXACT = changed(("pre_downscale = 1\n", "pre_downscale = 1\ntile = 48\n"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a corpus in `in`, and two datasets of it, `lossy` and `exact`."""
    folder = tmp_path_factory.mktemp("place ü")
    make_corpus(folder / "in")
    (folder / "sources.csv").write_text("pattern,split\n*/photo-b.png,validation\n*,train\n")
    for name, recipe in (("lossy", LOSSY), ("exact", EXACT)):
        synthesize(folder / "in", folder / name, recipe, f"--sources={folder / 'sources.csv'}")
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "lossy", tmp_path / "copy"))


def files_of(dataset: Path) -> dict[str, bytes]:
    files = (file for file in dataset.rglob("*") if file.is_file())
    names = {file.relative_to(dataset).as_posix(): file for file in files}
    return {name: f.read_bytes() for name, f in names.items() if not name.startswith("logs")}


def records(dataset: Path) -> dict[str, tuple[Sample, Members]]:
    opened = open_dataset(dataset)
    members = {row.key: opened.members(row) for row in samples(dataset)}
    return {key: (Sample.model_validate_json(of["json"]), of) for key, of in members.items()}


def test_hr_is_jpeg_in_training_and_exact_in_validation(place: Path) -> None:
    lossy, exact = records(place / "lossy"), records(place / "exact")
    assert lossy.keys() == exact.keys()
    for key, (sample, members) in lossy.items():
        plain, expected = exact[key]
        assert (sample.hr_id, sample.split) == (plain.hr_id, plain.split)
        hr, stored = decode_hr(plain, expected["hr.zip"]), decode_hr(sample, members["hr.zip"])
        if sample.split == "validation":
            assert sample.hr_jpeg is None and sample.schema_version == SCHEMA_VERSION
            assert members["hr.zip"] == expected["hr.zip"]
        else:
            assert sample.hr_jpeg is not None and sample.schema_version == LOSSY_HR_VERSION
            error = np.mean((stored.astype(int) - hr) ** 2)
            assert sample.hr_jpeg.quality == 95 and sample.hr_jpeg.mse == error
            assert 10 * np.log10(255**2 / error) > 38
            assert members["hr.zip"].startswith(b"PK") and b".jpg" in members["hr.zip"]
        for name in members.keys() - {"json", "hr.zip"}:
            assert members[name] == expected[name]
    assert {sample.split for sample, _ in lossy.values()} == {"train", "validation"}


def test_the_bytes_do_not_depend_on_the_workers(place: Path, tmp_path: Path) -> None:
    options = (f"--sources={place / 'sources.csv'}", "--workers=2")
    again = synthesize(place / "in", tmp_path / "again", LOSSY, *options)
    assert files_of(again) == files_of(place / "lossy")


def test_the_tables_are_those_of_exact_hr_but_for_the_recipe_and_the_bytes(place: Path) -> None:
    lossy, exact = samples(place / "lossy"), samples(place / "exact")
    for one, other in zip(lossy, exact, strict=True):
        names = {"recipe_sha256", "members"}
        assert one.model_dump(exclude=names) == other.model_dump(exclude=names)


def test_the_plan_expects_less_where_hr_is_jpeg(place: Path) -> None:
    lossy, exact = (
        {row.key: row for row in read_table(str(place / n / "index/plan.parquet"), PlannedSample)}
        for n in ("lossy", "exact")
    )
    for key, row in lossy.items():
        is_less = row.estimated_bytes < exact[key].estimated_bytes
        assert is_less == (row.split == "train")


def test_manifest_card_and_croissant_tell_it(place: Path, recwarn: pytest.WarningsRecorder) -> None:
    told = "HR of the train split is stored as JPEG 4:4:4 of quality 95, which is not exact"
    for name, version, is_told in (
        ("lossy", LOSSY_HR_VERSION, True),
        ("exact", SCHEMA_VERSION, False),
    ):
        assert read_manifest(place / name).schema_version == version
        assert (told in (place / name / "README.md").read_text()) == is_told
        described = json.loads((place / name / "croissant.json").read_text())
        assert (told in described["description"]) == is_told
        assert described["description"] == described["description"].strip()
        assert ("jpeg_quality: 95" in (place / name / "recipe.yaml").read_text()) == is_told


# What checks and makes again


def test_every_grade_finds_it_as_it_should_be(place: Path) -> None:
    assert verify([str(place / "lossy"), "--grade=pixel", "--workers=1"]) == 0


def findings(dataset: Path, *options: str) -> set[tuple[str, str]]:
    report = dataset.parent / "report.json"
    assert verify([str(dataset), f"--json={report}", "--workers=1", *options]) == 1
    return {(one["check"], one["member"]) for one in json.loads(report.read_bytes())["findings"]}


def with_jpeg(sample: Sample, **changes: object) -> Sample:
    if sample.hr_jpeg is None:
        return sample
    return sample.model_copy(update={"hr_jpeg": sample.hr_jpeg.model_copy(update=changes)})


def in_quality(quality: int) -> Callable[[Sample, Members], tuple[Sample, Members]]:
    """HR stored in another quality, and the record says so."""

    def repacked(sample: Sample, members: Members) -> tuple[Sample, Members]:
        hr = decode_hr(sample, members["hr.zip"])
        member, tiles, jpeg = pack_jpeg_tiles(hr, 48, quality)
        changes = {"hr_tiles": tiles, "hr_jpeg": jpeg, "schema_version": LOSSY_HR_VERSION}
        return sample.model_copy(update=changes), {**members, "hr.zip": member}

    return repacked


def as_webp(sample: Sample, members: Members) -> tuple[Sample, Members]:
    """Lossless files of what the JPEG files show, and the record says so."""
    member, tiles = pack_tiles(decode_hr(sample, members["hr.zip"]), 48)
    changes = {"hr_tiles": tiles, "hr_jpeg": None, "schema_version": SCHEMA_VERSION}
    return sample.model_copy(update=changes), {**members, "hr.zip": member}


def test_a_record_that_claims_another_quality_than_its_files_have_is_found(copy: Path) -> None:
    rewrite(copy, lambda sample: with_jpeg(sample, quality=94))
    assert findings(copy) == {("hr_tiles", "hr.zip"), ("hr_jpeg", "json")}


def test_hr_in_another_quality_than_the_recipe_says_is_found(copy: Path) -> None:
    # That of validation, too, which has to be exact.
    rewrite(copy, repack=in_quality(94))
    assert findings(copy) == {("hr_jpeg", "json"), ("schema_version", "json")}


def test_lossless_files_of_lossy_pixels_are_found(copy: Path) -> None:
    rewrite(copy, repack=as_webp)
    assert findings(copy) == {("hr_jpeg", "json"), ("schema_version", "json")}


def test_a_wrong_error_is_found_by_making_the_sample_again(copy: Path) -> None:
    rewrite(copy, lambda sample: with_jpeg(sample, mse=0.5))
    assert verify([str(copy), "--workers=1"]) == 0
    assert findings(copy, "--grade=pixel") == {("remade", "json")}


def test_samples_are_made_again_from_their_sources_alone(
    copy: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = samples(copy)
    keys = {row.split: row.key for row in rows}
    assert resynth([str(copy), *(row.key for row in rows), "--verify", "--workers=1"]) == 0
    shutil.rmtree(copy / "logs")
    capsys.readouterr()
    assert resynth([str(copy), keys["train"], "--verify", "--workers=1"]) == 1
    told = capsys.readouterr().out
    assert "is missing" in told and "the stored HR is JPEG, and what was degraded is exact" in told
    assert resynth([str(copy), keys["validation"], "--verify", "--workers=1"]) == 0
    assert "from its stored HR" in capsys.readouterr().out
    report = tmp_path / "report.json"
    options = ("--grade=pixel", f"--json={report}", "--workers=1")
    assert verify([str(copy), *options]) == 0
    unproved = [line for line in json.loads(report.read_bytes())["not_looked_at"] if "JPEG" in line]
    assert len(unproved) == sum(row.split == "train" for row in rows)


def test_it_is_published_and_made_again(place: Path, tmp_path: Path) -> None:
    published, again = tmp_path / "published", tmp_path / "again"
    assert publish([str(place / "lossy"), f"--output={published}", "--workers=1"]) == 0
    options = [f"--input={place / 'in'}", f"--output={again}", "--workers=1"]
    assert materialize(["--runner=DirectRunner", str(published), *options]) == 0
    assert files_of(again) == files_of(place / "lossy")


def test_a_comparison_with_exact_hr_names_the_recipe(place: Path) -> None:
    compared = compare_datasets(open_dataset(place / "lossy"), open_dataset(place / "exact"))
    by_key = {row.key: row.split for row in samples(place / "lossy")}
    for one in compared.differences:
        told = {cause.cause: cause.detail for cause in one.causes}
        assert told == {"recipe": "hr.jpeg_quality: 95 / (absent)"}
        assert one.parts == (["hr", "metadata"] if by_key[one.key] == "train" else ["metadata"])
    assert len(compared.differences) == len(by_key)


def test_pictures_are_exported_as_they_are_stored(place: Path, tmp_path: Path) -> None:
    assert export([str(place / "lossy"), f"--output={tmp_path / 'png'}", "--workers=1"]) == 0
    pictures = [path for path in (tmp_path / "png").rglob("*.png") if GT in path.parts]
    stored = records(place / "lossy").items()
    for key, (sample, members) in ((k, of) for k, of in stored if of[0].split == "train"):
        paths = sorted(path for path in pictures if key in str(path))
        for path, frame in zip(paths, decode_hr(sample, members["hr.zip"]), strict=True):
            assert np.array_equal(np.asarray(Image.open(path)), frame)


def test_another_libjpeg_proves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = tasks_of(place / "lossy", shared_pool(1))
    task = next(task for task in tasks if task.row.split == "train")

    def other_libjpeg(frames: np.ndarray, tile: int, _quality: int) -> object:
        return pack_jpeg_tiles(frames, tile, 94)

    monkeypatch.setattr("transforms.degrade.pack_jpeg_tiles", other_libjpeg)
    assert {one.check for one in check_pixels(task).findings} == {"hr_source", "remade"}
    check = check_pixels(elsewhere(task))
    assert not check.findings
    (told,) = check.not_looked_at
    assert "json, hr.zip differ if made again here, which proves nothing" in told
