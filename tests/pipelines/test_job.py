import pytest

from pipelines.errors import UserError
from pipelines.job import Job, check_libraries, check_recipe, library_versions
from schemas.manifest import Environment
from schemas.recipe_files import load_recipe


def test_a_recipe_that_needs_what_this_pillow_lacks_is_refused_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_recipe(load_recipe("apisr"))
    monkeypatch.setattr("pipelines.job.features.check", lambda name: False)
    check_recipe(load_recipe("vcisr"))
    with pytest.raises(UserError, match="'apisr' uses AVIF, which this build of Pillow lacks"):
        check_recipe(load_recipe("apisr"))


def test_a_worker_with_other_code_or_libraries_does_not_begin() -> None:
    job = Job(
        output="/data/made",
        recipe=load_recipe("cavsr"),
        seed=0,
        num_workers=1,
        environment=Environment(libraries=library_versions(), encoders={}),
    )
    check_libraries(job)
    with pytest.raises(RuntimeError, match="start the workers again"):
        check_libraries(job.model_copy(update={"code_sha256": "of another version"}))
    others = Environment(libraries={**library_versions(), "av": "1.0"}, encoders={})
    with pytest.raises(RuntimeError, match="'av': "):
        check_libraries(job.model_copy(update={"environment": others}))
