"""Folders of PNG frames and npz motion vectors, read as CAVSR's release reads them.

Written anew after what two of its classes do, step by step, with their libraries, their float
types and their loops over blocks, but without the code: `REDSMetaRecurrentDataset`, which reads
whole frames and crops them, and `Vimeo90KMetaRecurrentDataset`, which reads small patches of seven
frames. Both are BasicSR's classes with metadata added. Left out is the table of type codes that
they parse from a text file for every sample, which favours them here; and a window has the frames
that were asked for, no type or vector of the frame behind it.

What lies where: `pipelines.export`, layouts cavsr and cavsr-vimeo.
"""

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.loader.windows import Epochs, Pixels, Reading, Request, digest, timed
from benchmarks.stopwatch import Stopwatch

_TYPES = "IPB"
_TYPE_CODES = {"I": 0, "B": 1, "P": 2}
_SEPTUPLET = 7
_METADATA_READ = ("size.npy", "mvs.npy")  # of what the npz files of an export hold
_TURNS = 3  # left and right, top and bottom, rows and columns


class FolderDataset(Dataset[dict[str, Any]], ABC):
    """Windows of an export.

    Args:
        root: of the export.
        folders: of each LR stream.
        scale: HR over LR.
    """

    def __init__(self, root: Path, folders: Sequence[str], scale: int) -> None:
        self.root, self._folders, self._scale = root, folders, scale
        self._rng = np.random.default_rng(0)
        self.watch = Stopwatch()
        """where the time goes"""

    @abstractmethod
    def _picture(self, folder: str, key: str, frame: int) -> Path: ...

    @abstractmethod
    def _metadata(self, folder: str, request: Request) -> tuple[Path, int]:
        """The file, and which frame of it the window starts at."""

    def __getitem__(self, request: Request) -> dict[str, Any]:
        """lq, gt: (T, 3, h, w) float32 RGB in [0, 1]; mv: (2 T, h, w, 2) float32, forward then
        backward; frm_type: (T, 1) int64."""
        return self._load(request, self._rng.random(_TURNS) < 0.5)

    def pixels(self, request: Request) -> Pixels:
        """The pictures of a window that is not turned."""
        window = self._load(request, np.zeros(_TURNS, bool))
        lr, hr = (window[name].movedim(1, 3) * 255 for name in ("lq", "gt"))
        return Pixels(*(x.round().to(torch.uint8).numpy() for x in (lr, hr)))

    def _load(self, request: Request, turns: np.ndarray) -> dict[str, Any]:
        folder = self._folders[request.stream]
        frames = range(request.start, request.start + request.num_frames)
        lr = [self._read(self._picture(folder, request.key, t)) for t in frames]
        hr = [self._read(self._picture("GT", request.key, t)) for t in frames]
        with self.watch.stage("motion vectors"):
            types, vectors = _read_metadata(*self._metadata(folder, request), request.num_frames)
        with self.watch.stage("crop, flips, tensors"):
            lr, hr = _crop(lr, request, 1), _crop(hr, request, self._scale)
            lr, hr = [_turn(x, turns) for x in lr], [_turn(x, turns) for x in hr]
            vectors = [_turn_vectors(x, turns) for x in _crop(vectors, request, 1)]
            return {
                "lq": torch.stack([_to_tensor(x) for x in lr]),
                "gt": torch.stack([_to_tensor(x) for x in hr]),
                "mv": torch.stack([torch.from_numpy(x) for x in vectors]).float(),
                "frm_type": torch.stack([torch.tensor([_TYPE_CODES[t]]) for t in types]),
                "key": request.key,
            }

    def _read(self, path: Path) -> np.ndarray:
        """A picture, (H, W, 3) float32 BGR in [0, 1]."""
        with self.watch.stage("files"):
            data = path.read_bytes()
        with self.watch.stage("PNG"):
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        with self.watch.stage("to float"):
            return picture.astype(np.float32) / 255.0


class RedsStyle(FolderDataset):
    """Whole frames, of which a crop is taken once all are read."""

    def _picture(self, folder: str, key: str, frame: int) -> Path:
        number = frame + 1 if "BD_" in folder else frame
        return self.root / folder / key / f"{number:08d}.png"

    def _metadata(self, folder: str, request: Request) -> tuple[Path, int]:
        return self.root / "meta" / _rate(folder) / f"{request.key}.npz", request.start


