"""The configurations that have a name, and a network from any configuration."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from training.config import UserError
from training.models.cavsr import Cavsr, CavsrConfig
from training.models.encoder import EncoderConfig
from training.models.images import Compact, CompactConfig, RrdbConfig, RrdbNet

AnyConfig = CavsrConfig | CompactConfig | RrdbConfig
ModelConfig = Annotated[AnyConfig, Field(discriminator="kind")]
Network = Cavsr | Compact | RrdbNet

_PAPERS_SIZE = CavsrConfig(
    channels=64,
    trunk_blocks=25,
    modulation_blocks=10,
    shared_modulation=False,
    encoder=EncoderConfig(width=32, batch_norm=True),
    head="full",
)

CONFIGS: Mapping[str, AnyConfig] = {
    "xs": CavsrConfig(),
    "s": CavsrConfig(channels=24, trunk_blocks=4, modulation_blocks=3),
    "m": CavsrConfig(
        channels=32, trunk_blocks=5, modulation_blocks=3, encoder=EncoderConfig(width=16)
    ),
    "m-plus": CavsrConfig(
        channels=32,
        trunk_blocks=5,
        modulation_blocks=3,
        encoder=EncoderConfig(width=16),
        head="full",
    ),
    "l": CavsrConfig(
        channels=48, trunk_blocks=6, modulation_blocks=4, encoder=EncoderConfig(width=16)
    ),
    # The paper's size, with one modulation for both directions, or with one for each.
    "cavsr": _PAPERS_SIZE,
    "cavsr-shared": _PAPERS_SIZE.model_copy(update={"shared_modulation": True}),
    # The shapes of the official release, wherever a layer of it takes part in the output.
    "paper-compat": _PAPERS_SIZE.model_copy(
        update={"gate": "flow", "base": "none", "auxiliary_heads": True}
    ),
    "compact": CompactConfig(),
    "rrdb": RrdbConfig(),
}
"""From small to large; the last two restore single pictures."""


WITH_ENCODER = [name for name, config in CONFIGS.items() if isinstance(config, CavsrConfig)]
"""Whose compression encoder can be pretrained."""


def build(config: AnyConfig) -> Network:
    """A network with fresh weights, on the CPU."""
    match config:
        case CavsrConfig():
            return Cavsr(config)
        case CompactConfig():
            return Compact(config)
        case RrdbConfig():
            return RrdbNet(config)


def at_scale(config: AnyConfig, scale: int) -> AnyConfig:
    """The same network for data of a scale.

    Raises:
        UserError: if it cannot be of that scale.
    """
    try:
        return type(config).model_validate({**config.model_dump(), "scale": scale})
    except ValidationError as error:
        causes = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise UserError(
            f"the data is of scale {scale}: {causes}: choose another --config"
        ) from error


def choose_config(name: str, told: Iterable[str] = CONFIGS) -> AnyConfig:
    """A configuration by its name, or from a TOML file with `kind` and any of its fields.

    Args:
        name: of the configuration, or of the file.
        told: the names that a message offers.

    Raises:
        UserError: if there is none, or the file is not one.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"--config {name} is neither a file nor one of {', '.join(told)}: choose one of them"
        )
    try:
        return TypeAdapter(ModelConfig).validate_python(tomllib.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:  # of TOML, UTF-8 and pydantic, too
        raise UserError(
            f"--config {path} is not the configuration of a network: {error}"
        ) from error
