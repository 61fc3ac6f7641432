"""Making streams as a drawn chain makes them: sized for the encoder, and brought back."""

import numpy as np

from schemas.draw import CodecDraw, StageDraw, StreamDraw
from transforms.codec import coded_size
from transforms.degrade import Clip, apply_stages
from transforms.draw_codec import around
from transforms.pixels import to_uint8
from transforms.streams import MadeStream, make_stream, split_at_last_codec


def make(lr: np.ndarray, codec: CodecDraw | None, top: int = 0, left: int = 0) -> MadeStream:
    """A stream of LR frames, with the stages around the codec that its size needs.

    Args:
        lr: (T, h, w, 3) uint8.
        codec: its size is that of the frames where it is the default; None stores losslessly.
        top: rows by which the picture is off the block grid.
        left: columns likewise.
    """
    stages = [] if codec is None else sized(codec, (lr.shape[1], lr.shape[2]), top, left)
    draw = StreamDraw(stages=stages)
    clip = apply_stages(Clip(list(lr), []), split_at_last_codec(stages)[0])
    frames = [f if f.dtype == np.uint8 else to_uint8(f) for f in clip.frames]
    return make_stream(np.stack(frames), draw, 0, "test")


def sized(codec: CodecDraw, size: tuple[int, int], top: int = 0, left: int = 0) -> list[StageDraw]:
    """The codec with the stages around it."""
    inner = size if (codec.height, codec.width) == (96, 96) else (codec.height, codec.width)
    coded = coded_size(codec.codec, codec.pixel_format, inner[0] + top, inner[1] + left)
    codec = codec.model_copy(update={"height": coded[0], "width": coded[1]})
    return around(codec, size, inner, (top, left), "matlab_bicubic")
