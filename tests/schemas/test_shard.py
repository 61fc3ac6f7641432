import hashlib
import io
import itertools
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset

from schemas.record import UNKNOWN
from schemas.sample import LrKind, Member, Sample, SampleKind, Stream, member_names
from schemas.shard import (
    MemberParts,
    ShardError,
    ShardWriter,
    header_bytes,
    iter_samples,
    read_member,
)

Samples = list[tuple[Sample, dict[str, bytes]]]

STREAM = Stream(
    stream=0,
    name="clean",
    lr_kind=LrKind.LOSSLESS,
    codec="h264",
    encoder="libx264rgb",
    encoder_build="x264 - core 165",
    settings_from="bitstream",
    rate_mode="lossless",
    rate_value=0,
    preset="",
    gop_frames=12,
    b_frames=0,
    pixel_format="gbrp",
    color_matrix="rgb",
    color_range="pc",
    fps=25,
    coded_height=16,
    coded_width=16,
    stream_bytes=100,
    lost_slices=0,
    earlier=[],
    qp_from="none",
    motion_blocks=0,
    decoded_sha256="ab",
    read_matrix="",
    read_range="",
    read_location="",
    read_scaler="",
    post_steps=[],
    draw="{}",
    draw_id="",
    frames=[],
)


def sample(key: str, num_streams: int = 1, **changes: object) -> Sample:
    made = Sample(
        key=key,
        kind=SampleKind.CLIP,
        split="train",
        group="夜 Größe",
        licence="",
        attributions=[],
        recipe_sha256="cd",
        seed=0,
        clip=0,
        variant=0,
        hr_id="",
        num_frames=1,
        scale=4,
        hr_height=64,
        hr_width=64,
        fps=0,
        hr_sharpened=False,
        scene_draw="{}",
        origins=[],
        hr_tiles=[],
        streams=[STREAM.model_copy(update={"stream": k}) for k in range(num_streams)],
    )
    return made.model_copy(update=changes)


def members_of(num_streams: int, seed: int = 0) -> dict[str, bytes]:
    """Members of many sizes: empty, not a whole block, exactly one, more."""
    sizes = itertools.cycle((0, 700, 512, 1, 1500))
    names = member_names(num_streams)[1:]
    return {name: bytes([65 + seed + k]) * next(sizes) for k, name in enumerate(names)}


def some_samples() -> Samples:
    return [
        (sample(f"{'0a' * 10}-{n:05d}", num_streams=k), members_of(k, n))
        for n, k in enumerate((1, 2, 1))
    ]


def write(samples: Samples) -> tuple[bytes, list[list[Member]], str]:
    file = io.BytesIO()
    writer = ShardWriter(file)
    ranges = [writer.add(one, data) for one, data in samples]
    size, digest = writer.close()
    assert size == len(file.getvalue())
    return file.getvalue(), ranges, digest


def test_the_size_and_the_digest_are_those_of_the_file() -> None:
    data, _, digest = write(some_samples())
    assert hashlib.sha256(data).hexdigest() == digest


def test_equal_samples_give_equal_bytes_whatever_the_order_of_their_members() -> None:
    turned = [(one, dict(reversed(data.items()))) for one, data in some_samples()]
    assert write(some_samples())[0] == write(turned)[0]


def test_headers_say_nothing_of_time_or_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(write(some_samples())[0])) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert not info.pax_headers and info.isreg()


def test_byte_ranges_are_where_tarfile_finds_the_members() -> None:
    data, ranges, _ = write(some_samples())
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            stream = tar.extractfile(info)
            assert stream is not None
            found[info.name] = (info.offset_data, info.size, stream.read())
    for (one, members), of_sample in zip(some_samples(), ranges, strict=True):
        assert [member.name for member in of_sample] == member_names(len(one.streams))
        for member in of_sample:
            offset, size, content = found.pop(f"{one.key}.{member.name}")
            assert (member.offset, member.size) == (offset, size)
            assert data[offset : offset + size] == content
            assert read_member(io.BytesIO(data), member) == content
            parts = MemberParts(io.BytesIO(data), member)
            for part in (slice(None), slice(3, 9), slice(size - 2, size + 600), slice(9, 3)):
                assert parts[part] == content[part]
            assert content == members.get(member.name, one.model_dump_json().encode())
    assert not found


