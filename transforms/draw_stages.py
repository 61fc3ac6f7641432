"""Drawing a chain of stages: orders, branches and every parameter."""

import math

import numpy as np

from schemas.codec_stage import CodecStage
from schemas.draw import (
    BlurDraw,
    BlurKernel,
    CropDraw,
    DenoiseDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    RetimeDraw,
    SharpenDraw,
    StageDraw,
    StillDraw,
)
from schemas.number import Number, Range
from schemas.stages import (
    BlurStage,
    ChoiceStage,
    DenoiseStage,
    DownscaleStage,
    NoiseStage,
    ResizeStage,
    RetimeStage,
    SharpenStage,
    ShuffleStage,
    Stage,
    StillStage,
)
from transforms.draw_codec import draw_codec
from transforms.draw_values import (
    draw_number,
    draw_scaling,
    draw_track,
    draw_weighted,
    rounded,
    walk,
)

_MIN_SIDE = 16  # pixels; random resizes stop here
_SINC_SMALL_SIZE = 13  # Real-ESRGAN: smaller kernels get no cutoff below pi / 3
# Brooks et al. 2019, section 3.1: the logarithm of a camera's read noise grows with that of its
# shot noise, and scatters.
_READ_SLOPE, _READ_OFFSET, _READ_SCATTER = 2.18, 1.20, 0.26


