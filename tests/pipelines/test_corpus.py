import os
import subprocess
from pathlib import Path

import pytest

from pipelines.corpus import Entry, SourceRule, akin, discover, read_source_list
from pipelines.errors import UserError
from schemas.store import StoreError


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def _uris(*inputs: Path | str) -> list[str]:
    return [entry.uri for entry in discover([str(text) for text in inputs])]


def _entry(uri: str, path: str = "") -> Entry:
    return Entry(uri=uri, paths=(path or f"/data/{uri}",), is_folder=False)


def test_a_folder_is_searched_with_all_below_it(tmp_path: Path) -> None:
    _touch(
        tmp_path / "in", "b.png", "a.jpg", "deep/er/c.mp4", ".hidden", ".git/d.png", "z é/夜.png"
    )
    expected = ["in/a.jpg", "in/b.png", "in/deep/er/c.mp4", "in/z é/夜.png"]
    assert _uris(tmp_path / "in") == sorted(expected)


@pytest.mark.parametrize(
    "names",
    [
        ("im1.png", "im2.png", "im10.png"),
        ("00000009.webp", "00000010.webp"),
        ("1080p_7.jpg", "1080p_8.jpg"),
        ("frame_0001.png", "frame_0002.png"),
    ],
)
def test_a_folder_of_numbered_files_is_one_entry_in_numeric_order(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    _touch(tmp_path / "clip", *names)
    (entry,) = discover([str(tmp_path / "clip")])
    assert entry.uri == "clip"
    assert entry.is_folder
    assert entry.paths == tuple(str(tmp_path / "clip" / name) for name in names)


@pytest.mark.parametrize(
    "names",
    [
        ("im1.png",),
        ("im1.png", "im2.png", "notes.txt"),
        ("a1.png", "b2.png"),
        ("im1.png", "im01.png"),
        ("1_left.png", "1_right.png"),
    ],
)
def test_any_other_files_are_entries_of_their_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    _touch(tmp_path / "in", *names)
    assert _uris(tmp_path / "in") == sorted(f"in/{name}" for name in names)


def test_a_numbered_folder_may_hold_folders(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "1.png", "2.png", "sub/x.png")
    assert _uris(tmp_path / "in") == ["in", "in/sub/x.png"]


def test_globs_are_labelled_from_their_fixed_part(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "a/x.png", "b/y.png", "b/z.txt", "c/1.png", "c/2.png")
    assert _uris(tmp_path / "in" / "*" / "*.png")[:2] == ["in/a/x.png", "in/b/y.png"]
    assert _uris(tmp_path / "in" / "c*") == ["in/c"]
    assert _uris(tmp_path / "in" / "**" / "y.png") == ["in/b/y.png"]


def test_a_name_that_looks_like_a_glob_is_a_name_if_it_exists(tmp_path: Path) -> None:
    _touch(tmp_path, "a[1].png")
    assert _uris(tmp_path / "a[1].png") == ["a[1].png"]


def test_overlapping_inputs_give_each_file_once(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "a.png", "clip/1.png", "clip/2.png")
    inputs = (tmp_path / "in", tmp_path / "in/a.png", tmp_path / "in/clip/1.png")
    assert _uris(*inputs) == ["in/a.png", "in/clip"]
    assert _uris(*reversed(inputs)) == ["a.png", "in/clip"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/a.png", "in/b.png")
    os.symlink(tmp_path / "elsewhere/a.png", tmp_path / "in/link.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/folder")
    os.symlink(tmp_path / "in", tmp_path / "in/loop")
    os.symlink(tmp_path / "nowhere", tmp_path / "in/broken.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    os.symlink("circle.png", tmp_path / "in/circle.png")
    refused = {entry.uri: entry.refused for entry in discover([str(tmp_path / "in")])}
    assert refused == {
        "in/b.png": "",
        "in/broken.png": "",
        "in/circle.png": "",
        "in/link.png": "",
        "in/pipe.png": "special_file",
    }


def test_links_out_of_an_input_are_refused_unless_they_are_wanted(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/a.png", "in/b.png", "in/deep/c.png")
    os.symlink(tmp_path / "elsewhere/a.png", tmp_path / "in/out.png")
    os.symlink("../b.png", tmp_path / "in/deep/back.png")
    os.symlink(tmp_path / "in/out.png", tmp_path / "in/twice.png")
    os.symlink(tmp_path / "in", tmp_path / "input")
    for given in ("in", "input", "in/*"):
        found = discover([str(tmp_path / given)], follow_links=False)
        outside = {entry.uri for entry in found if entry.refused == "link_outside"}
        name = given.partition("/")[0]
        assert outside == {f"{name}/out.png", f"{name}/twice.png"}
        assert len(found) == 5
    named = discover([str(tmp_path / "in/out.png")], follow_links=False)
    assert [entry.refused for entry in named] == [""]


def test_a_glob_does_not_lead_out_of_an_input_through_a_linked_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/a.png", "in/deep/c.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/out")
    os.symlink("deep", tmp_path / "in/back")
    for given in ("in/*/*.png", "in/**/*.png"):
        found = discover([str(tmp_path / given)], follow_links=False)
        refused = {entry.uri: entry.refused for entry in found}
        assert refused.pop("in/out/a.png") == "link_outside"
        assert set(refused.values()) == {""}


def test_a_refused_file_takes_no_series_with_it(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "1.png", "2.png")
    os.symlink("/etc/hostname", tmp_path / "in/3.png")
    found = discover([str(tmp_path / "in")], follow_links=False)
    assert [entry.refused for entry in found] == ["", "", "link_outside"]


def test_folders_may_be_nested_deeper_than_calls_and_than_paths_may_be_long(tmp_path: Path) -> None:
    _touch(tmp_path / "in", "a.png")
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "in")
        for _ in range(2500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    try:
        found = discover([str(tmp_path / "in")])
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "in")], check=True)  # Python cannot
    assert [entry.refused for entry in found] == ["", "unreadable"]
    assert found[1].uri.count("/d") > 1500


def test_names_break_no_line(tmp_path: Path) -> None:
    _touch(
        tmp_path / "in", "a\nb.png", "a\x1b[31mb.png", "a\u2028b.png", "夜\u3000ü.png", "x..y.png"
    )
    assert all(uri.isprintable() or "夜" in uri for uri in _uris(tmp_path / "in"))
    assert len(set(_uris(tmp_path / "in"))) == 5


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("none", "does not exist"),
        ("none/*.png", "matches nothing"),
        ("empty", "holds no files"),
    ],
)
def test_an_input_without_files_is_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=cause) as caught:
        discover([text])
    assert repr(text) in str(caught.value)


