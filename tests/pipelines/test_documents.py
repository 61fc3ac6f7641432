"""The card and the Croissant description say what is in the dataset, and nothing else."""

import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml

from pipelines.audit.dataset import Dataset, open_dataset
from pipelines.documents import documents
from pipelines.documents.card import dataset_card
from pipelines.documents.facts import Coding, Facts, read_facts
from pipelines.layout import Layout
from pipelines.shards import describe_bytes
from schemas.manifest import DatasetError
from schemas.record import Record, Status
from schemas.sample import FrameRow, SampleKind, SampleRow, StreamRow
from schemas.source import Source
from schemas.tables import arrow_schema, field_table, read_table, write_table
from tests.pipelines import small

# Croissant's reader leans on what its own dependencies deprecate.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib"),
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]

SOURCES = """pattern,split,licence,attribution
*/photo-a.png,train,CC0-1.0,"Ä. Person; <b>""bold""</b> | pipe"
*/photo-b.png,validation,CC-BY-4.0,B. `Person` [x](http://y) \\| z
*/long.mp4,train,CC-BY-4.0,C. Person
"""
RECORDS: dict[str, type[Record]] = {
    "samples": SampleRow,
    "streams": StreamRow,
    "frames": FrameRow,
    "sources": Source,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    corpus = small.make_corpus(folder / "in")
    (corpus / "notes.txt").write_text("no picture")
    (folder / "sources.csv").write_text(SOURCES)
    option = f"--sources={folder / 'sources.csv'}"
    recipe = small.changed(("fraction = 0\n", "fraction = 0\nshard_mib = 0.05\n"))
    return open_dataset(small.synthesize(corpus, folder / "made", recipe, option))


@pytest.fixture(scope="module")
def card(dataset: Dataset) -> str:
    return (dataset.layout.root / "README.md").read_text()


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def table(card: str, heading: str) -> list[list[str]]:
    """The first table below a heading, without its header."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines[2:]]


def test_the_manifest_lists_the_documents_as_they_are(dataset: Dataset) -> None:
    listed = {file.path: file for file in dataset.manifest.documents}
    assert sorted(listed) == ["README.md", "croissant.json", "recipe.yaml"]
    made = documents(dataset.manifest, dataset.layout)
    for path, file in listed.items():
        assert describe_bytes((dataset.layout.root / path).read_bytes(), path) == file
        assert describe_bytes(made[path], path) == file  # made again, now that they are listed


def test_the_documents_do_not_depend_on_the_place(dataset: Dataset) -> None:
    for data in documents(dataset.manifest, dataset.layout).values():
        assert str(dataset.layout.root).encode() not in data
        assert b"/tmp/" not in data


def test_the_card_counts_what_is_there(dataset: Dataset, card: str) -> None:
    rows = small.samples(dataset.layout.root)
    counts = Counter((row.split, row.kind) for row in rows)
    frames = Counter[tuple[str, SampleKind]]()
    for row in rows:
        frames[row.split, row.kind] += row.num_frames
    words = {SampleKind.CLIP: "clips", SampleKind.PSEUDO_VIDEO: "pseudo-videos"}
    assert table(card, "Samples") == [
        [split, words[kind], str(number), str(frames[split, kind])]
        for (split, kind), number in sorted(counts.items())
    ]
    assert front(card)["size_categories"] == ["n<1K"]

    streams = list(small.rows(dataset.layout.root, "streams", StreamRow))
    types = Counter(str(f.frame_type) for f in small.rows(dataset.layout.root, "frames", FrameRow))
    told = table(card, "LR streams")
    assert sum(int(cells[2]) for cells in told) == len(streams)
    for column, frame_type in enumerate("IPB", start=3):
        assert sum(int(cells[column]) for cells in told) == types[frame_type]
    lossless = next(cells for cells in told if cells[1] == "lossless")
    assert int(lossless[2]) == sum(stream.rate_mode == "lossless" for stream in streams)
    for cells in told:
        if match := re.fullmatch(r"crf (\d+) to below (\d+)", cells[1]):
            low, high = map(int, match.groups())
            within = [s for s in streams if s.rate_mode == "crf" and low <= s.rate_value < high]
            assert int(cells[2]) == len(within)

    assert table(card, "What was left out") == [["source", "filtered", "not_media", "1"]]
    told = table(card, "What it was made with")
    environment = dataset.manifest.environment
    assert dict(told) == {**environment.libraries, **environment.encoders}


def test_the_card_names_everybody_and_is_not_broken_by_names(card: str) -> None:
    told = {row[0]: row[2] for row in table(card, "Licences and attribution")}
    assert told == {
        "unknown": "nobody is named",
        "CC0-1.0": 'Ä. Person; &lt;b>"bold"&lt;/b> \\| pipe',
        "CC-BY-4.0": "B. \\`Person\\` \\[x\\](http://y) &#92;\\| z; C. Person",
    }


def facts_of(*licences: str, kind: SampleKind = SampleKind.CLIP, number: int = 1) -> Facts:
    facts = Facts(num_planned=number)
    facts.samples["train", kind] = number
    facts.licences.update(licences)
    facts.streams[Coding("vp9", "bitrate", (65536, 131072))] = 1
    return facts


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["CC0-1.0"], "cc0-1.0"),
        (["cc-by-4.0"], "cc-by-4.0"),
        (["CC0-1.0", "CC-BY-4.0"], "other"),
        (["CC0-1.0", ""], "other"),
        (["my own"], "other"),
        ([], "other"),
    ],
)
def test_one_known_licence_is_the_datasets(
    dataset: Dataset, licences: list[str], expected: str
) -> None:
    found = front(dataset_card(dataset.manifest, facts_of(*licences)))
    assert found["license"] == expected
    assert ("license_name" in found) == (expected == "other")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (10**5, "100K<n<1M"), (10**6, "n>1M")],
)
def test_the_size_category_follows_the_number(dataset: Dataset, number: int, expected: str) -> None:
    card = dataset_card(dataset.manifest, facts_of("MIT", number=number))
    assert front(card)["size_categories"] == [expected]
    assert table(card, "LR streams") == [["vp9", "65.54 to 131.1 kbit/s", "1", "0", "0", "0"]]


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (SampleKind.CLIP, "video-to-video"),
        (SampleKind.CAMERA, "video-to-video"),
        (SampleKind.PSEUDO_VIDEO, "image-to-image"),
    ],
)
def test_the_task_follows_the_kind(dataset: Dataset, kind: SampleKind, task: str) -> None:
    assert front(dataset_card(dataset.manifest, facts_of(kind=kind)))["task_categories"] == [task]


def test_a_split_of_which_nothing_was_made_is_no_part_of_the_configurations(
    dataset: Dataset,
) -> None:
    manifest = dataset.manifest.model_copy(update={"splits": {"train": 3, "validation": 0}})
    for config in front(dataset_card(manifest, facts_of()))["configs"]:
        assert [files["split"] for files in config["data_files"]] == ["train"]


def test_what_was_left_out_is_told_by_reason(dataset: Dataset) -> None:
    facts = facts_of()
    facts.samples_left_out.update(
        {
            (Status.FAILED_RETRYABLE, "worker_died"): 1,
            (Status.FAILED_PERMANENT, "corrupt"): 2,
        }
    )
    assert table(dataset_card(dataset.manifest, facts), "What was left out") == [
        ["sample", "failed-permanent", "corrupt", "2"],
        ["sample", "failed-retryable", "worker_died", "1"],
    ]


def test_facts_need_no_shards(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "index").symlink_to(dataset.layout.root / "index")
    without, shards = Layout(tmp_path), dataset.manifest.shards
    assert read_facts(shards, without) == read_facts(shards, dataset.layout)


def test_tables_that_do_not_fit_together_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    copy = Layout(tmp_path)
    shutil.copytree(dataset.layout.root / "index", tmp_path / "index")
    write_table(str(copy.table("streams", dataset.manifest.shards[0].shard)), StreamRow, [])
    with pytest.raises(DatasetError, match="frames of no stream"):
        read_facts(dataset.manifest.shards, copy)


# Croissant


@pytest.fixture
def described(dataset: Dataset) -> mlcroissant.Dataset:
    return mlcroissant.Dataset(str(dataset.layout.root / "croissant.json"))


def test_croissant_is_valid(described: mlcroissant.Dataset, dataset: Dataset) -> None:
    metadata = described.metadata
    assert not metadata.ctx.issues.errors
    # A date would differ between equal runs.
    assert all("datePublished" in warning for warning in metadata.ctx.issues.warnings)
    assert metadata.ctx.is_v1_1()
    assert (metadata.name, metadata.version) == ("small", "4.0.0")
    assert dataset.manifest.recipe_sha256[:12] in metadata.cite_as
    assert metadata.license == [
        "https://spdx.org/licenses/CC-BY-4.0.html",
        "https://spdx.org/licenses/CC0-1.0.html",
    ]


def test_croissant_lists_every_data_file_with_its_hash(dataset: Dataset) -> None:
    root = dataset.layout.root
    told = json.loads((root / "croissant.json").read_bytes())
    objects = [item for item in told["distribution"] if item["@type"] == "cr:FileObject"]
    hashes = {item["contentUrl"]: item["sha256"] for item in objects}
    files = [*(root / "data").glob("*.tar"), *(root / "index").rglob("*.parquet")]
    assert hashes == {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    assert "B. `Person`" in told["creditText"] and "Ä. Person" in told["creditText"]
    for item in told["distribution"]:
        if item["@type"] == "cr:FileSet":
            assert list(root.glob(item["includes"])), item["includes"]


def plain(value: Any) -> Any:
    """A value of mlcroissant as JSON has it, its names without the record set's."""
    match value:
        case bytes():
            return value.decode()
        case list():
            return [plain(part) for part in value]
        case dict():
            return {name.rpartition("/")[2]: plain(part) for name, part in value.items()}
    return value.item() if hasattr(value, "item") else value


@pytest.mark.parametrize("name", RECORDS)
def test_croissant_reads_every_table(
    described: mlcroissant.Dataset, dataset: Dataset, name: str
) -> None:
    record = RECORDS[name]
    root = dataset.layout.root
    files = (
        [dataset.layout.sources]
        if name == "sources"
        else sorted((root / "index" / name).glob("*.parquet"))
    )
    expected = [row for file in files for row in read_table(str(file), record)]
    found = [plain(row) for row in described.records(name)]
    assert len(found) == len(expected) > 0
    for row, stored in zip(found, expected, strict=True):
        assert row == stored.model_dump(mode="json")
    (told,) = (part for part in described.metadata.record_sets if part.id == name)
    assert [field.id for field in told.fields] == [f"{name}/{f.name}" for f in arrow_schema(record)]
    assert [field.description for field in told.fields] == [
        doc for _, _, doc in field_table(record)
    ]
