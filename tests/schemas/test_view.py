from pathlib import Path

import pytest

from schemas.record import SchemaVersionError
from schemas.source import Source
from schemas.tables import write_table
from schemas.view import ViewAbout, ViewError, ViewRow, read_view, write_view

ROWS = [
    ViewRow(key="b", stream=-1, frame=-1, weight=0.25),
    ViewRow(key="a", stream=1, frame=3, weight=1),
    ViewRow(key="a", stream=0, frame=5, weight=2),
]


def write(path: Path, rows: list[ViewRow] = ROWS, manifest: str = "m", query: str = "q") -> str:
    return write_view(path, manifest, query, {"other": "n"}, rows).sha256


def test_a_view_reads_back_sorted(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "ü.parquet")
    view = read_view(tmp_path / "ü.parquet")
    assert view.keys == ["a", "a", "b"]
    assert view.streams == [0, 1, -1]
    assert view.frames == [5, 3, -1]
    assert view.weights == [2, 1, 0.25]
    assert view.about == ViewAbout(
        manifest_sha256="m", query="q", others={"other": "n"}, sha256=sha256
    )


def test_equal_content_has_equal_bytes_whatever_the_order(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", ROWS[::-1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_hash_is_that_of_rows_and_dataset(tmp_path: Path) -> None:
    other = [*ROWS[:2], ROWS[2].model_copy(update={"weight": 2.5})]
    hashes = [
        write(tmp_path / "a"),
        write(tmp_path / "b", query="another way to say it"),
        write(tmp_path / "c", other),
        write(tmp_path / "d", ROWS[:2]),
        write(tmp_path / "e", manifest="n"),
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_what_is_no_view_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(ViewError, match="is not there"):
        read_view(file)
    file.write_text("no Parquet")
    with pytest.raises(ViewError, match="no view, or is damaged"):
        read_view(file)
    write_table(str(file), Source, [])
    with pytest.raises(ViewError, match="holds records 'Source'"):
        read_view(file)
    write_table(str(file), ViewRow, ROWS)
    with pytest.raises(ViewError, match="no view, or is damaged"):
        read_view(file)  # nothing says of what


def test_no_flipped_byte_changes_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "view"
    write(file)
    whole, expected = file.read_bytes(), read_view(file)
    refused = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        try:
            found = read_view(file)
        except (ViewError, SchemaVersionError):
            refused += 1
        else:
            assert found[1:] == expected[1:]
    assert refused > len(whole) // 12


def test_impossible_weights_are_refused() -> None:
    for weight in (0, -1, 2_000_000, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight"):
            ViewRow(key="a", stream=0, frame=0, weight=weight)
