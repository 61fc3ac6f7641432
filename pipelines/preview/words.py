"""A drawn stage in words: a name that fits into a summary, and lines with all that was drawn."""

import math
from collections.abc import Sequence

from pipelines.preview.chain import Step
from schemas.draw import (
    BlurDraw,
    CodecDraw,
    ColorDraw,
    CropDraw,
    DenoiseDraw,
    NoiseDraw,
    PadDraw,
    ResizeDraw,
    RetimeDraw,
    SharpenDraw,
    StageDraw,
    StillDraw,
    at,
)
from schemas.sample import Generation
from schemas.wording import counted

_SUBSAMPLING = {"420": "4:2:0", "444": "4:4:4"}


def summary(steps: Sequence[Step], shown: int) -> str:
    """A chain in one line."""
    return " > ".join(name(step, shown) for step in steps) or "nothing"


def name(step: Step, shown: int) -> str:
    """A step's name with the numbers that matter most, for the frame that is shown."""
    stage = _main_stage(step.stages)
    match stage:
        case BlurDraw():
            return f"blur {stage.kernel.replace('_', ' ')} {_blur_width(stage, shown)}"
        case ResizeDraw():
            return f"resize {stage.kernel} {at(stage.width, shown)} x {at(stage.height, shown)}"
        case NoiseDraw():
            return f"noise {stage.kind} {at(stage.level, shown):.3g}"
        case StillDraw():
            return f"{stage.codec} {at(stage.quality, shown):.3g}"
        case SharpenDraw():
            return f"sharpen {at(stage.amount, shown):.2g}"
        case DenoiseDraw():
            return f"denoise {stage.strength:.2g}"
        case CodecDraw():
            return f"{stage.codec} {_rate(stage)}"
        case RetimeDraw() | PadDraw() | CropDraw():
            return stage.op


def lines(step: Step, before: tuple[int, int], shown: int) -> list[str]:
    """All that was drawn for a step, and what its bitstream said.

    Args:
        step: the step.
        before: (height, width) of the shown frame before it.
        shown: display index of that frame; of numbers that differ from frame to frame, its own
            comes first, then the range of all.
    """
    stage = _main_stage(step.stages)
    match stage:
        case BlurDraw():
            return _blur_lines(stage, shown)
        case ResizeDraw():
            return _resize_lines(stage, before, shown)
        case NoiseDraw():
            return _noise_lines(stage, shown)
        case StillDraw():
            return _still_lines(stage, shown)
        case SharpenDraw():
            threshold = f", threshold {stage.threshold:.3g}" if stage.threshold else ""
            amount = _spread(stage.amount, shown)
            return [f"amount {amount}, sigma {stage.sigma:.3g} pixels{threshold}"]
        case DenoiseDraw():
            return [f"hqdn3d, strength {stage.strength:.3g}"]
        case RetimeDraw():
            return [_frozen(stage)]
        case CodecDraw():
            return _codec_lines(step, stage, before)
        case PadDraw() | CropDraw():
            return [f"to {stage.width} x {stage.height}, off by {stage.top}, {stage.left}"]


def _main_stage(stages: Sequence[StageDraw]) -> StageDraw:
    return next((stage for stage in stages if isinstance(stage, CodecDraw)), stages[0])


def _spread(values: Sequence[float], shown: int, digits: int = 3) -> str:
    """The shown frame's value, and the range where frames differ."""
    text = f"{at(values, shown):.{digits}g}"
    if min(values) == max(values):
        return text
    return f"{text} (frames: {min(values):.{digits}g} to {max(values):.{digits}g})"


def _blur_width(draw: BlurDraw, shown: int) -> str:
    if draw.kernel == "sinc":
        return f"{at(draw.cutoff, shown):.2g}"
    x, y = at(draw.sigma_x, shown), at(draw.sigma_y, shown)
    return f"{x:.2g}" if x == y else f"{x:.2g} x {y:.2g}"


def _blur_lines(draw: BlurDraw, shown: int) -> list[str]:
    size = f"{draw.size} x {draw.size} taps"
    if draw.kernel == "sinc":
        return [size, f"cutoff {_spread(draw.cutoff, shown)} radians a pixel"]
    if draw.sigma_x == draw.sigma_y:
        found = [size, f"sigma {_spread(draw.sigma_x, shown)} pixels"]
    else:
        degrees = [math.degrees(angle) for angle in draw.theta]
        found = [
            f"{size}, turned by {_spread(degrees, shown)} degrees",
            f"sigma {_spread(draw.sigma_x, shown)} pixels",
            f"and {_spread(draw.sigma_y, shown)} across",
        ]
    is_plain = set(draw.beta) == {1.0} and not draw.kernel.startswith("plateau")
    return found if is_plain else [*found, f"beta {_spread(draw.beta, shown)}"]


def _resize_lines(draw: ResizeDraw, before: tuple[int, int], shown: int) -> list[str]:
    height, width = at(draw.height, shown), at(draw.width, shown)
    found = [f"{before[1]} x {before[0]} to {width} x {height}, factor {width / before[1]:.3g}"]
    if len(set(draw.width)) > 1:
        found.append(f"frames: {min(draw.width)} to {max(draw.width)} columns")
    if draw.sigma:
        found.append(f"sigma {draw.sigma:.3g} pixels")
    if draw.factor:
        found.append("positions by the factor, not by the sizes")
    return found


