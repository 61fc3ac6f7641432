"""Drawing a codec: which encoder, how it is set, and what must happen around it.

The picture is brought to a size that the encoder takes, and back, by stages of their own; so a
codec's draw is about frames that already have its size.
"""

import math
from typing import Any

import numpy as np

from schemas.codec_stage import CodecStage, ColorSettings, EncoderSettings
from schemas.draw import (
    ChromaLocation,
    Codec,
    CodecDraw,
    ColorDraw,
    ColorRange,
    CropDraw,
    LostSlice,
    Matrix,
    PadDraw,
    PixelFormat,
    ResizeDraw,
    ResizeKernel,
    RetimeDraw,
    StageDraw,
)
from schemas.encoders import EncoderTraits
from transforms.codec import coded_size
from transforms.draw_values import draw_number, draw_scaling, draw_weighted

_DEFAULT_GOP_FRAMES = 250
_DEFAULT_B_FRAMES: dict[Codec, int] = {"h264": 3, "hevc": 4}  # x264's and x265's own
_OTHER_MATRIX: dict[Matrix, Matrix] = {"bt709": "bt601", "bt601": "bt709"}
_OTHER_RANGE: dict[ColorRange, ColorRange] = {"tv": "pc", "pc": "tv"}
_LOCATIONS: tuple[ChromaLocation, ...] = ("left", "center", "topleft")
_MACROBLOCK = 16
_LEAST_BITRATE = 1000
_MAX_BUFFER = 2_147_483_000  # FFmpeg counts its bits in 32 bits


def draw_codec(
    stage: CodecStage,
    size: tuple[int, int],
    num_frames: int,
    rng: np.random.Generator,
    *,
    independent: bool = False,
    intra: bool = False,
) -> list[StageDraw]:
    """Draw a generation: the codec and the stages around it, which leave the size as it was.

    Args:
        stage: the ranges.
        size: (height, width) of the frames that come in.
        num_frames: how many come in, and go out.
        rng: the generator.
        independent: frames have nothing to do with each other, so none is left out.
        intra: every frame is coded alone.
    """
    choices = {index: encoder.weight for index, encoder in enumerate(stage.encoders)}
    encoder = stage.encoders[draw_weighted(choices, rng)]
    kernel = stage.resize_kernels[int(rng.integers(len(stage.resize_kernels)))]
    inner = _inner_size(stage, size, rng)
    top, left = (round(draw_number(stage.grid_shift, rng)) for _ in range(2))
    pixel_format = draw_weighted(encoder.pixel_formats, rng)
    coded = coded_size(encoder.codec, pixel_format, inner[0] + top, inner[1] + left)
    ratio = draw_number(stage.frame_rate_ratio, rng)
    there, back = _retimed(1 if independent else ratio, num_frames)
    num_coded = len(there[0].frames) if there else num_frames
    fps = _known_rate(draw_number(stage.fps, rng) * num_coded / num_frames, encoder.traits)
    codec = CodecDraw(
        **_rate_settings(encoder, fps, inner[0] * inner[1] * fps, rng),
        **_structure(encoder, coded[0], num_coded, rng, intra=intra),
        codec=encoder.codec,
        preset=_preset(encoder, rng),
        tune=draw_weighted(encoder.tunes, rng),
        profile=draw_weighted(encoder.profiles, rng),
        pixel_format=pixel_format,
        color=_draw_color(stage.color, encoder.traits.default_color, pixel_format, rng),
        fps=fps,
        height=coded[0],
        width=coded[1],
    )
    return [*there, *around(codec, size, inner, (top, left), kernel), *back]


def around(
    codec: CodecDraw,
    size: tuple[int, int],
    inner: tuple[int, int],
    shift: tuple[int, int],
    kernel: ResizeKernel,
) -> list[StageDraw]:
    """A codec with the stages that bring the picture to the coded size, and back.

    Args:
        codec: of the coded size.
        size: (height, width) of the frames that come in and go out.
        inner: what they are scaled to.
        shift: (rows, columns) of padding above and at the left.
        kernel: of the scaling, there and back.
    """
    coded = (codec.height, codec.width)
    return [
        *_resized(size, inner, kernel),
        *_padded(inner, coded, *shift),
        codec,
        *_cropped(inner, coded, *shift),
        *_resized(inner, size, kernel),
    ]


