"""What trained networks reach on pictures that no training saw; kept beside each run."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.proof.clips import CRFS, Coded, coded_clips
from schemas.manifest import read_manifest
from schemas.record import Record
from schemas.sample import FrameType
from schemas.source import TRAIN
from training.batch import Batch, collate
from training.checkpoint import load_model, write_atomically
from training.index import read_index
from training.metrics import psnr_y, ssim_y, to_8_bits
from training.models.cavsr import Cavsr
from training.models.configs import Network
from training.resample import bicubic
from training.samples import read_window, whole_cut
from training.shards import Shards

BICUBIC = "bicubic"
AS_IT_IS = "as it is"
"""The representation of the frames themselves."""

_CPU = torch.device("cpu")


class ClipScore(Record):
    """How a clip is restored, frame by frame."""

    clip: str
    stream: str
    """what was done to LR: a CRF, or a codec"""
    representation: str = AS_IT_IS
    """of the frames as they are, or of those at another CRF"""
    frame_types: str = ""
    """one letter a frame"""
    psnr_y: list[float]
    """dB"""
    ssim_y: list[float] | None = None

    def mean_ssim(self) -> float:
        """Over all frames, where it was measured."""
        assert self.ssim_y is not None
        return float(np.mean(self.ssim_y))

    def mean_psnr(self, of_type: str = "IPB") -> float:
        """Over the frames of some types, dB."""
        types = self.frame_types or "I" * len(self.psnr_y)
        chosen = [x for x, kind in zip(self.psnr_y, types, strict=True) if kind in of_type]
        return float(np.mean(chosen))


def read_scores(path: Path) -> list[ClipScore]:
    """What `score_clips` or `score_pictures` wrote."""
    return TypeAdapter(list[ClipScore]).validate_json(path.read_bytes())


def score_clips(
    run: Path, folder: Path, vid4: Path, flow: str, frames: int, *, other_codes: bool
) -> None:
    """Measure a network of clips on Vid4.

    Args:
        run: the training's folder, in which `vid4.json` is written.
        folder: where coded clips are kept.
        vid4: the benchmark.
        flow: key of `proof.clips.FLOWS`.
        frames: of each clip, from its first.
        other_codes: also feed the representation of the same frames at the other CRFs.
    """
    torch.set_num_threads(1)
    path = run / "vid4.json"
    if path.exists():
        return
    network = load_model(run)
    scores = list[ClipScore]()
    strengths = [None, *CRFS]
    by_clip = dict[str, list[Coded]]()
    for coded in coded_clips(folder, vid4, strengths, flow, frames):
        by_clip.setdefault(coded.clip, []).append(coded)
    for clips in by_clip.values():
        for coded in clips:
            scores.append(_score_clip(network, coded, coded))
            if other_codes and coded.crf is not None:
                others = [x for x in clips if x.crf not in (None, coded.crf)]
                scores += [_score_clip(network, coded, other) for other in others]
    _write(path, scores)


def _score_clip(network: Network, coded: Coded, coded_as: Coded) -> ClipScore:
    """Restore a clip, with the representation of the same frames, coded in another way."""
    lr, target = _tensor(coded.lr)[None] / 255, _tensor(coded.hr)
    types = torch.from_numpy(coded.frame_type)[None]
    flows = [_tensor(field)[None] for field in (coded.flow.previous, coded.flow.next)]
    with torch.inference_mode():
        if coded_as is coded:
            restored = network(lr, types, *flows)
        else:
            assert isinstance(network, Cavsr) and network.encoder is not None
            code = network.encoder(_tensor(coded_as.lr) / 255, types[0])
            handle = network.encoder.register_forward_hook(lambda *_: code)
            restored = network(lr, types, *flows)
            handle.remove()
    return ClipScore(
        clip=coded.clip,
        stream=_name(coded.crf),
        representation=AS_IT_IS if coded_as is coded else _name(coded_as.crf),
        frame_types="".join(list(FrameType)[code] for code in coded.frame_type),
        psnr_y=psnr_y(to_8_bits(restored[0]), target.double()).tolist(),
    )


def score_cubic(path: Path, folder: Path, vid4: Path, frames: int) -> None:
    """Measure bicubic interpolation on the same frames."""
    scores = list[ClipScore]()
    for coded in coded_clips(folder, vid4, [None, *CRFS], "codec", frames):
        large = bicubic(_tensor(coded.lr) / 255, 4)
        values = psnr_y(to_8_bits(large), _tensor(coded.hr).double()).tolist()
        types = "".join(list(FrameType)[code] for code in coded.frame_type)
        scores.append(
            ClipScore(clip=coded.clip, stream=_name(coded.crf), frame_types=types, psnr_y=values)
        )
    _write(path, scores)


def score_pictures(run: Path | None, path: Path, dataset: Path) -> None:
    """Measure a network of pictures, or bicubic interpolation, on every stream of a dataset.

    Args:
        run: the training's folder; None for bicubic interpolation.
        path: where the scores are written.
        dataset: it is measured whole.
    """
    torch.set_num_threads(1)
    if path.exists():
        return
    network = load_model(run) if run is not None else None
    scores = list[ClipScore]()
    for batch in _whole_samples(dataset):
        with torch.inference_mode():
            lr = batch.lr.flatten(0, 1)
            restored = bicubic(lr, 4) if network is None else network(lr[None])[0]
            pair = to_8_bits(restored), to_8_bits(batch.hr.flatten(0, 1))
        scores.append(
            ClipScore(
                clip=batch.keys[0],
                stream=batch.stream_names[0],
                psnr_y=psnr_y(*pair).tolist(),
                ssim_y=ssim_y(*pair).tolist(),
            )
        )
    _write(path, scores)


def _whole_samples(dataset: Path) -> Iterator[Batch]:
    """Each stream of each sample."""
    manifest = read_manifest(dataset)
    shards = Shards(dataset, manifest.shards)
    for entry in read_index(dataset, manifest, TRAIN):
        for stream in range(len(manifest.streams)):
            cut = whole_cut(entry, stream)
            yield collate([read_window(shards, entry, cut)]).to(_CPU)


def _name(crf: float | None) -> str:
    return "clean" if crf is None else f"{crf:g}"


def _tensor(x_THWC: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x_THWC)).movedim(-1, 1).float()


def _write(path: Path, scores: list[ClipScore]) -> None:
    data = json.dumps([score.model_dump() for score in scores], indent=1)
    write_atomically(path, data.encode())
