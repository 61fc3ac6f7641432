"""What header syntax says of frames and streams, in the terms of a stream's record."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from schemas.draw import Codec
from schemas.sample import FrameType
from transforms.start_codes import Unit

_I, _P, _B = FrameType.I, FrameType.P, FrameType.B
_H264_TYPES = (_P, _B, _I)
_HEVC_TYPES = (_B, _P, _I)
_MPEG_TYPES = {1: _I, 2: _P, 3: _B}
_MPEG4_TYPES = (_I, _P, _B)
_H263_TYPES = (_I, _P)
_VP8_TYPES = (_I, _P)
_AV1_TYPES = (_I, _P, _I, _P)  # key, inter, intra only, switch
_H264_IDR, _HEVC_RANDOM_ACCESS = 5, range(16, 24)  # NAL unit types
_MIDDLE_QP = 26  # from where H.264 and HEVC tell initial quantisers
_MACROBLOCK = 16
_JPEG_FIRST_AC, _JPEG_AC_PER_QUANTISER = "Q[1]", 2
_KEY = 0  # the frame type of VP8, VP9 and AV1
_SLOTS, _ALL_SLOTS = 8, 0xFF
_SUBSAMPLING = {1: "420", 2: "422", 3: "444"}
_H273_MATRICES = {0: "rgb", 1: "bt709", 5: "bt601", 6: "bt601"}
_VP9_MATRICES = {1: "bt601", 2: "bt709", 3: "bt601", 7: "rgb"}
_RANGES = ("tv", "pc")
_UNSPECIFIED = "unspecified"


class CodedPicture(NamedTuple):
    """The frame that a packet shows."""

    frame_types: frozenset[FrameType]
    """of its slices: one, unless something is wrong"""
    is_key: bool
    """decoding can start here"""
    quantisers: tuple[float, ...]
    """of the whole picture, or where each slice begins, in the codec's own scale"""
    num_slices: int
    """1 where the format has none"""


class PictureFormat(NamedTuple):
    """What the headers of a sequence say, None where the format does not tell."""

    height: int
    width: int
    pixel_format: str | None = None
    """such as yuv420p10le"""
    color_matrix: str | None = None
    """as in the record"""
    color_range: str | None = None
    """as in the record"""


Units = Sequence[Unit]


def read_pictures(packets: Iterable[Units], codec: Codec) -> list[CodedPicture | None]:
    """The frame that each packet shows, None where it shows none.

    Args:
        packets: the headers of each packet, in coding order.
        codec: the coded format.

    Raises:
        LookupError: if a header lacks a field, or has a value that no such stream has.
    """
    return list(_PICTURES[codec](packets))


def read_formats(packets: Iterable[Units], codec: Codec) -> list[PictureFormat]:
    """Every format that the headers tell, each once; one, unless something is wrong.

    Raises:
        LookupError: as `read_pictures`.
    """
    found = (_FORMATS[codec](units) for units in packets)
    return list(dict.fromkeys(told for told in found if told is not None))


def read_message(packets: Iterable[Units]) -> str:
    """What x264 says of itself; empty where there is no such message."""
    for unit in (unit for units in packets for unit in units):
        data = [v for name, v in unit.fields.items() if name.startswith("user_data_payload_byte")]
        if data:
            return bytes(data).decode("latin1").rstrip("\0")
    return ""


def _all(units: Units, name: str) -> list[dict[str, int]]:
    return [unit.fields for unit in units if unit.name == name]


# --- Pictures -----------------------------------------------------------------------------------