class ChainDrawer:
    """Draws stages one after the other, keeping track of the pictures' sizes.

    Args:
        size: (height, width) of the frames that come in.
        scale: HR size over LR size; the size that comes in is that of HR.
        num_frames: T.
        independent: frames have nothing to do with each other; they share kernels, sizes and kinds
            of noise, as in VCISR, but neither levels nor qualities.
        intra: codecs code every frame alone.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: int,
        num_frames: int,
        *,
        independent: bool = False,
        intra: bool = False,
    ) -> None:
        self._heights, self._widths = [size[0]], [size[1]]
        self._lr_size = (size[0] // scale, size[1] // scale)
        self._num_frames = num_frames
        self._independent, self._intra = independent, intra

    def draw(self, stages: list[Stage], rng: np.random.Generator) -> list[StageDraw]:
        """Draw stages that follow those drawn or followed before."""
        return [draw for stage in stages for draw in self._draw_stage(stage, rng)]

    def follow(self, stages: list[StageDraw]) -> None:
        """Take over the size after stages that were drawn before."""
        for stage in stages:
            if isinstance(stage, ResizeDraw):
                self._heights, self._widths = stage.height, stage.width
            elif isinstance(stage, PadDraw | CropDraw):
                self._heights, self._widths = [stage.height], [stage.width]

    def _draw_stage(self, stage: Stage, rng: np.random.Generator) -> list[StageDraw]:
        if isinstance(stage, DownscaleStage):
            return [self._draw_downscale(stage, rng)]
        if stage.probability < 1 and rng.random() >= stage.probability:
            return []
        match stage:
            case BlurStage():
                return [self._draw_blur(stage, rng)]
            case ResizeStage():
                return [self._draw_resize(stage, rng)]
            case NoiseStage():
                return [self._draw_noise(stage, rng)]
            case StillStage():
                return [self._draw_still(stage, rng)]
            case SharpenStage():
                return [self._draw_sharpen(stage, rng)]
            case DenoiseStage():
                strength = draw_number(stage.strength, rng)
                return [*self._to_one_size(), DenoiseDraw(strength=strength)]
            case RetimeStage():
                return [] if self._independent else [self._draw_retime(stage, rng)]
            case CodecStage():
                return self._draw_codec(stage, rng)
            case ChoiceStage():
                weights = {i: branch.weight for i, branch in enumerate(stage.branches)}
                return self.draw(stage.branches[draw_weighted(weights, rng)].stages, rng)
            case ShuffleStage():
                order = _draw_order(stage, rng)
                return [draw for group in order for draw in self.draw(stage.groups[group], rng)]

    def _track(self, number: Number, rng: np.random.Generator) -> list[float]:
        """What frames of a clip share or walk, and frames of a pack share."""
        if self._independent:
            return [draw_number(number, rng)]
        return draw_track(number, self._num_frames, rng)

    def _own_track(self, number: Number, rng: np.random.Generator) -> list[float]:
        """What frames of a clip share or walk, and each frame of a pack has of its own."""
        return draw_track(number, self._num_frames, rng, independent=self._independent)

    def _own_flags(self, probability: float, rng: np.random.Generator) -> list[bool]:
        values = self._own_track(Range(min=0, max=1), rng)
        return [value < probability for value in values]

    def _draw_blur(self, stage: BlurStage, rng: np.random.Generator) -> BlurDraw:
        kernel: BlurKernel = draw_weighted(stage.kernels, rng)
        size = int(draw_number(stage.size, rng))
        if kernel == "sinc":
            return BlurDraw(
                kernel=kernel,
                size=size,
                sigma_x=[0.0],
                sigma_y=[0.0],
                theta=[0.0],
                beta=[1.0],
                cutoff=self._draw_cutoff(stage, size, rng),
            )
        sigma_x = self._track(stage.sigma, rng)
        is_isotropic = kernel.endswith("isotropic") and not kernel.endswith("anisotropic")
        return BlurDraw(
            kernel=kernel,
            size=size,
            sigma_x=sigma_x,
            sigma_y=sigma_x if is_isotropic else self._track(stage.sigma, rng),
            theta=[0.0] if is_isotropic else self._track(stage.theta, rng),
            beta=self._draw_beta(stage, kernel, rng),
            cutoff=[0.0],
        )

    def _draw_cutoff(self, stage: BlurStage, size: int, rng: np.random.Generator) -> list[float]:
        least = math.pi / 3 if size < _SINC_SMALL_SIZE else math.pi / 5
        default = Range(min=least, max=math.pi, walk=stage.cutoff_walk)
        return self._track(default if stage.cutoff is None else stage.cutoff, rng)

    def _draw_beta(
        self, stage: BlurStage, kernel: BlurKernel, rng: np.random.Generator
    ) -> list[float]:
        ranges = {"generalized": stage.beta_generalized, "plateau": stage.beta_plateau}
        number = ranges.get(kernel.split("_")[0])
        if number is None:
            return [1.0]
        if not isinstance(number, Range) or not number.min <= 1 <= number.max:
            return self._track(number, rng)
        # Real-ESRGAN: below and above 1 are equally likely, however wide either side is.
        first = draw_number(
            number.model_copy(update={"max": 1.0} if rng.random() < 0.5 else {"min": 1.0}), rng
        )
        if not number.walk or self._independent:
            return [first]
        return walk(first, number.walk, (number.min, number.max), self._num_frames, rng)

    def _draw_downscale(self, stage: DownscaleStage, rng: np.random.Generator) -> ResizeDraw:
        kernel = stage.kernels[int(rng.integers(len(stage.kernels)))]
        self._heights, self._widths = [self._lr_size[0]], [self._lr_size[1]]
        return ResizeDraw(height=self._heights, width=self._widths, kernel=kernel)

    def _draw_resize(self, stage: ResizeStage, rng: np.random.Generator) -> ResizeDraw:
        kernel = stage.kernels[int(rng.integers(len(stage.kernels)))]
        frames = 1 if self._independent else self._num_frames
        factors = draw_scaling(stage.scaling, frames, rng)
        heights, widths = self._heights, self._widths
        if stage.relative_to == "lr":
            heights, widths = [self._lr_size[0]], [self._lr_size[1]]
        is_nominal = stage.nominal and kernel.startswith("torch_")
        # The gaussian kernel, which may come next, knows whole divisors only.
        whole = stage.whole_shrink
        divides = whole and not any(side % whole for side in (*heights, *widths))
        least = 1 if divides else _MIN_SIDE
        self._heights = _scaled(heights, factors, least, cut_off=is_nominal)
        self._widths = _scaled(widths, factors, least, cut_off=is_nominal)
        return ResizeDraw(
            height=self._heights,
            width=self._widths,
            kernel=kernel,
            sigma=draw_number(stage.sigma, rng) if kernel == "gaussian" else 0,
            factor=factors if is_nominal and stage.relative_to == "current" else [],
        )

    def _draw_noise(self, stage: NoiseStage, rng: np.random.Generator) -> NoiseDraw:
        kind = draw_weighted(stage.kinds, rng)
        levels: dict[str, Number] = {
            "gaussian": stage.sigma,
            "poisson": stage.poisson_scale,
            "speckle": stage.speckle,
            "camera": stage.shot,
        }
        level = self._own_track(levels[kind], rng)
        is_correlated = (
            kind in ("gaussian", "speckle") and rng.random() < stage.correlated_probability
        )
        gray = [False] if is_correlated else self._own_flags(stage.gray_probability, rng)
        static = [bool(rng.random() < stage.static_probability)]
        if stage.static_gray and kind == "gaussian":
            static = gray
        return NoiseDraw(
            kind=kind,
            level=level,
            read_level=_read_noise(level, rng) if kind == "camera" else [0.0],
            gray=gray,
            static=static,
            covariance=_draw_covariance(rng) if is_correlated else [],
            bgr=stage.bgr,
            seed=int(rng.integers(2**53)),
        )

    def _draw_still(self, stage: StillStage, rng: np.random.Generator) -> StillDraw:
        quality = self._own_track(stage.quality, rng)
        is_whole = stage.codec != "diffjpeg"
        return StillDraw(
            codec=stage.codec,
            quality=[float(round(q)) for q in quality] if is_whole else quality,
            subsampling=draw_weighted(stage.subsampling, rng),
            effort=round(draw_number(stage.effort, rng)),
            truncate=stage.truncate,
            bgr=stage.bgr,
        )

    def _draw_sharpen(self, stage: SharpenStage, rng: np.random.Generator) -> SharpenDraw:
        return SharpenDraw(
            amount=self._own_track(stage.amount, rng),
            sigma=draw_number(stage.sigma, rng),
            threshold=draw_number(stage.threshold, rng),
        )

    def _draw_retime(self, stage: RetimeStage, rng: np.random.Generator) -> RetimeDraw:
        is_dropped = rng.random(self._num_frames) < draw_number(stage.freeze_probability, rng)
        is_dropped[0] = False
        shown = np.where(is_dropped, 0, np.arange(self._num_frames))
        return RetimeDraw(frames=np.maximum.accumulate(shown).tolist())

    def _draw_codec(self, stage: CodecStage, rng: np.random.Generator) -> list[StageDraw]:
        to_one_size = self._to_one_size()
        size = (self._heights[0], self._widths[0])
        codec = draw_codec(
            stage, size, self._num_frames, rng, independent=self._independent, intra=self._intra
        )
        return [*to_one_size, *codec]

    def _to_one_size(self) -> list[StageDraw]:
        """What looks at several frames knows one size; the others get that of the first one."""
        if len(self._heights) == len(self._widths) == 1:
            return []
        self._heights, self._widths = self._heights[:1], self._widths[:1]
        return [ResizeDraw(height=self._heights, width=self._widths, kernel="matlab_bicubic")]


def _draw_order(stage: ShuffleStage, rng: np.random.Generator) -> list[int]:
    """Numbers of the groups in a random order; those that keep theirs share out their places."""
    order = [int(number) for number in rng.permutation(len(stage.groups))]
    kept = iter(stage.keep_order)
    return [next(kept) if number in stage.keep_order else number for number in order]


def _scaled(sides: list[int], factors: list[float], least: int, *, cut_off: bool) -> list[int]:
    if len(sides) == 1:
        sides = sides * len(factors)
    elif len(factors) == 1:
        factors = factors * len(sides)
    to_whole = math.floor if cut_off else round
    return [
        max(min(side, least), to_whole(side * factor))
        for side, factor in zip(sides, factors, strict=True)
    ]


def _read_noise(shot: list[float], rng: np.random.Generator) -> list[float]:
    scatter = _READ_SCATTER * float(rng.standard_normal())
    return [
        rounded(math.exp(_READ_SLOPE * math.log(level) + _READ_OFFSET + scatter)) if level else 0.0
        for level in shot
    ]


def _draw_covariance(rng: np.random.Generator) -> list[float]:
    """R' D R with a random rotation R and random variances D up to 1 (BSRGAN), row by row.

    In plain Python: linear algebra libraries round differently from machine to machine.
    """
    variances = [float(v) for v in rng.random(3)]
    w, x, y, z = (float(v) for v in rng.standard_normal(4))
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    rotation = [  # of a uniformly random unit quaternion
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return [
        sum(variances[k] * rotation[k][i] * rotation[k][j] for k in range(3))
        for i in range(3)
        for j in range(3)
    ]
