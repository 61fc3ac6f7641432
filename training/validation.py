"""How well a network restores the validation split, against bicubic interpolation.

Outputs are rounded to 8 bits, no border is left out; PSNR (`training.metrics`) is the mean over the
frames of a clip, then over clips.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from schemas.manifest import read_manifest
from schemas.record import Record
from schemas.store import Place
from training.batch import Batch, collate
from training.drawing import enlarged
from training.index import Entry, read_index
from training.metrics import psnr_rgb, psnr_y, to_8_bits
from training.resample import bicubic
from training.samples import read_window, whole_cut
from training.shards import CacheOptions, Shards

MAX_CLIPS = 8
"""Samples of the split that are measured, evenly spaced among the sorted keys."""
MAX_FRAMES = 8
"""Frames of each, from its first."""
_EXAMPLE_LR_PIXELS = 64


class StreamScore(Record):
    """How one LR stream is restored; PSNR in dB, higher is better."""

    stream: str
    """name of the LR stream"""
    clips: int
    """samples measured"""
    frames: int
    """frames measured"""
    model_psnr_rgb: float
    """of the network, over all three channels"""
    model_psnr_y: float
    """of the network, on BT.601 luma"""
    bicubic_psnr_rgb: float
    """of bicubic interpolation, over all three channels"""
    bicubic_psnr_y: float
    """of bicubic interpolation, on BT.601 luma"""


class Example(NamedTuple):
    """A part of a frame, to be looked at; (H, W, 3) uint8 RGB each, of HR's size."""

    stream: str
    """name of the LR stream"""
    lr: np.ndarray
    """its pixels repeated"""
    bicubic: np.ndarray
    model: np.ndarray
    hr: np.ndarray


@dataclasses.dataclass(frozen=True)
class ValidationSet:
    """The part of a dataset's validation split that is measured."""

    shards: Shards
    entries: Sequence[Entry]
    num_streams: int


def read_validation_set(dataset: Place, cache: CacheOptions | None = None) -> ValidationSet:
    """Choose what to measure; empty where the dataset has no validation split."""
    manifest = read_manifest(dataset)
    entries = read_index(dataset, manifest, "validation")
    every = math.ceil(len(entries) / MAX_CLIPS) or 1
    return ValidationSet(
        Shards(dataset, manifest.shards, cache), entries[::every], len(manifest.streams)
    )


def super_resolve(model: nn.Module, batch: Batch) -> Tensor:
    """Run a network on a batch, in bfloat16 where the device is a GPU.

    Returns:
        (N, T, 3, scale * h, scale * w) float32 RGB, not clamped.
    """
    device = batch.lr.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        return model(batch.lr, batch.frame_type, batch.flow_previous, batch.flow_next)


def validate(
    model: nn.Module, chosen: ValidationSet, device: torch.device
) -> tuple[list[StreamScore], list[Example]]:
    """Measure a network on every stream of the chosen samples, whole pictures.

    Args:
        model: in evaluation mode.
        chosen: what is measured.
        device: where the network is.

    Returns:
        One score per stream, in the recipe's order, and an example of each.
    """
    psnrs = defaultdict[str, list[Tensor]](list)
    examples = list[Example]()
    with torch.inference_mode():
        for stream in range(chosen.num_streams):
            for number, entry in enumerate(chosen.entries):
                batch = _whole_pictures(chosen.shards, entry, stream).to(device)
                restored = super_resolve(model, batch).flatten(0, 1)
                name = batch.stream_names[0]
                psnrs[name].append(_measure(restored, batch))
                if number == 0:
                    examples.append(_example(name, restored, batch))
    return [_score(name, clips) for name, clips in psnrs.items()], examples


def _whole_pictures(shards: Shards, entry: Entry, stream: int) -> Batch:
    cut = whole_cut(entry, stream, MAX_FRAMES)
    return collate([read_window(shards, entry, cut)])


def _example(stream: str, restored_NCHW: Tensor, batch: Batch) -> Example:
    """The middle of the last measured frame."""
    lr_CHW, hr_CHW = batch.lr.flatten(0, 1)[-1], batch.hr.flatten(0, 1)[-1]
    scale = hr_CHW.shape[-1] // lr_CHW.shape[-1]
    top, left = (max(0, (size - _EXAMPLE_LR_PIXELS) // 2) for size in lr_CHW.shape[1:])
    rows, columns = (slice(at, at + _EXAMPLE_LR_PIXELS) for at in (top, left))
    hr_rows, hr_columns = (slice(scale * x.start, scale * x.stop) for x in (rows, columns))
    large = bicubic(lr_CHW[None], scale)[0]
    return Example(
        stream=stream,
        lr=enlarged(_picture(lr_CHW[:, rows, columns]), scale),
        bicubic=_picture(large[:, hr_rows, hr_columns]),
        model=_picture(restored_NCHW[-1][:, hr_rows, hr_columns]),
        hr=_picture(hr_CHW[:, hr_rows, hr_columns]),
    )


def _picture(x_CHW: Tensor) -> np.ndarray:
    return to_8_bits(x_CHW).movedim(0, -1).byte().cpu().numpy()


def _measure(restored_NCHW: Tensor, batch: Batch) -> Tensor:
    """(frames, 4) float64 dB: model RGB, model Y, bicubic RGB, bicubic Y."""
    lr_NCHW, hr_NCHW = batch.lr.flatten(0, 1), batch.hr.flatten(0, 1)
    target = to_8_bits(hr_NCHW)
    baseline = bicubic(lr_NCHW, hr_NCHW.shape[-1] / lr_NCHW.shape[-1])
    pictures = [to_8_bits(restored_NCHW), to_8_bits(baseline)]
    columns = [f(x, target) for x in pictures for f in (psnr_rgb, psnr_y)]
    return torch.stack(columns, 1).cpu()


def _score(stream: str, clips: list[Tensor]) -> StreamScore:
    means = torch.stack([clip.mean(0) for clip in clips]).mean(0).tolist()
    return StreamScore(
        stream=stream,
        clips=len(clips),
        frames=sum(len(clip) for clip in clips),
        model_psnr_rgb=means[0],
        model_psnr_y=means[1],
        bicubic_psnr_rgb=means[2],
        bicubic_psnr_y=means[3],
    )
