"""All randomness: from (dataset seed, source, clip, stream) to a complete draw.

Nothing here touches pixels. Generators come from content, never from process, worker, time or
order, so that a sample has the same draw on every runner and every retry.
"""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from schemas.draw import (
    BlurDraw,
    BlurKernel,
    CodecDraw,
    JpegDraw,
    NoiseDraw,
    RateMode,
    ResizeDraw,
    SceneDraw,
    StageDraw,
    StreamDraw,
)
from schemas.plan import PlannedSample
from schemas.recipe import (
    BlurStage,
    CodecStage,
    DownscaleStage,
    EncoderSettings,
    JpegStage,
    NoiseStage,
    Number,
    Range,
    Recipe,
    ResizeStage,
    Scaling,
    Stage,
)
from schemas.sample import Origin, SampleKind

T = TypeVar("T")

_MIN_SIDE = 16  # pixels; random resizes stop here
_SINC_SMALL_SIZE = 13  # Real-ESRGAN: smaller kernels get no cutoff below pi / 3
_MPEG2_FPS = 25  # MPEG-2 knows a handful of rates only
_DEFAULT_PRESET = "medium"


def generator(*parts: int | str) -> np.random.Generator:
    """A generator that depends on the parts and on nothing else."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def hr_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """Size of a source after the recipe's pre-downscale, pixels."""
    factor = recipe.hr.pre_downscale
    return round(height / factor), round(width / factor)


def patch_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """Size of the HR patch in a picture of (height, width) pixels; 0 where none fits."""
    unit = 2 * recipe.scale
    patch = (
        recipe.hr.patch_height or height // unit * unit,
        recipe.hr.patch_width or width // unit * unit,
    )
    return patch if patch[0] <= height and patch[1] <= width else (0, 0)