def test_a_url_that_nothing_reads_is_refused() -> None:
    with pytest.raises(StoreError, match="leads nowhere from here: give s3://BUCKET/PATH"):
        discover(["ftp://host/clips"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("in/flower.mp4", "in/flower.webm"),
        ("in/x_left.png", "in/x_right.png"),
        ("in/x-L.jpg", "in/x-R.jpg"),
        ("v/sequences/00001/0001", "v/sequences/00001/0933"),
        ("00007/0001", "00007/0002"),
    ],
)
def test_what_lies_alike_is_akin(one: str, other: str) -> None:
    assert akin(one) == akin(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("in/a.mp4", "in/b.mp4"),
        ("in/a.mp4", "other/a.mp4"),
        ("in/v1.0.mp4", "in/v1.5.mp4"),
        ("in/1", "in/2"),
        ("v/sequences/00001/0001", "v/sequences/00002/0001"),
    ],
)
def test_what_lies_apart_is_not_akin(one: str, other: str) -> None:
    assert akin(one) != akin(other)


def test_inputs_of_equal_names_have_entries_of_their_own(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "in").mkdir(parents=True)
        (tmp_path / parent / "in" / "a.png").write_text(parent)
    entries = discover([str(tmp_path / "one" / "in"), str(tmp_path / "two" / "in")])
    assert [entry.uri for entry in entries] == ["in/a.png", "in/a.png#2"]


def test_a_name_that_is_not_utf_8_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsencode(str(tmp_path)) + b"/\xff.png"
    with open(name, "wb") as file:
        file.write(b"x")
    (entry,) = discover([str(tmp_path)])
    entry.uri.encode("utf-8")
    assert os.path.isfile(entry.paths[0])
    assert entry.refused == "undecodable_name"  # it could not be written into a table


def _list(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sources.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_source_list_is_read(tmp_path: Path) -> None:
    text = '\ufeffpattern,licence,split,attribution\nin/*.png,CC0,validation,"Ä, B"\nabc,,,\n'
    first, second = read_source_list(_list(tmp_path, text))
    wanted = SourceRule(pattern="in/*.png", licence="CC0", split="validation", attribution="Ä, B")
    assert first == wanted
    assert second == SourceRule(pattern="abc")
    assert first.matches("in/deep/a.png", "x")
    assert not first.matches("in/a.PNG", "x")
    assert second.matches("in/a.png", "abc")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no column 'pattern'"),
        ("group\na\n", "no column 'pattern'"),
        ("pattern,licnece\na,b\n", "unknown columns.*licnece"),
        ("pattern,split\na,test\n", "line 2.*'test'.*train"),
        ("pattern\na,b\n", "more values than columns"),
        ("pattern,split\n,train\n", "empty pattern"),
    ],
)
def test_mistakes_in_a_source_list_are_named(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        read_source_list(_list(tmp_path, text))


def test_a_missing_source_list_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_source_list(str(tmp_path / "none.csv"))


def test_an_input_that_cannot_be_looked_at_is_told_by_name() -> None:
    name = "a" * 300
    with pytest.raises(UserError, match=f"cannot read the input '{name}': File name too long"):
        discover([name])