def _h264(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    initial_qp = _MIDDLE_QP
    for units in packets:
        for parameters in _all(units, "Picture Parameter Set"):
            initial_qp = _MIDDLE_QP + parameters["pic_init_qp_minus26"]
        slices = _all(units, "Slice Header")
        yield _sliced(
            [_H264_TYPES[fields["slice_type"] % 5] for fields in slices],
            [initial_qp + fields["slice_qp_delta"] for fields in slices],
            is_key=any(fields["nal_unit_type"] == _H264_IDR for fields in slices),
        )


def _hevc(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    initial_qp = _MIDDLE_QP
    for units in packets:
        for parameters in _all(units, "Picture Parameter Set"):
            initial_qp = _MIDDLE_QP + parameters["init_qp_minus26"]
        slices = _all(units, "Slice Segment Header")
        yield _sliced(
            [_HEVC_TYPES[fields["slice_type"]] for fields in slices],
            [initial_qp + fields["slice_qp_delta"] for fields in slices],
            is_key=any(fields["nal_unit_type"] in _HEVC_RANDOM_ACCESS for fields in slices),
        )


def _mpeg(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    for units in packets:
        types = [_MPEG_TYPES[f["picture_coding_type"]] for f in _all(units, "Picture Header")]
        quantisers = [f["quantiser_scale_code"] for f in _all(units, "Slice Header")]
        yield _sliced(types, quantisers, is_key=_I in types)


def _mpeg4(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    for units in packets:
        planes = _all(units, "Video Object Plane")
        types = [_MPEG4_TYPES[fields["vop_coding_type"]] for fields in planes]
        quantisers = [fields["vop_quant"] for fields in planes if "vop_quant" in fields]
        yield _sliced(types, quantisers, is_key=_I in types)


def _h263(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    for units in packets:
        headers = _all(units, "Picture Header")
        types = [_H263_TYPES[fields["picture_coding_type"]] for fields in headers]
        yield _sliced(types, [fields["quantiser"] for fields in headers], is_key=_I in types)


def _jpeg(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    for units in packets:
        steps = [f[_JPEG_FIRST_AC] for f in _all(units, "Quantization Table")]
        types = [_I for _ in _all(units, "Frame Header")]
        yield _sliced(types, [step / _JPEG_AC_PER_QUANTISER for step in steps[:1]], is_key=True)


def _vp8(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    for units in packets:
        headers = [fields for fields in _all(units, "Frame") if fields["show_frame"]]
        types = [_VP8_TYPES[fields["frame_type"]] for fields in headers]
        quantisers = [fields["base_qindex"] for fields in headers]
        yield _sliced(types, quantisers, is_key=_I in types)


def _sliced(
    types: Sequence[FrameType], quantisers: Sequence[float], *, is_key: bool
) -> CodedPicture | None:
    if not types:
        return None
    return CodedPicture(frozenset(types), is_key, tuple(quantisers), max(1, len(quantisers)))


def _vp9(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    return _shown([_all(units, "Frame") for units in packets], _vp9_type)


def _av1(packets: Iterable[Units]) -> Iterator[CodedPicture | None]:
    return _shown([_all(units, "Frame Header") for units in packets], _av1_type)


def _vp9_type(fields: Mapping[str, int]) -> FrameType:
    return _I if fields["frame_type"] == _KEY or fields.get("intra_only") else _P


def _av1_type(fields: Mapping[str, int]) -> FrameType:
    return _AV1_TYPES[fields.get("frame_type", _KEY)]  # a still picture's type goes without saying


def _shown(
    packets: Iterable[Sequence[Mapping[str, int]]],
    type_of: Callable[[Mapping[str, int]], FrameType],
) -> Iterator[CodedPicture | None]:
    """Follow the frames that are kept: a packet may hold hidden ones, or show one from before."""
    slots: list[CodedPicture | None] = [None] * _SLOTS
    for headers in packets:
        shown, has_key = None, False
        for fields in headers:
            if fields.get("show_existing_frame"):
                shown = slots[fields["frame_to_show_map_idx"]]
                continue
            is_key = fields.get("frame_type", _KEY) == _KEY
            has_key |= is_key
            quantiser = fields["base_q_idx"]
            picture = CodedPicture(frozenset({type_of(fields)}), is_key, (quantiser,), 1)
            kept = fields.get("refresh_frame_flags", _ALL_SLOTS if is_key else 0)
            slots = [picture if kept >> slot & 1 else slots[slot] for slot in range(_SLOTS)]
            if fields.get("show_frame", 1):
                shown = picture
        yield shown._replace(is_key=has_key) if shown else None


_PICTURES: Mapping[Codec, Callable[[Iterable[Units]], Iterator[CodedPicture | None]]] = {
    "h264": _h264,
    "hevc": _hevc,
    "mpeg1video": _mpeg,
    "mpeg2video": _mpeg,
    "mpeg4": _mpeg4,
    "h263p": _h263,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mjpeg": _jpeg,
}


# --- Formats ------------------------------------------------------------------------------------


def _h264_format(units: Units) -> PictureFormat | None:
    for fields in _all(units, "Sequence Parameter Set"):
        chroma = fields.get("chroma_format_idc", 1)
        height = _MACROBLOCK * (fields["pic_height_in_map_units_minus1"] + 1)
        width = _MACROBLOCK * (fields["pic_width_in_mbs_minus1"] + 1)
        crop = {side: fields.get(f"frame_crop_{side}_offset", 0) for side in _SIDES}
        return _h26x_format(fields, chroma, height, width, crop)
    return None


def _hevc_format(units: Units) -> PictureFormat | None:
    for fields in _all(units, "Sequence Parameter Set"):
        height, width = fields["pic_height_in_luma_samples"], fields["pic_width_in_luma_samples"]
        crop = {side: fields.get(f"conf_win_{side}_offset", 0) for side in _SIDES}
        return _h26x_format(fields, fields["chroma_format_idc"], height, width, crop)
    return None


_SIDES = ("top", "bottom", "left", "right")


def _h26x_format(
    fields: Mapping[str, int], chroma: int, height: int, width: int, crop: Mapping[str, int]
) -> PictureFormat:
    down, across = (2 if chroma == 1 else 1), (1 if chroma == 3 else 2)
    matrix = _matrix(fields)
    is_rgb = matrix == "rgb"
    bits = 8 + fields.get("bit_depth_luma_minus8", 0)
    family = "gbrp" if is_rgb else f"yuv{_SUBSAMPLING[chroma]}p"
    has_range = fields.get("video_signal_type_present_flag")
    return PictureFormat(
        height=height - down * (crop["top"] + crop["bottom"]),
        width=width - across * (crop["left"] + crop["right"]),
        pixel_format=family + (f"{bits}le" if bits > 8 else ""),
        color_matrix=matrix,
        color_range=_RANGES[fields["video_full_range_flag"]] if has_range else _UNSPECIFIED,
    )


def _matrix(fields: Mapping[str, int]) -> str:
    return _H273_MATRICES.get(fields.get("matrix_coefficients", -1), _UNSPECIFIED)


def _mpeg2_format(units: Units) -> PictureFormat | None:
    sequences = zip(_all(units, "Sequence Header"), _all(units, "Sequence Extension"), strict=True)
    for fields, more in sequences:
        display = [*_all(units, "Sequence Display Extension"), {}]
        return PictureFormat(
            height=fields["vertical_size_value"] + (more["vertical_size_extension"] << 12),
            width=fields["horizontal_size_value"] + (more["horizontal_size_extension"] << 12),
            pixel_format=f"yuv{_SUBSAMPLING[more['chroma_format']]}p",
            color_matrix=_matrix(display[0]),
        )
    return None


def _plain_format(name: str, height: str, width: str) -> Callable[[Units], PictureFormat | None]:
    """Of formats whose headers tell a size and know 4:2:0 alone, or nothing of it."""

    def read(units: Units) -> PictureFormat | None:
        for fields in _all(units, name):
            if height in fields:
                return PictureFormat(fields[height], fields[width])
        return None

    return read


def _vp8_format(units: Units) -> PictureFormat | None:
    for fields in _all(units, "Frame"):
        if fields["frame_type"] == _KEY:
            color_range = _RANGES[fields["clamping_type"]]
            return PictureFormat(fields["height"], fields["width"], "yuv420p", None, color_range)
    return None


def _vp9_format(units: Units) -> PictureFormat | None:
    for fields in _all(units, "Frame"):
        if fields.get("frame_type", 1) == _KEY and not fields["show_existing_frame"]:
            down, across = fields.get("subsampling_y", 1), fields.get("subsampling_x", 1)
            subsampling = {(1, 1): "420", (0, 1): "422", (0, 0): "444"}[down, across]
            return PictureFormat(
                height=fields["frame_height_minus_1"] + 1,
                width=fields["frame_width_minus_1"] + 1,
                pixel_format=f"yuv{subsampling}p",
                color_matrix=_VP9_MATRICES.get(fields["color_space"], _UNSPECIFIED),
                color_range=_RANGES[fields["color_range"]],
            )
    return None


def _av1_format(units: Units) -> PictureFormat | None:
    for fields in _all(units, "Sequence Header"):
        return PictureFormat(
            height=fields["max_frame_height_minus_1"] + 1,
            width=fields["max_frame_width_minus_1"] + 1,
            pixel_format="yuv420p10le" if fields["high_bitdepth"] else "yuv420p",
            color_matrix=_matrix(fields),
            color_range=_RANGES[fields["color_range"]],
        )
    return None


_FORMATS: Mapping[Codec, Callable[[Units], PictureFormat | None]] = {
    "h264": _h264_format,
    "hevc": _hevc_format,
    "mpeg1video": _plain_format("Sequence Header", "vertical_size_value", "horizontal_size_value"),
    "mpeg2video": _mpeg2_format,
    "mpeg4": _plain_format(
        "Video Object Layer", "video_object_layer_height", "video_object_layer_width"
    ),
    "h263p": _plain_format("Picture Header", "height", "width"),
    "vp8": _vp8_format,
    "vp9": _vp9_format,
    "av1": _av1_format,
    "mjpeg": _plain_format("Frame Header", "Y", "X"),
}
