"""Vid4 as it is measured: coded at several CRFs, with motion fields of several makes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from benchmarks.anchors.cavsr import anchor_flow, no_flow, released_flow
from training.evaluating import degradation
from training.evaluating.clips import find_clips
from training.evaluating.degradation import PixelFormat, conditions_of, degrade
from transforms.motion import Flow, dense_flow

CRFS = (15.0, 25.0, 35.0)
"""Of the papers' tables."""
FLOWS: Mapping[str, Callable[..., Flow]] = {
    "zero": no_flow,
    "released loader, scale 4": released_flow(4),
    "released loader, scale 1": released_flow(1),
    "nearest anchor": anchor_flow,
    "codec": dense_flow,
}
"""Makes of motion fields, by name; `codec` is what this project's reader gives."""


class Coded(NamedTuple):
    """A clip at one strength."""

    clip: str
    crf: float | None
    """None where it is not compressed"""
    hr: np.ndarray
    """(T, 4 * h, 4 * w, 3) uint8 RGB"""
    lr: np.ndarray
    """(T, h, w, 3) uint8 RGB"""
    frame_type: np.ndarray
    """(T,) int64, `FrameType.code`"""
    flow: Flow
    """(T, h, w, ...)"""


def coded_clips(
    folder: Path,
    data: Path,
    crfs: Sequence[float | None],
    flow: str = "codec",
    frames: int | None = None,
    pixel_format: PixelFormat = "yuv420p",
) -> Iterator[Coded]:
    """Clips, coded whole; made once and kept.

    Args:
        folder: where they are kept.
        data: a folder of clips.
        crfs: strengths, None for no compression.
        flow: a key of `FLOWS`.
        frames: how many of each are given, from its first; all by default.
        pixel_format: that the encoder is given.
    """
    for file in find_clips(data):
        for crf in crfs:
            name = f"{file.name}-{'clean' if crf is None else f'{crf:g}'}-{pixel_format}-{flow}"
            path = folder / f"{name}.npz"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _save(path, *_code(file.read(), crf, flow, pixel_format))
            with np.load(path) as kept:
                parts = {key: kept[key][:frames] for key in kept.files}
            fields = Flow(parts.pop("previous"), parts.pop("next"), parts.pop("valid"))
            yield Coded(clip=file.name, crf=crf, flow=fields, **parts)


_Arrays = tuple[np.ndarray, degradation.CodedClip]


def _code(hr: np.ndarray, crf: float | None, flow: str, pixel_format: PixelFormat) -> _Arrays:
    (condition,) = conditions_of([crf], [pixel_format])
    with patch.object(degradation, "dense_flow", FLOWS[flow]):
        (coded,) = degrade(hr, [condition])
    return hr, coded


def _save(path: Path, hr: np.ndarray, coded: degradation.CodedClip) -> None:
    temporary = path.with_suffix(".part")
    previous, following, valid = coded.flow
    with temporary.open("wb") as file:
        np.savez(
            file,
            hr=hr,
            lr=coded.lr,
            frame_type=coded.frame_type,
            previous=previous,
            next=following,
            valid=valid,
        )
    temporary.replace(path)
