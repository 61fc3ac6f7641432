"""Quantisers in headers against those of a frame's record.

Where the headers tell the quantiser of the whole frame, the record must have it. Where blocks
have their own, the header's is the one that they start from.
"""

from collections.abc import Sequence

from schemas.record import UNKNOWN
from schemas.sample import Frame, Stream
from transforms.headers import VP8_INDICES
from transforms.settings import vp9_index

# How far adaptive quantisation takes the blocks of H.264 and HEVC from where their slice starts:
# x264's and x265's go down by 15 in flat areas, tuned for stills by 18, and trees add to that.
_REACH = 20
_SCALE = 51  # all of it: a cap on the bitrate changes quantisers row by row
_AV1_INDICES_PER_QUANTISER, _AV1_LAST = 4, 63


def quantiser_problem(
    stream: Stream, frame: Frame, told: Sequence[float], *, is_capped: bool
) -> str:
    """What is wrong with a frame's quantisers; empty if nothing is.

    Args:
        stream: says the codec and the rate control.
        frame: not damaged.
        told: what the headers say, one of the frame or one a slice.
        is_capped: the bitrate is capped, so that quantisers may change within a frame.
    """
    if not told:
        return "its headers tell no quantiser"
    qps = (frame.qp_min, frame.qp_mean, frame.qp_max)
    if stream.codec in ("h264", "hevc"):
        return _block_problem(stream, frame, told, is_capped=is_capped)
    if stream.codec in ("vp8", "vp9", "mjpeg") and {frame.qp_mean} != set(told):
        return f"its headers say {told[0]:g}, the record {frame.qp_mean:g}"
    if stream.codec == "av1":
        index = _AV1_INDICES_PER_QUANTISER
        quantiser = min((told[0] + index // 2) // index, _AV1_LAST)
        if quantiser != frame.qp_mean:
            return f"its headers say {quantiser:g}, the record {frame.qp_mean:g}"
    if frame.qp_min != UNKNOWN and not qps[0] <= min(told) <= max(told) <= qps[2]:
        return f"its headers say {min(told):g} to {max(told):g}, the record {qps[0]} to {qps[2]}"
    return _constant_problem(stream, told)


def _block_problem(stream: Stream, frame: Frame, told: Sequence[float], *, is_capped: bool) -> str:
    lowest = frame.qp_mean if frame.qp_min == UNKNOWN else frame.qp_min
    highest = frame.qp_mean if frame.qp_max == UNKNOWN else frame.qp_max
    # A constant quantiser is one for all blocks of a frame; its types have offsets.
    is_constant = stream.rate_mode in ("qscale", "lossless")
    reach = 0 if is_constant else _SCALE if is_capped else _REACH
    if lowest - reach <= min(told) <= max(told) <= highest + reach:
        return ""
    return f"its slices start at {min(told):g} to {max(told):g}, the record says {lowest:g}" + (
        f" to {highest:g}" if highest > lowest else ""
    )


def _constant_problem(stream: Stream, told: Sequence[float]) -> str:
    """A constant quantiser is in every header, but for those of H.264 and HEVC."""
    if stream.rate_mode != "qscale":
        return ""
    step = int(stream.rate_value)
    if not 0 <= step < len(VP8_INDICES):
        return f"{stream.rate_value:g} is no quantiser"
    wanted = {"vp8": lambda: VP8_INDICES[step], "vp9": lambda: vp9_index(step)}
    constant = wanted.get(stream.codec, lambda: step)()
    return "" if set(told) == {constant} else f"its headers say {told[0]:g}, drawn was {step}"
