"""What the contact sheet shows is what the tables say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.contact_sheet import FRAME_TYPE_COLORS, PANEL, choose_rows, draw_strip, main
from pipelines.layout import Layout
from schemas.draw import StreamDraw
from schemas.manifest import DataFile, Environment, Manifest, Shard
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.sample import SampleFields, SampleKind, SampleRow
from schemas.shard import ShardWriter
from schemas.source import Source, SourceKind
from schemas.tables import write_table
from tests.pictures import moving_clip
from tests.transforms.coding import draw_for
from transforms.degrade import MadeSample, make_sample
from transforms.draw import draw_scene

NUM_FRAMES, SIDE = 9, 128
SHARD = "train-000000"
SOURCE_ID = "a" * 64
RECIPE = Recipe.model_validate(
    {
        "name": "sheet",
        "shared": [{"op": "downscale"}],
        "streams": [{"name": "clean"}, {"name": "crf12"}],
        "hr": {"patch_height": SIDE, "patch_width": SIDE},
    }
)


@pytest.fixture(scope="module")
def made() -> MadeSample:
    """A clip with a lossless stream and one of I, P and B frames."""
    planned = PlannedSample(
        shard=SHARD,
        key="clip-0",
        kind=SampleKind.CLIP,
        split="train",
        group="g",
        licence="CC0-1.0",
        clip=0,
        patch=0,
        spans=[Span(source_id=SOURCE_ID, start=0, count=NUM_FRAMES)],
        estimated_bytes=0,
    )
    scene = draw_scene(RECIPE, 0, planned, {SOURCE_ID: (SIDE, SIDE)})
    codec = draw_for("h264", height=SIDE // 4, width=SIDE // 4)
    draws = [StreamDraw(stages=[]), StreamDraw(stages=[codec])]
    return make_sample(RECIPE, 0, planned, scene, draws, moving_clip(NUM_FRAMES, SIDE, SIDE), 25)


@pytest.fixture
def dataset(made: MadeSample, tmp_path: Path) -> Path:
    layout = Layout(tmp_path / "dataset")
    for path in (layout.tar(SHARD), layout.table("samples", SHARD)):
        path.parent.mkdir(parents=True)
    with layout.tar(SHARD).open("wb") as file:
        writer = ShardWriter(file)
        members = writer.add(made.sample, made.members)
        size, sha256 = writer.close()
    fields = made.sample.model_dump(include=set(SampleFields.model_fields))
    row = SampleRow(
        **fields, shard=SHARD, index_in_shard=0, source_ids=[SOURCE_ID], members=members
    )
    write_table(str(layout.table("samples", SHARD)), SampleRow, [row])
    write_table(str(layout.sources), Source, [source()])
    tar = DataFile(path=layout.relative(layout.tar(SHARD)), size=size, sha256=sha256, rows=1)
    layout.manifest.write_text(manifest(tar).model_dump_json())
    return layout.root


def source() -> Source:
    return Source(
        source_id=SOURCE_ID,
        kind=SourceKind.VIDEO,
        uris=["film.mp4"],
        group="g",
        split="train",
        licence="CC0-1.0",
        attribution="",
        size=1,
    )


def manifest(tar: DataFile) -> Manifest:
    return Manifest(
        name=RECIPE.name,
        recipe_sha256=RECIPE.sha256,
        recipe=RECIPE.model_dump(mode="json"),
        seed=0,
        environment=Environment(libraries={}, encoders={}),
        scale=RECIPE.scale,
        streams=[stream.name for stream in RECIPE.streams],
        splits={"train": 1},
        failures={},
        shards=[
            Shard(
                shard=SHARD,
                split="train",
                plan_sha256="",
                num_samples=1,
                num_left_out=0,
                files=[tar],
            )
        ],
        tables=[],
        documents=[],
    )


def test_columns_have_the_colours_of_their_frames_types(made: MadeSample) -> None:
    stream = made.sample.streams[1]
    assert {frame.frame_type for frame in stream.frames} == set(FRAME_TYPE_COLORS)
    strip = np.asarray(draw_strip(stream, 10 * NUM_FRAMES, 40))
    bottom = [tuple(map(int, strip[-1, 10 * t + 5])) for t in range(NUM_FRAMES)]
    assert bottom == [FRAME_TYPE_COLORS[frame.frame_type] for frame in stream.frames]


def test_bars_are_as_high_as_the_root_of_the_packets_bytes(made: MadeSample) -> None:
    stream = made.sample.streams[0]  # lossless: no line crosses the bars
    strip = np.asarray(draw_strip(stream, 10 * NUM_FRAMES, 40))
    largest = max(frame.packet_bytes for frame in stream.frames)
    for t, frame in enumerate(stream.frames):
        color = FRAME_TYPE_COLORS[frame.frame_type]
        rows = int((strip[:, 10 * t + 5] == color).all(axis=1).sum())
        assert rows == pytest.approx(40 * (frame.packet_bytes / largest) ** 0.5, abs=0.5001)


def test_more_frames_than_pixels_still_fit(made: MadeSample) -> None:
    assert draw_strip(made.sample.streams[1], NUM_FRAMES - 4, 40).size == (NUM_FRAMES - 4, 40)


def test_the_sheet_shows_the_hr_frame_and_every_stream(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "sheet.png"
    assert main([str(dataset), "--output", str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    with Image.open(output) as image:
        sheet = np.asarray(image)
    assert sheet.shape[1] >= 3 * PANEL
    picture = moving_clip(NUM_FRAMES, SIDE, SIDE)[NUM_FRAMES // 2]
    enlarged = picture.repeat(2, axis=0).repeat(2, axis=1)
    assert contains(sheet, enlarged)


def contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    height, width, _ = picture.shape
    corners = np.argwhere((sheet == picture[0, 0]).all(axis=2))
    return any(
        np.array_equal(sheet[top : top + height, left : left + width], picture)
        for top, left in corners
    )


def test_kinds_and_splits_take_turns(made: MadeSample) -> None:
    def row(key: str, kind: SampleKind, split: str, group: str) -> SampleRow:
        fields = made.sample.model_dump(include=set(SampleFields.model_fields))
        fields |= {"key": key, "kind": kind, "split": split, "group": group}
        return SampleRow(**fields, shard=SHARD, source_ids=[], members=[])

    clips = [row(f"c{i}", SampleKind.CLIP, "train", "a" if i < 3 else "b") for i in range(4)]
    others = [
        row("v", SampleKind.CLIP, "validation", "c"),
        row("p", SampleKind.PSEUDO_VIDEO, "train", "d"),
    ]
    chosen = choose_rows([*clips, *others], 5)
    assert [chosen_row.key for chosen_row in chosen] == ["c0", "v", "p", "c3", "c1"]


@pytest.mark.parametrize("arguments", [["--samples", "0"], []])
def test_a_mistake_is_one_message_and_status_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sheet.png"
    assert main([str(tmp_path), "--output", str(output), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert not output.exists()