def patch_grid(
    recipe: Recipe, seed: int, source_id: str, height: int, width: int, start: int = 0
) -> list[tuple[int, int]]:
    """Non-overlapping HR patches of a picture: a grid at a random offset (VCISR).

    Args:
        recipe: gives the patch size.
        seed: the dataset's seed.
        source_id: the source.
        height: rows of the picture after pre-downscale.
        width: columns of it.
        start: first frame of the clip; every clip has an offset of its own.

    Returns:
        (top, left) of each cell, row by row; empty where no patch fits.
    """
    patch_height, patch_width = patch_size(recipe, height, width)
    if not patch_height or not patch_width:
        return []
    rng = generator("grid", seed, source_id, start)
    top = int(rng.integers(height % patch_height + 1))
    left = int(rng.integers(width % patch_width + 1))
    return [
        (top + row * patch_height, left + column * patch_width)
        for row in range(height // patch_height)
        for column in range(width // patch_width)
    ]


def draw_scene(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> SceneDraw:
    """Draw what all streams of a sample share.

    Args:
        recipe: the ranges.
        seed: the dataset's seed.
        planned: the sample.
        sizes: (height, width) of each of its sources, after pre-downscale.
    """
    origins = _origins(recipe, seed, planned, sizes)
    height, width = patch_size(recipe, *sizes[origins[0].source_id])
    rng = generator("scene", seed, identity(planned), planned.clip)
    chain = _Chain(recipe, planned.kind, len(origins), (height, width))
    stages = chain.draw(recipe.shared, rng)
    return SceneDraw(height=height, width=width, origins=origins, stages=stages)


def identity(planned: PlannedSample) -> str:
    """What the sample's draws are seeded by: its source, or the pack that it is."""
    is_clip = planned.kind is SampleKind.CLIP
    return planned.spans[0].source_id if is_clip else planned.key


def _origins(
    recipe: Recipe, seed: int, planned: PlannedSample, sizes: Mapping[str, tuple[int, int]]
) -> list[Origin]:
    if planned.kind is SampleKind.PSEUDO_VIDEO:
        return [
            Origin(source_id=span.source_id, frame=0, top=top, left=left)
            for span in planned.spans
            for top, left in patch_grid(recipe, seed, span.source_id, *sizes[span.source_id])[
                span.start : span.start + span.count
            ]
        ]
    span = planned.spans[0]
    cells = patch_grid(recipe, seed, span.source_id, *sizes[span.source_id], start=span.start)
    order = generator("cells", seed, span.source_id, span.start).permutation(len(cells))
    top, left = cells[order[planned.patch]]
    return [
        Origin(source_id=span.source_id, frame=frame, top=top, left=left)
        for frame in range(span.start, span.start + span.count)
    ]


def draw_stream(
    recipe: Recipe, seed: int, planned: PlannedSample, scene: SceneDraw, stream: int
) -> StreamDraw:
    """Draw what stream number `stream` adds to the scene."""
    rng = generator("stream", seed, identity(planned), planned.clip, stream)
    size = (scene.height, scene.width)
    chain = _Chain(recipe, planned.kind, len(scene.origins), size)
    chain.follow(scene.stages)
    return StreamDraw(stages=chain.draw(recipe.streams[stream].stages, rng))


class _Chain:
    """Draws stages one after the other, keeping track of the picture's size."""

    def __init__(
        self, recipe: Recipe, kind: SampleKind, num_frames: int, size: tuple[int, int]
    ) -> None:
        self._size = size
        self._lr_size = (size[0] // recipe.scale, size[1] // recipe.scale)
        self._num_frames = num_frames
        self._frames_differ = kind is SampleKind.PSEUDO_VIDEO

    def draw(self, stages: list[Stage], rng: np.random.Generator) -> list[StageDraw]:
        return [draw for stage in stages if (draw := self._draw_stage(stage, rng)) is not None]

    def follow(self, stages: list[StageDraw]) -> None:
        for stage in stages:
            if isinstance(stage, ResizeDraw):
                self._size = (stage.height, stage.width)

    def _draw_stage(self, stage: Stage, rng: np.random.Generator) -> StageDraw | None:
        if isinstance(stage, BlurStage):
            return _draw_blur(stage, rng)
        if isinstance(stage, NoiseStage):
            return self._draw_noise(stage, rng)
        if isinstance(stage, JpegStage):
            return JpegDraw(quality=[round(q) for q in self._per_frame(stage.quality, rng)])
        if isinstance(stage, CodecStage):
            return _draw_codec(stage, self._lr_size, rng)
        return self._draw_resize(stage, rng)

    def _draw_resize(
        self, stage: ResizeStage | DownscaleStage, rng: np.random.Generator
    ) -> ResizeDraw:
        kernel = stage.kernels[int(rng.integers(len(stage.kernels)))]
        if isinstance(stage, DownscaleStage):
            self._size = self._lr_size
        else:
            base = self._size if stage.relative_to == "current" else self._lr_size
            factor = _draw_factor(stage.scaling, rng)
            self._size = (_scaled(base[0], factor), _scaled(base[1], factor))
        return ResizeDraw(height=self._size[0], width=self._size[1], kernel=kernel)

    def _draw_noise(self, stage: NoiseStage, rng: np.random.Generator) -> NoiseDraw:
        is_gaussian = bool(rng.random() < stage.gaussian_probability)
        gray = self._per_frame(Range(min=0, max=1), rng)
        return NoiseDraw(
            kind="gaussian" if is_gaussian else "poisson",
            level=self._per_frame(stage.sigma if is_gaussian else stage.poisson_scale, rng),
            gray=[value < stage.gray_probability for value in gray],
            seed=int(rng.integers(2**53)),
        )

    def _per_frame(self, number: Number, rng: np.random.Generator) -> list[float]:
        # Frames of a clip share a camera and an encoder; patches of a pack share nothing.
        if self._frames_differ:
            return [draw_number(number, rng) for _ in range(self._num_frames)]
        return [draw_number(number, rng)] * self._num_frames


def draw_number(number: Number, rng: np.random.Generator) -> float:
    """Draw from a fixed value, a range, or a list of values."""
    if isinstance(number, Range):
        if number.step:
            steps = int((number.max - number.min) / number.step + 1e-9)
            return number.min + number.step * int(rng.integers(steps + 1))
        return float(rng.uniform(number.min, number.max))
    if isinstance(number, list):
        return number[int(rng.integers(len(number)))]
    return number


def _draw_weighted(weights: Mapping[T, float], rng: np.random.Generator) -> T:
    total = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(total, rng.random() * total[-1], side="right"))]


def _draw_factor(scaling: Scaling, rng: np.random.Generator) -> float:
    weights = {"up": scaling.up, "down": scaling.down, "keep": scaling.keep}
    ways: dict[str, Number] = {"up": scaling.up_factor, "down": scaling.down_factor, "keep": 1.0}
    return draw_number(ways[_draw_weighted(weights, rng)], rng)


def _scaled(side: int, factor: float) -> int:
    return max(min(side, _MIN_SIDE), round(side * factor))


def _draw_blur(stage: BlurStage, rng: np.random.Generator) -> BlurDraw | None:
    if rng.random() >= stage.probability:
        return None
    kernel: BlurKernel = _draw_weighted(stage.kernels, rng)
    size = int(draw_number(stage.size, rng))
    if kernel == "sinc":
        least = np.pi / 3 if size < _SINC_SMALL_SIZE else np.pi / 5
        cutoff = float(rng.uniform(least, np.pi))
        return BlurDraw(
            kernel=kernel, size=size, sigma_x=0, sigma_y=0, theta=0, beta=1, cutoff=cutoff
        )
    sigma_x = draw_number(stage.sigma, rng)
    is_isotropic = kernel.endswith("isotropic") and not kernel.endswith("anisotropic")
    return BlurDraw(
        kernel=kernel,
        size=size,
        sigma_x=sigma_x,
        sigma_y=sigma_x if is_isotropic else draw_number(stage.sigma, rng),
        theta=0 if is_isotropic else float(rng.uniform(-np.pi, np.pi)),
        beta=_draw_beta(stage, kernel, rng),
        cutoff=0,
    )


def _draw_beta(stage: BlurStage, kernel: BlurKernel, rng: np.random.Generator) -> float:
    ranges = {"generalized": stage.beta_generalized, "plateau": stage.beta_plateau}
    number = ranges.get(kernel.split("_")[0])
    if number is None:
        return 1
    if not isinstance(number, Range):
        return draw_number(number, rng)
    # Real-ESRGAN: below and above 1 are equally likely, however wide either side is.
    below = rng.random() < 0.5
    ends = (number.min, min(1.0, number.max)) if below else (max(1.0, number.min), number.max)
    return float(rng.uniform(min(ends), max(ends)))


def _draw_codec(stage: CodecStage, lr_size: tuple[int, int], rng: np.random.Generator) -> CodecDraw:
    choices = {index: encoder.weight for index, encoder in enumerate(stage.encoders)}
    encoder = stage.encoders[_draw_weighted(choices, rng)]
    height, width = lr_size[0], 2 * round(_draw_factor(stage.width_ratio, rng) * lr_size[1] / 2)
    drawn_fps = round(draw_number(stage.fps, rng))
    fps = _MPEG2_FPS if encoder.codec == "mpeg2video" else drawn_fps
    mode, number = encoder.rate
    gop_frames = int(draw_number(encoder.gop_frames, rng))
    return CodecDraw(
        codec=encoder.codec,
        rate_mode=mode,
        rate_value=_rate_value(mode, draw_number(number, rng), height * width * fps),
        preset=_draw_preset(encoder, rng),
        gop_frames=gop_frames,
        b_frames=min(int(draw_number(encoder.b_frames, rng)), gop_frames - 1),
        pixel_format=encoder.pixel_format,
        fps=fps,
        height=height,
        width=max(2, width),
    )


def _rate_value(mode: RateMode, value: float, pixels_per_second: int) -> float:
    """Round to what the encoders can tell: tenths of a factor, whole quantisers and kbit/s."""
    if mode == "crf":
        return round(value, 1)
    if mode == "qscale":
        return round(value)
    return max(1000, round(value * pixels_per_second, -3))


def _draw_preset(encoder: EncoderSettings, rng: np.random.Generator) -> str:
    if encoder.presets:
        return _draw_weighted(encoder.presets, rng)
    return _DEFAULT_PRESET if encoder.codec in ("h264", "hevc") else ""
