import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from schemas.sample import SampleKind
from training.augment import AUGMENTATIONS, hflip, transpose, vflip
from training.batch import Window, collate
from training.models.layers import warp
from transforms.motion import Flow


def moving_window() -> Window:
    """Frame t + 1 shows frame t moved by (3, -2), so that it is found at (-3, +2) again."""
    scene = np.random.default_rng(0).integers(0, 256, (64, 72, 3)).astype(np.uint8)
    lr = np.stack([scene[10 + 2 * t :, 10 - 3 * t :][:40, :48] for t in range(3)])
    ones = np.ones((*lr.shape[:3], 1), np.float32)
    previous = ones * np.array([-3, 2], np.float32)
    return Window(
        key="k",
        stream_name="clean",
        kind=SampleKind.CLIP,
        lr=lr,
        hr=lr.repeat(4, 1).repeat(4, 2),
        flow=Flow(previous, -previous, np.full(lr.shape[:3], 3, np.uint8)),
        frame_type=np.zeros(3, np.int64),
        qp=np.zeros(3, np.float32),
        crf=25.0,
    )


def worst_mismatch(window: Window) -> float:
    """Largest error of frames predicted from their neighbours, away from the border."""
    batch = collate([window]).to(torch.device("cpu"))
    from_previous = warp(batch.lr[0, :-1], batch.flow_previous[0, 1:]) - batch.lr[0, 1:]
    from_next = warp(batch.lr[0, 1:], batch.flow_next[0, :-1]) - batch.lr[0, :-1]
    inner = torch.cat([from_previous, from_next])[..., 4:-4, 4:-4]
    return inner.abs().max().item()


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda f: f.__name__)
def test_vectors_still_predict_the_neighbours(augmentation: Callable[[Window], Window]) -> None:
    window = moving_window()
    assert worst_mismatch(window) < 1e-3
    assert worst_mismatch(augmentation(window)) < 1e-3
    turned_without_vectors = augmentation(window)
    assert augmentation.__name__ == "transpose" or not np.array_equal(
        turned_without_vectors.flow.previous, window.flow.previous
    )


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda f: f.__name__)
def test_hr_turns_with_lr_and_twice_is_nothing(augmentation: Callable[[Window], Window]) -> None:
    window = moving_window()
    turned = augmentation(window)
    assert not np.array_equal(turned.lr, window.lr)
    assert np.array_equal(turned.hr[:, ::4, ::4], turned.lr)
    back = augmentation(turned)
    assert np.array_equal(back.lr, window.lr)
    assert all(np.array_equal(a, b) for a, b in zip(back.flow, window.flow, strict=True))


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 1, 3), (2, 7, 1, 3), (2, 1, 9, 3)])
def test_turns_are_those_of_the_array(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    # A part of a larger array, as crops are.
    large = rng.integers(0, 256, (shape[0], shape[1] + 3, shape[2] + 2, 3)).astype(np.uint8)
    lr = large[:, 1 : 1 + shape[1], 2 : 2 + shape[2]]
    vectors = lr[..., :2].astype(np.float32)
    window = dataclasses.replace(
        moving_window(), lr=lr, hr=lr, flow=Flow(vectors, vectors, np.ascontiguousarray(lr[..., 0]))
    )
    for turn, view in (
        (hflip, lambda x: x[:, :, ::-1]),
        (vflip, lambda x: x[:, ::-1]),
        (transpose, lambda x: x.swapaxes(1, 2)),
    ):
        turned = turn(window)
        assert np.array_equal(turned.hr, view(lr))
        assert np.array_equal(turned.flow.valid, view(lr[..., 0]))
        assert np.array_equal(np.abs(turned.flow.next).sum(-1), view(vectors).sum(-1))