def test_the_json_member_is_the_record() -> None:
    data, ranges, _ = write(some_samples())
    for (one, _), (first, *_) in zip(some_samples(), ranges, strict=True):
        assert first.name == "json"
        assert Sample.model_validate_json(read_member(io.BytesIO(data), first)) == one


def test_a_walk_through_the_shard_gives_every_sample_whole_and_in_order() -> None:
    data, _, _ = write(some_samples())
    expected = [
        (one.key, {"json": one.model_dump_json().encode()} | members)
        for one, members in some_samples()
    ]
    assert list(iter_samples(io.BytesIO(data))) == expected


def test_an_empty_shard_is_a_whole_tar_of_nothing() -> None:
    data, _, _ = write([])
    assert list(iter_samples(io.BytesIO(data))) == []


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it open
def test_plain_webdataset_groups_the_samples(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(write(some_samples())[0])
    dataset = webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False)
    read = list(dataset)
    assert [found["__key__"] for found in read] == [one.key for one, _ in some_samples()]
    for found, (one, members) in zip(read, some_samples(), strict=True):
        contents = {name: data for name, data in found.items() if not name.startswith("__")}
        assert contents == {"json": one.model_dump_json().encode()} | members


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar command")
def test_the_tar_command_lists_and_extracts_the_members(tmp_path: Path) -> None:
    file = tmp_path / "train-000000.tar"
    file.write_bytes(write(some_samples())[0])
    listed = subprocess.run(["tar", "-tf", str(file)], check=True, capture_output=True, text=True)
    assert not listed.stderr
    assert listed.stdout.split() == [
        f"{one.key}.{name}" for one, _ in some_samples() for name in member_names(len(one.streams))
    ]
    subprocess.run(["tar", "-xf", str(file), "-C", str(tmp_path)], check=True)
    for one, members in some_samples():
        assert {name: (tmp_path / f"{one.key}.{name}").read_bytes() for name in members} == members