def _inner_size(
    stage: CodecStage, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    (ratio,) = draw_scaling(stage.size_ratio, 1, rng)
    (width_ratio,) = draw_scaling(stage.width_ratio, 1, rng)
    # Even, as every service makes them; where nothing is scaled the size stays as it is.
    height = size[0] if ratio == 1 else _even(size[0] * ratio)
    width = size[1] if ratio * width_ratio == 1 else _even(size[1] * ratio * width_ratio)
    return height, width


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))


def _retimed(ratio: float, num_frames: int) -> tuple[list[RetimeDraw], list[RetimeDraw]]:
    """Which frames are encoded, and which of those each frame shows afterwards."""
    count = max(1, math.ceil(num_frames * ratio))
    if count == num_frames:
        return [], []
    kept = [index * num_frames // count for index in range(count)]
    shown = [sum(k <= frame for k in kept) - 1 for frame in range(num_frames)]
    return [RetimeDraw(frames=kept)], [RetimeDraw(frames=shown)]


def _resized(old: tuple[int, int], new: tuple[int, int], kernel: ResizeKernel) -> list[ResizeDraw]:
    if old == new:
        return []
    return [ResizeDraw(height=[new[0]], width=[new[1]], kernel=kernel)]


def _padded(inner: tuple[int, int], coded: tuple[int, int], top: int, left: int) -> list[PadDraw]:
    if inner == coded:
        return []
    return [PadDraw(top=top, left=left, height=coded[0], width=coded[1])]


def _cropped(inner: tuple[int, int], coded: tuple[int, int], top: int, left: int) -> list[CropDraw]:
    if inner == coded:
        return []
    return [CropDraw(top=top, left=left, height=inner[0], width=inner[1])]


def _known_rate(fps: float, traits: EncoderTraits) -> int:
    """The rate itself in whole frames, or the nearest one that the codec knows."""
    if traits.frame_rates:
        return min(traits.frame_rates, key=lambda known: abs(known - fps))
    return max(1, round(fps))


def _rate_settings(
    encoder: EncoderSettings, fps: int, pixels_per_second: int, rng: np.random.Generator
) -> dict[str, Any]:
    mode, number = encoder.rate
    rate_value = _rate_value(encoder, draw_number(number, rng), pixels_per_second)
    cap = 0
    if encoder.max_bits_per_pixel is not None:
        bits = draw_number(encoder.max_bits_per_pixel, rng) * pixels_per_second
        cap = _whole_kbits(min(bits, encoder.traits.max_bitrate))
        # Encoders lower an average above the cap, and widen a buffer below a frame.
        cap = max(cap, int(rate_value)) if mode == "bitrate" else cap
    buffer_seconds = max(draw_number(encoder.buffer_seconds, rng), 1 / fps)
    return {
        "rate_mode": mode,
        "rate_value": rate_value,
        "max_bitrate": cap,
        "buffer_bits": min(_MAX_BUFFER, 1000 * math.ceil(cap * buffer_seconds / 1000)),
    }


def _rate_value(encoder: EncoderSettings, value: float, pixels_per_second: int) -> float:
    """Rounded to what the encoders can tell: tenths of a factor, whole quantisers and kbit/s."""
    mode, _ = encoder.rate
    if mode == "crf":
        return round(value) if encoder.traits.whole_crf else round(value, 1)
    if mode == "qscale":
        return round(value)
    bits = value if encoder.bits_per_pixel is None else value * pixels_per_second
    return _whole_kbits(min(bits, encoder.traits.max_bitrate))


def _whole_kbits(bits: float) -> int:
    return max(_LEAST_BITRATE, 1000 * round(bits / 1000))


def _preset(encoder: EncoderSettings, rng: np.random.Generator) -> str:
    if not encoder.presets:
        return encoder.traits.default_preset
    return draw_weighted(encoder.presets, rng)


def _structure(
    encoder: EncoderSettings, height: int, num_frames: int, rng: np.random.Generator, *, intra: bool
) -> dict[str, Any]:
    gop_frames = 1 if intra else _gop_frames(encoder, rng)
    slices = min(round(draw_number(encoder.slices, rng)), -(-height // _MACROBLOCK))
    return {
        "gop_frames": gop_frames,
        "scene_cut": encoder.scene_cut,
        "b_frames": _b_frames(encoder, gop_frames, rng),
        "b_pyramid": encoder.b_pyramid,
        "refs": _refs(encoder, gop_frames, rng),
        "weighted_prediction": encoder.weighted_prediction,
        "slices": slices,
        "lost": _lost_slices(encoder, slices, height, num_frames, rng),
    }


def _refs(encoder: EncoderSettings, gop_frames: int, rng: np.random.Generator) -> int:
    refs = round(draw_number(encoder.refs, rng))
    return refs if gop_frames > 1 else 0  # where every frame is coded alone there are none


def _gop_frames(encoder: EncoderSettings, rng: np.random.Generator) -> int:
    if encoder.gop_frames is None:
        return min(_DEFAULT_GOP_FRAMES, encoder.traits.max_gop_frames)
    return round(draw_number(encoder.gop_frames, rng))


def _b_frames(encoder: EncoderSettings, gop_frames: int, rng: np.random.Generator) -> int:
    default = _DEFAULT_B_FRAMES.get(encoder.codec, 0)
    drawn = default if encoder.b_frames is None else round(draw_number(encoder.b_frames, rng))
    return min(drawn, gop_frames - 1)


def _lost_slices(
    encoder: EncoderSettings, slices: int, height: int, num_frames: int, rng: np.random.Generator
) -> list[LostSlice]:
    loss = draw_number(encoder.loss, rng)
    if not loss:
        return []
    per_packet = slices if "slices" in encoder.traits.takes else -(-height // _MACROBLOCK)
    is_lost = rng.random((num_frames, per_packet)) < loss
    is_lost[0] = False  # a decoder that never got a picture shows nothing
    is_lost[is_lost.all(axis=1), 0] = False  # nor does it know of a frame of which nothing came
    return [LostSlice(packet=int(p), slice=int(s)) for p, s in np.argwhere(is_lost)]


def _draw_color(
    settings: ColorSettings, right: ColorDraw, pixel_format: PixelFormat, rng: np.random.Generator
) -> ColorDraw:
    """The right conversions, or wrong ones where they are drawn; the reader is wrong, or the
    writer."""
    wrong_matrix, wrong_range, wrong_location = rng.random(3) < [
        settings.wrong_matrix_probability,
        settings.wrong_range_probability,
        settings.wrong_location_probability,
    ]
    writer_is_wrong = rng.random(3) < 0.5
    locations = _other_locations(right.read_location, pixel_format)
    location = locations[int(rng.integers(len(locations)))] if locations else right.read_location
    update: dict[str, str] = {"scaler": settings.scaler}
    if wrong_matrix:
        update[_side(writer_is_wrong[0]) + "_matrix"] = _OTHER_MATRIX[right.read_matrix]
    if wrong_range:
        update[_side(writer_is_wrong[1]) + "_range"] = _OTHER_RANGE[right.read_range]
    if wrong_location:
        update[_side(writer_is_wrong[2]) + "_location"] = location
    return ColorDraw.model_validate(right.model_dump() | update)


def _other_locations(right: ChromaLocation, pixel_format: PixelFormat) -> list[ChromaLocation]:
    """Where chroma does not sit. 4:2:2 has it in every row, 4:4:4 in every pixel."""
    if pixel_format.startswith("yuv444"):
        return []
    wrong = [place for place in _LOCATIONS if place != right]
    if pixel_format.startswith("yuv422"):
        return ["center"] if right != "center" else ["left"]
    return wrong


def _side(writer_is_wrong: np.bool_) -> str:
    return "written" if writer_is_wrong else "read"
