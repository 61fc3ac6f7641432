import pytest

from pipelines.errors import UserError
from pipelines.job import check_recipe
from schemas.recipe_files import load_recipe


def test_a_recipe_that_needs_what_this_pillow_lacks_is_refused_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_recipe(load_recipe("apisr"))
    monkeypatch.setattr("pipelines.job.features.check", lambda name: False)
    check_recipe(load_recipe("vcisr"))
    with pytest.raises(UserError, match="'apisr' uses AVIF, which this build of Pillow lacks"):
        check_recipe(load_recipe("apisr"))
