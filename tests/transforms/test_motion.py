import io

import numpy as np
import pytest

from schemas.draw import ResizeDraw
from schemas.motion import MOTION_DTYPE, MV_UNITS_PER_PIXEL
from schemas.sample import Frame, Stream
from tests.pictures import moving_clip
from tests.transforms.chains import make
from tests.transforms.coding import code, draw_for
from transforms.bitstream import frame_records
from transforms.codec import decode_with_side_data
from transforms.decode import decode_lr
from transforms.motion import (
    MAX_FUTURE,
    MAX_PAST,
    Flow,
    dense_flow,
    extract_blocks,
    read_blocks,
    write_blocks,
)

STEP = (1, 2)  # rows, columns a frame


def blocks_of(name: str, **changes: object) -> tuple[np.ndarray, list[Frame]]:
    packets = code(moving_clip(12, 96, 96, STEP), draw_for(name, **changes))
    frames = decode_with_side_data(packets, name)
    records = frame_records(packets, [0] * len(packets), frames)
    return extract_blocks(frames, records, name, anchors_only=name != "h264"), records


@pytest.mark.parametrize("name", ["h264", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("b_frames", [0, 2, 3])
def test_vectors_over_their_distance_are_the_motion_of_the_pan(name: str, b_frames: int) -> None:
    blocks, _ = blocks_of(name, b_frames=b_frames, gop_frames=250)
    away = [(blocks[axis] > 24) & (blocks[axis] < 96 - 24) for axis in ("x", "y")]
    blocks = blocks[away[0] & away[1]]  # from where content does not come in over the border
    assert len(blocks) >= 10
    distance = blocks["ref_distance"].astype(float)
    # Content moves by +STEP, so a block comes from -STEP a frame back, +STEP a frame ahead.
    y = blocks["mv_y"] / MV_UNITS_PER_PIXEL / distance
    x = blocks["mv_x"] / MV_UNITS_PER_PIXEL / distance
    right = (np.abs(y - STEP[0]) < 0.26) & (np.abs(x - STEP[1]) < 0.26)
    assert right.mean() > 0.95


def test_a_reference_is_coded_before_the_frame_that_uses_it() -> None:
    blocks, records = blocks_of("h264", b_frames=3)
    for block in blocks:
        reference = records[int(block["frame"]) + int(block["ref_distance"])]
        assert reference.coding_index < records[int(block["frame"])].coding_index


def test_distances_are_never_zero_and_have_the_sign_of_the_direction() -> None:
    blocks, records = blocks_of("h264", b_frames=3)
    assert (blocks["ref_distance"] != 0).all()
    predicted_from_the_future = {int(f) for f in blocks["frame"][blocks["ref_distance"] > 0]}
    assert predicted_from_the_future
    assert all(records[frame].frame_type == "B" for frame in predicted_from_the_future)


def test_references_beyond_the_reach_of_the_search_have_a_distance_all_the_same() -> None:
    still = np.repeat(moving_clip(1, 96, 96), 20, axis=0)
    draw = draw_for("h264", b_frames=8, b_pyramid=False, preset="superfast")
    packets = code(still, draw)
    frames = decode_with_side_data(packets, "h264")
    records = frame_records(packets, [0] * len(packets), frames)
    assert "B" * 8 in "".join(record.frame_type for record in records)
    blocks = extract_blocks(frames, records, "h264", anchors_only=False)
    assert (blocks["ref_distance"] > 5).any()
    assert (blocks["ref_distance"] != 0).all()


def test_a_part_of_a_stream_gives_the_blocks_of_the_whole() -> None:
    packets = code(moving_clip(24, 96, 96, STEP), draw_for("h264", b_frames=3, gop_frames=250))
    frames = decode_with_side_data(packets, "h264")
    records = frame_records(packets, [0] * len(packets), frames)
    whole = extract_blocks(frames, records, "h264", anchors_only=False)
    wanted = range(11, 15)
    seen = slice(wanted.start - MAX_PAST, wanted.stop + MAX_FUTURE)
    part = extract_blocks(
        frames[seen],
        records[seen],
        "h264",
        anchors_only=False,
        wanted=range(MAX_PAST, MAX_PAST + len(wanted)),
    )
    part["frame"] += seen.start
    assert len(part)
    assert np.array_equal(part, whole[np.isin(whole["frame"], wanted)])


def test_blocks_survive_storage_and_nothing_else_is_taken_for_them() -> None:
    blocks, _ = blocks_of("h264")
    assert np.array_equal(read_blocks(write_blocks(blocks)), blocks)
    with pytest.raises(ValueError):
        read_blocks(write_blocks(np.zeros(3)))


def _warp_error(frames: np.ndarray, flow: np.ndarray, step: int) -> float:
    """Mean absolute difference of frame 5 to its neighbour warped by whole-pixel flow."""
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width]
    yy = np.clip(np.rint(y + flow[..., 1]).astype(int), 0, height - 1)
    xx = np.clip(np.rint(x + flow[..., 0]).astype(int), 0, width - 1)
    warped = frames[5 + step][yy, xx].astype(float)
    return float(np.abs(frames[5] - warped)[16:-16, 16:-16].mean())


@pytest.mark.parametrize("name", ["h264", "mpeg4", "mpeg2video"])
def test_dense_flow_finds_the_neighbouring_frames(name: str) -> None:
    frames = moving_clip(12, 96, 96, STEP)
    # FFmpeg does not export what MPEG-4's direct mode of B frames derives.
    b_frames = 0 if name == "mpeg4" else 2
    made = make(frames, draw_for(name, gop_frames=250, b_frames=b_frames))
    flow = dense_flow(made.blocks, made.stream, 96, 96, 5, 1)
    for field, step in ((flow.previous, -1), (flow.next, 1)):
        still = _warp_error(frames, np.zeros_like(field[0]), step)
        assert _warp_error(frames, field[0], step) < 0.4 * still
    assert (flow.valid[0] == 3).mean() > 0.8


def test_a_window_of_flow_is_a_part_of_the_whole() -> None:
    made = make(moving_clip(12, 96, 96, STEP), draw_for("h264"))
    whole = dense_flow(made.blocks, made.stream, 96, 96, 0, 12)
    part = dense_flow(made.blocks, made.stream, 96, 96, 4, 3)
    for name in Flow._fields:
        assert np.array_equal(getattr(part, name), getattr(whole, name)[4:7])


def drawn_blocks(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """Blocks of all sizes, some over others and over the borders; by frame, as stored."""
    rng = np.random.default_rng(seed)
    blocks = np.zeros(60 * frames, MOTION_DTYPE)
    blocks["frame"] = np.sort(rng.integers(0, frames, len(blocks)))
    blocks["ref_distance"] = rng.choice([-3, -2, -1, 1, 2], len(blocks))
    for at, size, side in (("y", "height", height), ("x", "width", width)):
        blocks[size] = rng.choice([8, 16, 32], len(blocks))
        blocks[at] = 8 * rng.integers(-1, side // 8 + 2, len(blocks)) + blocks[size] // 2
    blocks["mv_x"], blocks["mv_y"] = rng.integers(-99, 99, (2, len(blocks)))
    return blocks


def painted(blocks: np.ndarray, frames: int, height: int, width: int, *, past: bool) -> np.ndarray:
    """(T, h, w, 2) velocity of the last block over each pixel, NaN where there is none."""
    field = np.full((frames, height, width, 2), np.nan, np.float32)
    for block in blocks[(blocks["ref_distance"] < 0) == past]:
        top = int(block["y"]) - int(block["height"]) // 2
        left = int(block["x"]) - int(block["width"]) // 2
        rows = slice(max(top, 0), max(top + int(block["height"]), 0))
        columns = slice(max(left, 0), max(left + int(block["width"]), 0))
        vector = np.array([block["mv_x"], block["mv_y"]], np.float32)
        distance = np.float32(abs(int(block["ref_distance"])) * MV_UNITS_PER_PIXEL)
        field[int(block["frame"]), rows, columns] = vector / distance
    return field


def test_a_pixel_takes_the_last_block_over_it_then_the_other_side_then_its_neighbours() -> None:
    made = make(moving_clip(5, 48, 72), draw_for("h264"))
    blocks = drawn_blocks(5, 48, 72, seed=0)
    flow = dense_flow(blocks, made.stream, 48, 72, 0, 5)
    past = painted(blocks, 5, 48, 72, past=True)
    future = painted(blocks, 5, 48, 72, past=False)
    nothing = np.full_like(past[:1], np.nan)
    before, after = np.concatenate([nothing, past])[:-1], np.concatenate([past, nothing])[1:]
    for field, bit, sources in (
        (flow.previous, 1, (past, -future, before)),
        (flow.next, 2, (future, -past, -after)),
    ):
        expected = np.full_like(past, np.nan)
        for source in sources:
            expected = np.where(np.isnan(expected), source, expected)
        known = ~np.isnan(expected[..., 0])
        assert 0.5 < known.mean() < 1
        assert np.array_equal(flow.valid & bit != 0, known)
        assert np.array_equal(field, np.where(known[..., None], expected, 0))


@pytest.mark.parametrize("coded", [(48, 72), (48, 48)])  # the second is stored narrower
def test_flow_of_a_part_of_the_picture_is_a_part_of_the_whole(coded: tuple[int, int]) -> None:
    draw = draw_for("h264", height=coded[0], width=coded[1])
    made = make(moving_clip(6, 48, 72), draw, top=0 if coded[1] < 72 else 5)
    blocks = drawn_blocks(6, 48, 72, seed=1)
    whole = dense_flow(blocks, made.stream, 48, 72, 0, 6)
    rng = np.random.default_rng(2)
    for _ in range(60):
        first, end = np.sort(rng.choice(7, 2, replace=False))
        rows = slice(*np.sort(rng.choice(49, 2, replace=False)))
        columns = slice(*np.sort(rng.choice(73, 2, replace=False)))
        part = dense_flow(blocks, made.stream, 48, 72, first, end - first, rows, columns)
        for found, all_of_it in zip(part, whole, strict=True):
            assert np.array_equal(found, all_of_it[first:end, rows, columns])
            assert found.dtype == all_of_it.dtype and found.flags.c_contiguous


def test_flow_is_scaled_to_lr_pixels_where_the_picture_was_stored_narrower() -> None:
    block = np.zeros(1, MOTION_DTYPE)
    block[0] = (1, -2, 8, 8, 16, 16, 16, 8)  # the top left block: 4 px right, 2 px down, 2 frames
    made = make(moving_clip(3, 32, 64), draw_for("h264", height=32, width=32))
    assert made.stream.post_steps == [ResizeDraw(height=[32], width=[64], kernel="matlab_bicubic")]
    flow = dense_flow(block, made.stream, 32, 64, 0, 3)
    assert flow.previous[1, 0, 0].tolist() == [4.0, 1.0]  # twice as wide, per frame
    assert flow.previous[1, 0, 31].tolist() == [4.0, 1.0]
    assert flow.previous[1, 0, 32].tolist() == [0.0, 0.0]
    assert flow.next[1, 0, 0].tolist() == [-4.0, -1.0]
    assert flow.previous[2, 0, 0].tolist() == [4.0, 1.0]  # nothing of its own: motion goes on
    assert flow.valid[:, 0, 0].tolist() == [2, 3, 1]


def test_a_codec_without_vectors_has_an_empty_table_and_no_flow() -> None:
    made = make(moving_clip(6, 96, 96), draw_for("hevc"))
    assert made.blocks.shape == (0,) and made.blocks.dtype == MOTION_DTYPE
    flow = dense_flow(made.blocks, made.stream, 96, 96, 0, 6)
    assert not flow.previous.any() and not flow.next.any() and not flow.valid.any()


def test_vectors_that_the_decoder_does_not_export_are_unknown_not_zero() -> None:
    # Everything moves, so every zero in a B frame of MPEG-4 stands for a vector that was derived.
    blocks, records = blocks_of("mpeg4", b_frames=2, gop_frames=250)
    in_b_frame = np.array([records[int(frame)].frame_type == "B" for frame in blocks["frame"]])
    moves = (blocks["mv_x"] != 0) | (blocks["mv_y"] != 0)
    assert moves[in_b_frame].all()
    assert moves[~in_b_frame].any()


def test_zero_vectors_are_kept() -> None:
    still = np.repeat(moving_clip(1, 96, 96), 6, axis=0)
    made = make(still, draw_for("h264"))
    flow = dense_flow(made.blocks, made.stream, 96, 96, 2, 2)
    assert (flow.valid & 1).mean() == 1


def test_the_lossless_stream_has_vectors_of_distance_one() -> None:
    made = make(moving_clip(8, 96, 96, STEP), None)
    assert isinstance(made.stream, Stream)
    assert set(made.blocks["ref_distance"].tolist()) == {-1}
    assert len(decode_lr(made.stream, made.nut)) == 8


def test_nothing_refers_across_a_key_frame() -> None:
    blocks, records = blocks_of("h264", b_frames=3, gop_frames=5)
    keys = [record.display_index for record in records if record.key_frame]
    assert len(keys) >= 3
    for block in blocks:
        frame, reference = int(block["frame"]), int(block["frame"]) + int(block["ref_distance"])
        start = max(key for key in keys if key <= frame)
        end = min((key for key in keys if key > frame), default=len(records))
        assert start <= reference < end


def test_only_the_array_that_is_written_is_read() -> None:
    blocks = np.zeros(3, MOTION_DTYPE)
    blocks["mv_x"] = [-5, 0, 7]
    good = write_blocks(blocks)
    again = read_blocks(good)
    assert np.array_equal(again, blocks)
    assert np.array_equal(np.load(io.BytesIO(good))[:, 6], [-5, 0, 7])
    assert read_blocks(write_blocks(blocks[:0])).shape == (0,)
    for wrong in (
        b"",
        good[:-1],
        good + b"\0",
        good + bytes(16),
        good.replace(b"(3, 8)", b"(9, 8)"),
        good.replace(b"(3, 8), }      ", b"(999999999, 8)}"),
        good.replace(b"<i2", b"|O8"),
        good.replace(b"False", b"True "),
        b"((((" * 100 + good,
    ):
        assert wrong != good
        with pytest.raises(ValueError, match="no motion vectors"):
            read_blocks(wrong)
