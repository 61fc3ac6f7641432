"""Which of two frames is compressed more: pairs, and the loss that puts scores in that order.

Shapes: N frames; M of them as rows. In an (M, N) table, [i, j] is about row i and frame j.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from training.aligned import Coding
from training.config import Count, OptimizerSettings

_Weight = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]


class PretrainConfig(OptimizerSettings):
    """What decides a pretrained encoder, apart from dataset and architecture."""

    batch_size: Count = 4
    """samples in a batch, each with all of its LR streams"""
    frames: Count = 4
    """of each stream, evenly spread from a clip's first one"""
    steps: Count = 2500
    """optimizer steps"""
    learning_rate: _Positive = 4e-3
    """the highest; rises to it along a line, falls to 0 along a cosine"""
    weight_decay: _Weight = 1e-5
    """of Adam: the part of a weight that is added to its gradient"""
    margin: _Positive = 1.0
    """by how much scores are to differ between two types, and between CRFs that are far apart"""
    margin_per_crf: _Positive = 0.1
    """by how much for each step of CRF between two frames of one type, up to `margin`"""
    within_weight: _Weight = 0.6
    """of pairs of one type and one clip that differ in CRF"""
    across_weight: _Weight = 0.2
    """of pairs of one type and two clips that differ in CRF"""
    types_weight: _Weight = 0.2
    """of pairs of one clip and one CRF that differ in type"""


class Pairs(NamedTuple):
    """Frames that can be compared, (M, N) bool: whether row i ranks above frame j."""

    within: Tensor
    """by CRF, of one type and one clip; uncompressed frames are below all others"""
    across: Tensor
    """by CRF, of one type and two clips"""
    types: Tensor
    """by type, I < P < B, of one clip and one CRF; uncompressed frames are all alike"""


def comparable(coding: Coding, rows: Tensor | slice = slice(None)) -> Pairs:
    """All pairs that can be compared (CAVSR, section 3.2).

    Args:
        coding: of N frames.
        rows: which of them are compared with all.
    """

    def rows_of(x_N: Tensor) -> Tensor:
        return x_N[rows][:, None]

    is_one_clip = rows_of(coding.content) == coding.content
    is_one_crf = rows_of(coding.strength) == coding.strength  # false for NaN
    is_coded = coding.strength >= 0
    by_crf = (rows_of(coding.frame_type) == coding.frame_type) & (
        rows_of(coding.strength) > coding.strength
    )
    # The codes of types are in their order.
    by_type = rows_of(coding.frame_type) > coding.frame_type
    return Pairs(
        within=by_crf & is_one_clip,
        across=by_crf & ~is_one_clip,
        types=by_type & is_one_clip & is_one_crf & is_coded,
    )


def ranking_loss(score_N: Tensor, coding: Coding, config: PretrainConfig) -> Tensor:
    """Hinge loss over all pairs, the weighted sum of the means of each kind (CAVSR, section 3.2).

    A pair costs what its scores lack of their margin: max(0, margin - (higher - lower)). Those of
    CRFs that are near each other are small: between two contents, they tell next to nothing.
    """
    difference_NN = score_N[:, None] - score_N
    apart_NN = coding.strength[:, None] - coding.strength
    pairs = comparable(coding)

    def cost(chosen_NN: Tensor, margin: Tensor | float) -> Tensor:
        lacking = torch.relu(margin - difference_NN)
        # Not by indices: their number would have to be waited for on a GPU.
        return torch.where(chosen_NN, lacking, 0).sum() / chosen_NN.sum().clamp(min=1)

    margin_NN = (config.margin_per_crf * apart_NN).clamp(max=config.margin)
    return (
        config.within_weight * cost(pairs.within, margin_NN)
        + config.across_weight * cost(pairs.across, margin_NN)
        + config.types_weight * cost(pairs.types, config.margin)
    )