class VimeoStyle(FolderDataset):
    """Seven frames, cut to the size that is trained on."""

    def _picture(self, folder: str, key: str, frame: int) -> Path:
        clip, place = divmod(frame, _SEPTUPLET)
        return self.root / folder / "0" / key / f"{clip + 1:04d}" / f"im{place + 1}.png"

    def _metadata(self, folder: str, request: Request) -> tuple[Path, int]:
        assert request.start % _SEPTUPLET == 0 and request.num_frames == _SEPTUPLET
        clip = request.start // _SEPTUPLET
        return self.root / "meta" / _rate(folder) / "0" / request.key / f"{clip + 1:04d}.npz", 0


def _rate(folder: str) -> str:
    return "0" if folder == "BD" else folder.removeprefix("BD_")


def _read_metadata(path: Path, first: int, count: int) -> tuple[list[str], list[np.ndarray]]:
    """Types of frames, and their vectors, (h, w, 2) float64: all forward, then all backward."""
    with np.load(path) as file:
        _, height, width = file["size"].tolist()
        rows = file["mvs"].tolist()
    types = ["I"] + ["P"] * (count - 1)
    forward = [np.zeros((height, width, 2)) for _ in range(count)]
    backward = [np.zeros((height, width, 2)) for _ in range(count)]
    for number, source, block_w, block_h, src_x, src_y, dst_x, dst_y, scale, frame_type in rows:
        t = number - 1 - first
        if t < 0:
            continue
        if t >= count:
            break
        types[t] = _TYPES[frame_type]
        x0, x1 = int(max(dst_x - block_w / 2, 0)), int(min(dst_x + block_w / 2, width - 1))
        y0, y1 = int(max(dst_y - block_h / 2, 0)), int(min(dst_y + block_h / 2, height - 1))
        field = forward[t] if source == 1 else backward[t]
        field[y0:y1, x0:x1, 0] = (src_x - dst_x) / scale
        field[y0:y1, x0:x1, 1] = (src_y - dst_y) / scale
    for t in range(count - 1):
        if types[t] != "B":
            forward[t] = -1 * backward[t + 1]
    return types, forward + backward


def _crop(pictures: Sequence[np.ndarray], request: Request, scale: int) -> list[np.ndarray]:
    top, left, side = (scale * x for x in (request.top, request.left, request.side))
    return [x[top : top + side, left : left + side] for x in pictures]


def _turn(picture: np.ndarray, turns: np.ndarray) -> np.ndarray:
    horizontal, vertical, transposed = turns
    if horizontal:
        picture = cv2.flip(picture, 1)
    if vertical:
        picture = cv2.flip(picture, 0)
    return picture.transpose(1, 0, 2) if transposed else picture


def _turn_vectors(vectors: np.ndarray, turns: np.ndarray) -> np.ndarray:
    horizontal, vertical, transposed = turns
    vectors = _turn(vectors, turns)
    if horizontal:
        vectors[..., 0] *= -1
    if vertical:
        vectors[..., 1] *= -1
    return vectors[..., [1, 0]] if transposed else vectors


def _to_tensor(picture: np.ndarray) -> Tensor:
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return torch.from_numpy(rgb.transpose(2, 0, 1)).float()


class FolderReader:
    """A contender: batches of an export's windows, stacked as PyTorch's loader does by default."""

    def __init__(self, dataset: FolderDataset, epochs: Epochs, batch_size: int) -> None:
        self.dataset = dataset
        self._epochs, self._batch_size = epochs, batch_size

    def digest(self) -> str:
        """Of the first epoch's pictures."""
        return digest((r.key, self.dataset.pixels(r)) for r in self._epochs[0])

    def measure(self) -> Reading:
        """Read everything once."""
        return timed(self._read)

    def _read(self) -> int:
        size = self._batch_size
        chosen = [
            list(epoch[first : first + size])
            for epoch in self._epochs
            for first in range(0, len(epoch), size)
        ]
        loader: Any = DataLoader(self.dataset, batch_sampler=chosen)
        return sum(len(batch["key"]) for batch in loader)


def bytes_read(root: Path) -> int:
    """Bytes of the files of an export that its loader reads, all streams together."""
    pictures = sum(file.stat().st_size for file in root.rglob("*.png"))
    metadata = sum(_bytes_of(file) for file in (root / "meta").rglob("*.npz"))
    return pictures + metadata


def _bytes_of(npz: Path) -> int:
    """Of the arrays that are read."""
    with zipfile.ZipFile(npz) as archive:
        return sum(archive.getinfo(name).compress_size for name in _METADATA_READ)
