"""A recipe's degradations while training, without shards: every epoch draws them anew.

    from torch.utils.data import DataLoader
    from training.batch import collate
    from training.online import OnlineDataset

    dataset = OnlineDataset("photos/", "vcisr", frames=8)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=8, collate_fn=collate)
    for epoch in range(100):
        dataset.set_epoch(epoch)
        for batch in loader:  # a training.batch.Batch, as from shards
            ...

What a recipe says of leaving out sources, scenes and flat patches belongs to synthesis and is
not applied: what is given is what is trained on. Video files are not read: give their frames.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from schemas.draw import SceneDraw, StreamDraw
from schemas.plan import PlannedSample, Span
from schemas.recipe import Recipe
from schemas.recipe_files import load_recipe
from schemas.sample import SampleKind, Stream
from schemas.source import TRAIN
from schemas.wording import counted
from training.augment import AUGMENTATIONS
from training.batch import Window
from training.config import UserError
from training.inputs import Input, Source, name_of, open_source, without_folders
from training.samples import Cut
from transforms.codec import CodecError
from transforms.cut import Pictures, pre_downscale, scene_frames
from transforms.degrade import make_streams
from transforms.draw import draw_scene, draw_stream, hr_size, patch_size
from transforms.motion import Flow, dense_flow, lr_size
from transforms.seeding import generator

_MOST_PROBLEMS = 20  # listed in one message


class OnlineDraw(NamedTuple):
    """Everything that decides an item but for the pixels that go in."""

    kind: SampleKind
    """clip, pseudo_video or camera"""
    scene: SceneDraw
    """where HR lies, and the shared stages"""
    stream: StreamDraw
    """the stages of the LR stream; which one that is, the cut tells"""
    cut: Cut
    """the part that is handed out"""
    turns: list[bool]
    """which of `AUGMENTATIONS` are applied"""


class OnlineDataset(Dataset[Window]):
    """Windows of freshly degraded pictures or clips, for `training.batch.collate`.

    An item is a pure function of the inputs, the recipe, the seed, the epoch and its number, in
    whatever process it is made.

    A picture is one item: a pack of neighbouring patches at a random place, as many as the recipe
    packs of one image; with camera packing, `patches_per_image` items. A clip is one item for
    each `clips.frames` of its frames, times `clips.patches`. Packs and clips are encoded whole,
    since codecs treat short ones unlike long ones, and a window of them is handed out. What is
    not handed out costs time: take `frames` near the size of a pack, or a recipe of shorter clips.

    Args:
        inputs: a folder, or a list of inputs: pictures, or clips. A path is that of a PNG, JPEG,
            WebP or TIFF file, or of a folder, which gives all pictures in it and its subfolders,
            sorted. An array of uint8 RGB is a picture, (H, W, 3), or a clip, (T, H, W, 3); it may
            be memory-mapped. A list of paths is a clip, frame by frame. Clips are of one scene.
        recipe: a recipe, the name of a shipped one, or the TOML or YAML file of one.
        frames: T of every item.
        crop: side of the square that is cut out of LR, pixels.
        stream: name of the LR stream of all items; None draws one for each.
        augment: flip and transpose at random.
        seed: of all draws.

    Raises:
        UserError: if something asked for cannot be done. Inputs that cannot be used, such as
            pictures that are too small, are listed in one message; only headers are read for it.
        RecipeError: if there is no such recipe.
    """

    def __init__(
        self,
        inputs: str | Path | Sequence[Input],
        recipe: Recipe | str | Path,
        *,
        frames: int = 5,
        crop: int = 48,
        stream: str | None = None,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        if frames < 1 or crop < 1:
            raise UserError(f"{frames = }, {crop = }: both must be 1 or more")
        if isinstance(inputs, np.ndarray):
            raise UserError("inputs is one array: put it into a list, [array]")
        self._recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        self._streams = _stream_numbers(self._recipe, stream)
        self._frames, self._crop, self._augment, self._seed = frames, crop, augment, int(seed)
        self._sources = self._usable([inputs] if isinstance(inputs, str | Path) else inputs)
        self._items = [
            (number, part)
            for number, source in enumerate(self._sources)
            for part in range(_num_parts(self._recipe, source))
        ]
        # In shared memory, so that workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw everything anew. To be called before an epoch is iterated."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Window:
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # parallelism is over items
        drawn = self.draw(index)
        number, part = self._items[index]
        source = self._sources[number]
        pictures = _read(self._recipe, source, drawn.scene)
        try:
            window = _make(self._recipe, drawn, pictures, f"{source.name}-{part:05d}")
        except CodecError as error:
            error.add_note(f"in epoch {int(self._epoch)}, item {index}: {source.name}")
            raise
        for augmentation in itertools.compress(AUGMENTATIONS, drawn.turns):
            window = augmentation(window)
        return window

    def draw(self, index: int) -> OnlineDraw:
        """What item `index` is in this epoch; nothing is read or encoded for it."""
        index = range(len(self))[index]
        number, part = self._items[index]
        source = self._sources[number]
        seed = int(generator("epoch", self._seed, int(self._epoch)).integers(2**53))
        rng = generator("item", seed, index)
        planned = _plan(self._recipe, source, str(number), part, rng)
        scene = draw_scene(self._recipe, seed, planned, {str(number): _size(self._recipe, source)})
        stream = self._streams[int(rng.integers(len(self._streams)))]
        return OnlineDraw(
            kind=planned.kind,
            scene=scene,
            stream=draw_stream(self._recipe, seed, planned, scene, stream),
            cut=self._draw_cut(scene, stream, rng),
            turns=[self._augment and bool(rng.random() < 0.5) for _ in AUGMENTATIONS],
        )

    def _draw_cut(self, scene: SceneDraw, stream: int, rng: np.random.Generator) -> Cut:
        height, width = scene.height // self._recipe.scale, scene.width // self._recipe.scale
        return Cut(
            stream=stream,
            start=int(rng.integers(len(scene.origins) - self._frames + 1)),
            count=self._frames,
            top=int(rng.integers(height - self._crop + 1)),
            left=int(rng.integers(width - self._crop + 1)),
            height=self._crop,
            width=self._crop,
        )

    def _usable(self, inputs: Sequence[Input]) -> list[Source]:
        """All inputs, or an error that names each that cannot be used."""
        sources, problems = list[Source](), list[str]()
        for number, given in enumerate(without_folders(inputs)):
            name = name_of(given, number)
            try:
                sources.append(open_source(given, name))
                self._check(sources[-1])
            except UserError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise UserError(_listed(problems))
        if not sources:
            raise UserError("there are no inputs: give a folder, pictures or clips")
        if len({source.is_clip for source in sources}) > 1:
            raise UserError("pictures and clips make no common batch: make a dataset of each")
        return sources

    def _check(self, source: Source) -> None:
        """Raise a UserError unless items can be taken from a source."""
        patch = patch_size(self._recipe, *_size(self._recipe, source))
        lr_side = min(patch) // self._recipe.scale
        if not lr_side:
            least = f"{self._recipe.hr.patch_width}x{self._recipe.hr.patch_height}"
            raise UserError(f"{source.width}x{source.height} is too small for patches of {least}")
        if lr_side < self._crop:
            raise UserError(f"an LR side of {lr_side} is too small for crop = {self._crop}")
        length = _length(self._recipe, source)
        if length < self._frames:
            is_pack = _kind(self._recipe, source) is SampleKind.PSEUDO_VIDEO
            what = counted(length, "patch", "patches") if is_pack else counted(length, "frame")
            raise UserError(
                f"the recipe makes clips of {what} of it: too few for frames = {self._frames}"
            )


def _stream_numbers(recipe: Recipe, name: str | None) -> list[int]:
    """Streams to choose from."""
    names = [stream.name for stream in recipe.streams]
    if name is None:
        return list(range(len(names)))
    if name not in names:
        raise UserError(f"the recipe {recipe.name!r} has no stream {name!r}: choose from {names}")
    return [names.index(name)]


def _listed(problems: Sequence[str]) -> str:
    listed = list(problems[:_MOST_PROBLEMS])
    if len(problems) > len(listed):
        listed.append(f"and {len(problems) - len(listed)} more")
    head = f"{counted(len(problems), 'input')} cannot be used: take them out, or ask for less"
    return "\n  ".join([head, *listed])


def _kind(recipe: Recipe, source: Source) -> SampleKind:
    if source.is_clip:
        return SampleKind.CLIP
    is_camera = recipe.pseudo_video.packing == "camera"
    return SampleKind.CAMERA if is_camera else SampleKind.PSEUDO_VIDEO


def _size(recipe: Recipe, source: Source) -> tuple[int, int]:
    """(height, width) of the source as HR."""
    return hr_size(recipe, source.height, source.width)


def _num_cells(recipe: Recipe, source: Source) -> int:
    height, width = _size(recipe, source)
    patch_height, patch_width = patch_size(recipe, height, width)
    return (height // patch_height) * (width // patch_width)


def _num_parts(recipe: Recipe, source: Source) -> int:
    """Items of a source."""
    cells = _num_cells(recipe, source)
    match _kind(recipe, source):
        case SampleKind.PSEUDO_VIDEO:
            return 1
        case SampleKind.CAMERA:
            return min(cells, recipe.pseudo_video.patches_per_image)
        case SampleKind.CLIP:
            return len(_clip_spans(recipe, source)) * min(cells, recipe.clips.patches)


def _length(recipe: Recipe, source: Source) -> int:
    """Frames that are encoded together, at least."""
    settings = recipe.pseudo_video
    match _kind(recipe, source):
        case SampleKind.PSEUDO_VIDEO:
            return min(_num_cells(recipe, source), settings.patches_per_image, settings.frames)
        case SampleKind.CAMERA:
            return settings.frames
        case SampleKind.CLIP:
            return min(count for _, count in _clip_spans(recipe, source))


def _clip_spans(recipe: Recipe, source: Source) -> list[tuple[int, int]]:
    """(start, count) of nearly equal parts of a clip, `clips.frames` or more each."""
    num_frames = len(source.frames)
    num_spans = max(1, num_frames // recipe.clips.frames)
    edges = [num_frames * i // num_spans for i in range(num_spans + 1)]
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def _plan(
    recipe: Recipe, source: Source, source_id: str, part: int, rng: np.random.Generator
) -> PlannedSample:
    """The sample that part number `part` of a source is."""
    kind = _kind(recipe, source)
    start, count, patch = 0, _length(recipe, source), 0
    match kind:
        case SampleKind.PSEUDO_VIDEO:
            start = int(rng.integers(_num_cells(recipe, source) - count + 1))
        case SampleKind.CAMERA:
            patch = int(rng.integers(_num_cells(recipe, source)))
        case SampleKind.CLIP:
            spans = _clip_spans(recipe, source)
            patch, number = divmod(part, len(spans))
            start, count = spans[number]
    return PlannedSample(
        shard="",
        key=source_id,
        kind=kind,
        split=TRAIN,
        group=source_id,
        licence="",
        clip=part,
        patch=patch,
        spans=[Span(source_id=source_id, start=start, count=count)],
        estimated_bytes=0,
    )


def _read(recipe: Recipe, source: Source, scene: SceneDraw) -> dict[tuple[str, int], np.ndarray]:
    """The pictures that a scene is cut out of."""
    found = {(origin.source_id, origin.frame) for origin in scene.origins}
    return {key: pre_downscale(source.read(key[1]), recipe) for key in found}


def _make(recipe: Recipe, drawn: OnlineDraw, pictures: Pictures, key: str) -> Window:
    """Degrade as drawn, and cut the window out."""
    scene, cut = drawn.scene, drawn.cut
    _, hr, degraded = scene_frames(scene, pictures)
    # One of the recipe's streams, and none of the others.
    alone = recipe.model_copy(update={"streams": [recipe.streams[cut.stream]]})
    (made,) = make_streams(alone, scene, [drawn.stream], degraded)
    frames = made.stream.frames[cut.start : cut.start + cut.count]
    moves = drawn.kind is not SampleKind.PSEUDO_VIDEO
    return Window(
        key=key,
        stream_name=made.stream.name,
        kind=drawn.kind,
        lr=_cut_out(made.decoded[cut.start : cut.start + cut.count], cut),
        hr=_cut_out(hr[cut.start : cut.start + cut.count], cut, recipe.scale),
        flow=_motion(made.blocks, made.stream, cut) if moves else _no_motion(cut),
        frame_type=np.array([frame.frame_type.code for frame in frames], np.int64),
        qp=np.array([frame.qp_mean for frame in frames], np.float32),
        crf=made.stream.crf,
    )


def _cut_out(x: np.ndarray, cut: Cut, scale: int = 1) -> np.ndarray:
    rows = slice(scale * cut.top, scale * (cut.top + cut.height))
    return x[:, rows, scale * cut.left : scale * (cut.left + cut.width)]


def _motion(blocks: np.ndarray, stream: Stream, cut: Cut) -> Flow:
    flow = dense_flow(blocks, stream, *lr_size(stream), cut.start, cut.count)
    return Flow(*(_cut_out(x, cut) for x in flow))


def _no_motion(cut: Cut) -> Flow:
    # The codec found matches between unrelated pictures; they are no motion.
    vectors = np.zeros((cut.count, cut.height, cut.width, 2), np.float32)
    return Flow(previous=vectors, next=vectors, valid=np.zeros(vectors.shape[:3], np.uint8))
