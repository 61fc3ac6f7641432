import typing

import av
import pytest

from schemas.draw import Codec, CodecDraw
from schemas.encoders import ENCODERS
from tests.transforms.coding import draw_for


def test_every_codec_has_its_traits() -> None:
    assert set(ENCODERS) == set(typing.get_args(Codec))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_and_decoders_are_there_and_know_the_pixel_formats(name: Codec) -> None:
    traits = ENCODERS[name]
    assert av.Codec(traits.decoder, "r").is_decoder
    offered = {known.name for known in av.Codec(traits.encoder, "w").video_formats or []}
    assert set(traits.pixel_formats) <= offered


@pytest.mark.parametrize("name", ENCODERS)
def test_traits_do_not_contradict_each_other(name: Codec) -> None:
    traits = ENCODERS[name]
    assert ("crf" in traits.rate_modes) == (traits.crf != (0, 0))
    assert ("qscale" in traits.rate_modes) == (traits.qscale != (0, 0))
    assert (traits.default_preset in traits.presets) == bool(traits.presets)
    assert ("vbv" in traits.takes) == bool(traits.vbv_rate_modes)
    assert set(traits.vbv_rate_modes) <= set(traits.rate_modes)
    assert traits.tunes_without_b_frames <= set(traits.tunes)
    for formats in traits.profiles.values():
        assert set(formats) <= set(traits.pixel_formats)


@pytest.mark.parametrize("name", ENCODERS)
def test_optional_settings_are_fields_of_a_draw(name: Codec) -> None:
    fields = set(CodecDraw.model_fields) | {"vbv"}
    assert ENCODERS[name].takes <= fields


@pytest.mark.parametrize("name", ENCODERS)
def test_a_correct_player_reads_what_was_written(name: Codec) -> None:
    color = ENCODERS[name].default_color
    for what in ("matrix", "range", "location"):
        assert getattr(color, f"written_{what}") == getattr(color, f"read_{what}")
    assert color.scaler == "exact"
    assert draw_for(name, color=color).color == color
