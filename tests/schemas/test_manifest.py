import json
from pathlib import Path

import pytest

from schemas.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    DataFile,
    DatasetError,
    Environment,
    Manifest,
    Shard,
    canonical_json,
    read_manifest,
    sha256_json,
)
from schemas.record import LOSSY_HR_VERSION, SCHEMA_VERSION, SchemaVersionError

TABLE = DataFile(path="index/plan.parquet", size=10, sha256="ab", rows=3)
MANIFEST = Manifest(
    name="small",
    recipe_sha256="cd",
    recipe={"name": "small", "source": "Größe 夜", "shard_mib": 0.5, "shared": []},
    seed=2**62,
    environment=Environment(libraries={"av": "18.1.0"}, encoders={"h264": "x264 - core 165"}),
    scale=4,
    streams=["clean", "crf25"],
    splits={"train": 3, "validation": 0},
    failures={"flat": 2},
    shards=[
        Shard(
            shard="train-000000",
            split="train",
            plan_sha256="ef",
            num_samples=3,
            num_left_out=2,
            files=[TABLE],
        )
    ],
    tables=[TABLE],
    documents=[],
)


def dataset(folder: Path, data: bytes) -> Path:
    (folder / MANIFEST_NAME).write_bytes(data)
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_manifest(dataset(tmp_path, MANIFEST.model_dump_json(indent=1).encode())) == MANIFEST


def test_a_missing_manifest_says_how_to_finish_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no manifest.json: it is no dataset, or it is not finished; run the "
        "command that makes it (pipelines.synthesize or pipelines.materialize) again"
    )


def test_a_missing_folder_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no folder"):
        read_manifest(tmp_path / "nowhere")


def test_a_folder_called_like_the_manifest_is_none(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(DatasetError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        MANIFEST.model_dump_json().encode()[:-1],
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b'{"a": ' + b"[" * 100_000,
        b'{"seed": ' + b"1" * 10_000 + b"}",
        json.dumps({"schema_version": SCHEMA_VERSION}).encode(),
        json.dumps(MANIFEST.model_dump(mode="json") | {"colour": 1}).encode(),
        json.dumps(MANIFEST.model_dump(mode="json") | {"scale": "four"}).encode(),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError) as caught:
        read_manifest(dataset(tmp_path, data))
    assert str(caught.value).startswith(f"{tmp_path / MANIFEST_NAME} is not a manifest: ")


@pytest.mark.parametrize("version", ["3.0", "0.9", "", "11.0", 3])
def test_another_major_version_is_refused_before_its_fields_are_looked_at(
    tmp_path: Path, version: object
) -> None:
    data = json.dumps({"schema_version": version, "of": "the future"}).encode()
    with pytest.raises(SchemaVersionError) as caught:
        read_manifest(dataset(tmp_path, data))
    assert f"schema version '{version}', this code reads '{SCHEMA_VERSION}'" in str(caught.value)
    assert "read it with the release that wrote it" in str(caught.value)


def test_the_version_of_lossy_hr_is_read(tmp_path: Path) -> None:
    lossy = MANIFEST.model_copy(update={"schema_version": LOSSY_HR_VERSION})
    assert read_manifest(dataset(tmp_path, lossy.data)) == lossy
    assert LOSSY_HR_VERSION.split(".")[0] != SCHEMA_VERSION.split(".")[0]


def test_another_minor_version_is_read(tmp_path: Path) -> None:
    later = MANIFEST.model_copy(update={"schema_version": SCHEMA_VERSION.split(".")[0] + ".99"})
    assert read_manifest(dataset(tmp_path, later.model_dump_json().encode())) == later


def test_equal_values_have_equal_canonical_json() -> None:
    one, other = {"b": [1, 2.5], "a": "夜"}, {"a": "夜", "b": [1, 2.5]}
    assert canonical_json(one) == canonical_json(other) == '{"a":"夜","b":[1,2.5]}'.encode()
    assert sha256_json(one) == sha256_json(other)
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"seed": ' + b"1" * 5000 + b"}", b"\xff", b"\0"],
)
def test_what_no_parser_takes_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError, match="is not a manifest"):
        read_manifest(dataset(tmp_path, data))


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    failing = Path("/proc/self/mem")
    if not failing.exists():
        pytest.skip("takes Linux")
    (tmp_path / MANIFEST_NAME).symlink_to(failing)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_manifest(tmp_path)


def test_a_manifest_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path, MANIFEST.data)
    monkeypatch.setattr("schemas.manifest.MAX_MANIFEST_BYTES", len(MANIFEST.data))
    assert read_manifest(tmp_path) == MANIFEST
    monkeypatch.setattr("schemas.manifest.MAX_MANIFEST_BYTES", len(MANIFEST.data) - 1)
    with pytest.raises(DatasetError, match=f"more than {len(MANIFEST.data) - 1} bytes"):
        read_manifest(tmp_path)


def test_a_hundred_thousand_shards_stay_within_the_bound() -> None:
    name = "validation-cc-by-nc-sa-4-0-099999"
    files = [
        DataFile(path=f"index/{table}/{name}.parquet", size=2**40, sha256="a" * 64, rows=10**6)
        for table in ("samples", "samples", "streams", "frames")
    ]
    shard = MANIFEST.shards[0].model_copy(
        update={"shard": name, "split": "validation", "plan_sha256": "a" * 64, "files": files}
    )
    ten, twenty = (
        len(MANIFEST.model_copy(update={"shards": [shard] * number}).data) for number in (10, 20)
    )
    assert (twenty - ten) * 10**4 < MAX_MANIFEST_BYTES / 2
