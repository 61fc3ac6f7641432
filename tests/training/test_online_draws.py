"""Draws that samples share, without shards."""

from schemas.recipe import Recipe
from tests.pictures import moving_clip
from training.online import OnlineDataset

CLIPS = [moving_clip(6, 72, 80, seed=seed) for seed in range(3)]


def draws(num_draws: int, epoch: int = 0) -> list[str]:
    """What each of three clips goes through."""
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "num_draws": num_draws,
            "hr": {"patch_height": 64, "patch_width": 64},
            "clips": {"frames": 6},
            "streams": [
                {
                    "name": "noisy",
                    "stages": [{"op": "noise", "sigma": {"min": 1, "max": 9}}, {"op": "downscale"}],
                }
            ],
        }
    )
    dataset = OnlineDataset(CLIPS, recipe, frames=3, crop=16)
    dataset.set_epoch(epoch)
    found = (dataset.draw(index) for index in range(len(dataset)))
    return [drawn.stream.draw_id(drawn.scene.stages) for drawn in found]


def test_one_draw_is_shared_by_all_items_of_an_epoch() -> None:
    first, second = draws(1), draws(1, epoch=1)
    assert len(first) == 3 and len(set(first)) == len(set(second)) == 1
    assert first != second
    assert first == draws(1)


def test_without_shared_draws_each_item_has_its_own() -> None:
    assert len(set(draws(0))) == 3
