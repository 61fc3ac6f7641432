"""`python -m pipelines.publish`: a dataset without its pixels."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.publish import main
from schemas.manifest import read_manifest
from tests.pipelines.small import make_corpus, synthesize


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return synthesize(make_corpus(folder / "in"), folder / "klein ä")


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "copy")
    return tmp_path / "copy"


def run(dataset: Path, output: Path) -> int:
    return main([str(dataset), f"--output={output}", "--workers=1"])


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_everything_but_samples_and_logs_is_published(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, tmp_path / "öffentlich") == 0
    expected = {
        path: data
        for path, data in files_below(dataset).items()
        if not path.startswith(("data/", "logs/"))
    }
    assert files_below(tmp_path / "öffentlich") == expected
    assert {"manifest.json", "recipe.yaml", "index/plan.parquet"} <= expected.keys()
    told = capsys.readouterr().out
    assert f"Published {len(expected)} files" in told and "MiB of" in told


def test_publishing_again_goes_on_where_it_stopped(dataset: Path, tmp_path: Path) -> None:
    assert run(dataset, tmp_path / "out") == 0
    whole = files_below(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()  # written last
    assert run(dataset, tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == whole


def test_strange_files_are_never_touched(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("notes.txt", "mine"), ("manifest.json", "{}")):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).write_text(text)
        assert run(dataset, folder) == 2
        assert files_below(folder) == {name: text.encode()}
        assert name in capsys.readouterr().err
    assert run(dataset, dataset) == 2


@pytest.mark.parametrize(
    "path",
    [
        "data/train-000000.tar",
        "index/plan.parquet",
        "index/frames/train-000000.parquet",
        "index/shards/train-000000.json",
        "recipe.yaml",
    ],
)
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_damaged_dataset_is_not_published(
    copy: Path, tmp_path: Path, path: str, is_gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((copy / path).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / path).write_bytes(data)
    if is_gone:
        (copy / path).unlink()
    assert run(copy, tmp_path / "out") == 2
    assert path in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_missing_file_is_told_where_an_earlier_publication_lies(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(copy, tmp_path / "out") == 0
    (copy / "index" / "samples" / "train-000000.parquet").unlink()
    assert run(copy, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "index/samples/train-000000.parquet" in told and "pipelines.verify" in told


def test_the_output_is_never_inside_the_dataset_nor_around_it(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(copy)
    before = files_below(copy)
    for output in (copy, copy / "public", tmp_path, tmp_path / "link" / "public"):
        assert run(copy, output) == 2
        assert "lie in one another" in capsys.readouterr().err
    assert files_below(copy) == before


def test_a_name_that_leads_out_of_the_dataset_is_refused(
    dataset: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("secret")
    for path in ("../secret", str(tmp_path / "secret")):
        fields = json.loads((copy / "manifest.json").read_bytes())
        fields["tables"][0] |= {"path": path}
        (copy / "manifest.json").write_text(json.dumps(fields))
        assert run(copy, tmp_path / "out") == 2
        assert "leads out of" in capsys.readouterr().err
    for name in ("../../evil", "/evil", ""):
        fields = read_manifest(dataset).model_dump()
        fields["shards"][0]["shard"] = name
        (copy / "manifest.json").write_text(json.dumps(fields))
        assert run(copy, tmp_path / "out") == 2
        assert f"names a shard {name!r}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_dataset_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, tmp_path / "out") == 2
    assert "manifest.json" in capsys.readouterr().err


def test_it_is_a_dataset_to_those_who_need_no_pixels(dataset: Path, tmp_path: Path) -> None:
    assert run(dataset, tmp_path / "out") == 0
    assert read_manifest(tmp_path / "out") == read_manifest(dataset)