def _noise_lines(draw: NoiseDraw, shown: int) -> list[str]:
    level = _spread(draw.level, shown)
    found = {
        "gaussian": [f"sigma {level} of 255"],
        "poisson": [f"factor {level}"],
        "speckle": [f"sigma {level} of the signal"],
        "camera": [
            f"shot noise {level}, variance of linear light",
            f"read noise {_spread(draw.read_level, shown)}",
        ],
    }[draw.kind]
    channels = "the same in all channels" if at(draw.gray, shown) else "each channel its own"
    if draw.covariance:
        channels = "channels correlated at random"
    pattern = "one pattern for all frames" if at(draw.static, shown) else "fresh in every frame"
    return [*found, f"{channels}, {pattern}"]


def _still_lines(draw: StillDraw, shown: int) -> list[str]:
    effort = f", effort {draw.effort}" if draw.codec in ("webp", "avif") else ""
    quality = f"quality {_spread(draw.quality, shown)}"
    found = [quality, f"{_SUBSAMPLING[draw.subsampling]} chroma{effort}"]
    return [*found, "8 bits by cutting off and wrapping around"] if draw.truncate else found


def _frozen(draw: RetimeDraw) -> str:
    repeated = sum(a == b for a, b in zip(draw.frames, draw.frames[1:], strict=False))
    return f"{repeated} of {len(draw.frames)} frames show the one before again"


def _rate(draw: CodecDraw) -> str:
    if draw.rate_mode == "bitrate":
        return f"{draw.rate_value / 1000:.4g} kbit/s"
    return f"{draw.rate_mode} {draw.rate_value:g}"


def _codec_lines(step: Step, draw: CodecDraw, before: tuple[int, int]) -> list[str]:
    assert step.generation is not None
    return [
        *_reached(step.generation),
        *_settings(draw, step.generation),
        *_around_codec(step.stages, draw, before),
        *_mismatches(draw.color),
    ]


def _reached(generation: Generation) -> list[str]:
    count = len(generation.frame_types)
    bits = 8 * generation.stream_bytes
    rate = bits / count * generation.fps / 1000
    density = bits / (count * generation.coded_height * generation.coded_width)
    quantiser = f", mean QP {generation.qp_mean:.3g}" if generation.qp_mean >= 0 else ""
    return [f"{rate:.4g} kbit/s, {density:.3g} bits/pixel{quantiser}"]


def _settings(draw: CodecDraw, generation: Generation) -> list[str]:
    names = [f"{key} {value}" for key, value in _named(draw).items() if value]
    limits = [
        f"GOP {draw.gop_frames}",
        f"B frames {draw.b_frames}",
        *([f"refs {draw.refs}"] if draw.refs else []),
        *([f"slices {draw.slices}"] if draw.slices > 1 else []),
        *([f"{counted(len(draw.lost), 'slice')} lost"] if draw.lost else []),
        *([] if draw.scene_cut else ["no scene cuts"]),
    ]
    found = [", ".join([f"encoder {generation.encoder}", *names]), ", ".join(limits)]
    if draw.max_bitrate:
        seconds = draw.buffer_bits / draw.max_bitrate
        found.append(f"at most {draw.max_bitrate / 1000:.4g} kbit/s over {seconds:.2g} s")
    return [*found, f"{draw.pixel_format}, {draw.fps} frames/s"]


def _named(draw: CodecDraw) -> dict[str, str]:
    return {"preset": draw.preset, "tune": draw.tune, "profile": draw.profile}


def _around_codec(
    stages: Sequence[StageDraw], draw: CodecDraw, before: tuple[int, int]
) -> list[str]:
    found = []
    position = next(i for i, stage in enumerate(stages) if isinstance(stage, CodecDraw))
    for stage in stages[:position]:
        if isinstance(stage, RetimeDraw):
            found.append(f"{counted(len(stage.frames), 'frame')} coded, the others repeat them")
        elif isinstance(stage, ResizeDraw):
            size = f"{stage.width[0]} x {stage.height[0]}"
            found.append(f"resized from {before[1]} x {before[0]} to {size} and back")
            found.append(f"with {stage.kernel}")
        elif isinstance(stage, PadDraw):
            rows, columns = counted(stage.top, "row"), counted(stage.left, "column")
            shift = f", {rows} and {columns} off the block grid"
            is_shifted = bool(stage.top or stage.left)
            found.append(f"padded to {draw.width} x {draw.height}" + shift * is_shifted)
    return found


def _mismatches(color: ColorDraw) -> list[str]:
    sides = {
        "matrix": (color.written_matrix, color.read_matrix),
        "range": (color.written_range, color.read_range),
        "chroma": (color.written_location, color.read_location),
    }
    found = [
        f"wrong {what}: written {wrote}, read {read}"
        for what, (wrote, read) in sides.items()
        if wrote != read
    ]
    return [*found, "FFmpeg's fast conversion"] if color.scaler == "fast" else found