def test_a_shard_cut_anywhere_is_refused() -> None:
    data, ranges, _ = write(some_samples())
    last = ranges[-1][-1]
    blocks = -(-last.size // 512)
    end = last.offset + 512 * (blocks + 2)  # of the two blocks of zeros that end a tar
    assert data[end - 1024 :] == bytes(len(data) - end + 1024)
    borders = {member.offset - 512 for of_sample in ranges for member in of_sample}
    cuts = {*borders, *range(0, end, 512), *range(7, end, 97), end - 1}
    accepted = []
    for cut in sorted(cuts):
        try:
            list(iter_samples(io.BytesIO(data[:cut])))
        except ShardError:
            continue
        accepted.append(cut)
    assert not accepted
    assert len(list(iter_samples(io.BytesIO(data[:end])))) == 3


@pytest.mark.parametrize("where", ["at a border", "inside a header", "inside data"])
def test_samples_before_the_cut_are_given_and_then_it_is_told(where: str) -> None:
    data, ranges, _ = write(some_samples())
    second = ranges[1][2]
    cut = {"at a border": -512, "inside a header": -300, "inside data": second.size // 2}[where]
    walk = iter_samples(io.BytesIO(data[: second.offset + cut]))
    assert next(walk)[0] == some_samples()[0][0].key
    with pytest.raises(ShardError):
        list(walk)


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    data, ranges, _ = write(some_samples())
    for member in (ranges[0][0], ranges[1][1], ranges[2][-1]):
        for position in (0, 105, 130, 150):  # name, mode, size, checksum
            damaged = bytearray(data)
            damaged[member.offset - 512 + position] ^= 0x15
            with pytest.raises(ShardError):
                list(iter_samples(io.BytesIO(damaged)))


def test_a_flipped_byte_of_a_member_is_noticed_when_it_is_read_by_range() -> None:
    data, ranges, _ = write(some_samples())
    for member in itertools.chain(*ranges):
        if not member.size:
            continue
        for position in (0, member.size // 2, member.size - 1):
            damaged = bytearray(data)
            damaged[member.offset + position] ^= 1
            with pytest.raises(ShardError, match="does not match its checksum"):
                read_member(io.BytesIO(damaged), member)


def test_a_range_beyond_the_file_is_told_in_bytes() -> None:
    data, ranges, _ = write(some_samples())
    member = ranges[-1][0]
    for cut in (member.offset + 5, member.offset, 3):
        found = max(0, cut - member.offset)
        for read in (read_member, MemberParts):
            with pytest.raises(ShardError, match=f"json: {found} bytes at {member.offset}, not"):
                read(io.BytesIO(data[:cut]), member)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mv0.npy": None}, "expected"),
        ({"lr1.nut": b""}, "lr1.nut"),
        ({"notes.txt": b""}, "notes.txt"),
    ],
)
def test_a_wrong_set_of_members_is_refused_and_nothing_written(
    change: dict[str, bytes | None], problem: str
) -> None:
    members = {k: v for k, v in (members_of(1) | change).items() if v is not None}
    file = io.BytesIO()
    writer = ShardWriter(file)
    with pytest.raises(ValueError, match=f"k-0: members are .*{problem}"):
        writer.add(sample("k-0"), members)
    writer.close()
    assert list(iter_samples(io.BytesIO(file.getvalue()))) == []


@pytest.mark.parametrize("key", ["", "A-0", "a.b", "a/b", "../a", "-a", "夜", "a b", "a\n"])
def test_a_key_that_would_not_group_or_sort_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="must match"):
        ShardWriter(io.BytesIO()).add(sample(key), members_of(1))


def test_a_name_of_100_bytes_is_taken_and_one_more_refused() -> None:
    longest = "k" * (100 - len(".lr0.nut"))
    data, _, _ = write([(sample(longest), members_of(1))])
    assert [key for key, _ in iter_samples(io.BytesIO(data))] == [longest]
    with pytest.raises(ValueError, match="exceeds 100 bytes"):
        write([(sample(longest + "k"), members_of(1))])


def test_offsets_hold_for_samples_of_ten_streams_and_more() -> None:
    data, ranges, _ = write([(sample("many", 12), members_of(12))])
    assert [m.name for m in ranges[0]][-2:] == ["lr11.nut", "mv11.npy"]
    for member in ranges[0][1:]:
        assert read_member(io.BytesIO(data), member) == members_of(12)[member.name]


def test_unknown_numbers_are_stored_as_minus_one() -> None:
    assert UNKNOWN == -1
    one = sample("left-out", hr_height=UNKNOWN)
    data, ranges, _ = write([(one, members_of(1))])
    assert b'"hr_height":-1' in read_member(io.BytesIO(data), ranges[0][0])


@pytest.mark.parametrize(
    "changes",
    [{"size": -5}, {"size": 10**11}, {"size": 2**62}, {"offset": -1}, {"offset": 2**62}],
)
def test_a_range_that_cannot_be_is_refused_and_takes_no_memory(changes: dict[str, int]) -> None:
    data, ranges, _ = write(some_samples())
    with pytest.raises(ShardError, match="bytes at"):
        read_member(io.BytesIO(data), ranges[0][1].model_copy(update=changes))


@pytest.mark.parametrize(
    ("key", "name", "size"),
    [
        ("k" * 100, "json", 1),
        ("k", "j" * 100, 1),
        ("../k", "json", 1),
        ("k", "json", -1),
        ("k", "json", 2**62),
    ],
)
def test_a_header_that_no_member_has_is_refused(key: str, name: str, size: int) -> None:
    with pytest.raises(ShardError):
        header_bytes(key, name, size)
