"""What is trained: networks that differ from one in one thing each."""

from collections.abc import Mapping
from typing import NamedTuple

from training.models.configs import CONFIGS, AnyConfig

FULL = "all on"


class Variant(NamedTuple):
    """A training."""

    model: AnyConfig
    flow: str = "codec"
    """key of `proof.clips.FLOWS`, in training and when measured"""
    stream: str = ""
    """the LR stream that is trained on; all by default"""
    pretrained: bool = True
    """whether the compression encoder is the pretrained one, and stays as it is"""


_XS = CONFIGS["xs"]

VIDEO: Mapping[str, Variant] = {
    FULL: Variant(_XS),
    "without CAM": Variant(_XS.model_copy(update={"modulation_blocks": 0}), pretrained=False),
    "zero flow": Variant(_XS, flow="zero"),
    "released loader's vectors": Variant(_XS, flow="released loader, scale 4"),
    "without MP": Variant(_XS.model_copy(update={"b_frame_share": 1.0})),
    "clean training data": Variant(_XS, stream="clean"),
}
"""P3, by name."""

PICTURES: Mapping[str, Variant] = {
    f"{stream} pairs": Variant(CONFIGS["compact"], stream=stream, pretrained=False)
    for stream in ("codecs", "jpeg", "clean")
}
"""P4, by name."""
