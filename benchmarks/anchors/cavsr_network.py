"""CAVSR shaped as released, to compare times with.

Only its shape is followed: a modulation for either direction, which reads the representation at the
full size, and whose result is thrown away. The deformable convolution, which the release holds but
never calls, takes no time. Everything else is this project's own.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.models.cavsr import Cavsr, CavsrConfig
from training.models.configs import CONFIGS
from training.models.encoder import ENCODER_STRIDE
from training.models.modulation import Affine, ModulatedBlock, Modulation


class ReleasedCavsr(Cavsr):
    """The network of the release, by shape.

    Args:
        repaired: use what the modulation gives, instead of twice its input.
    """

    def __init__(self, *, repaired: bool) -> None:
        config = CONFIGS["paper-compat"]
        assert isinstance(config, CavsrConfig)
        super().__init__(config)
        self._is_repaired = repaired

    def _features(self, lr_NCHW: Tensor, type_N: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        shallow = [head(lr_NCHW) for head in self.heads]
        assert self.encoder is not None
        with torch.no_grad():
            code_NDhw = self.encoder(lr_NCHW, type_N)
        large_NDHW = F.interpolate(code_NDhw, scale_factor=ENCODER_STRIDE, mode="nearest")
        code_NDHW = large_NDHW[..., : lr_NCHW.shape[-2], : lr_NCHW.shape[-1]]
        modulated = list[Tensor]()
        for modulation, x in zip(self.modulations, shallow, strict=True):
            assert isinstance(modulation, Modulation)
            modulated.append(_modulate(modulation, x, code_NDHW))
        return shallow[-1], modulated if self._is_repaired else [2 * x for x in shallow]


def _modulate(modulation: Modulation, x_NCHW: Tensor, code_NDHW: Tensor) -> Tensor:
    y_NCHW = x_NCHW
    for block in modulation.blocks:
        assert isinstance(block, ModulatedBlock)
        z_NCHW = y_NCHW
        for affine, conv in zip(block.affines, block.convs, strict=True):
            assert isinstance(affine, Affine)
            modulated = affine.gamma(code_NDHW) * z_NCHW + affine.beta(code_NDHW)
            z_NCHW = conv(F.leaky_relu(modulated, 0.01))
        y_NCHW = y_NCHW + z_NCHW
    return x_NCHW + modulation.last(y_NCHW)
