"""What several files look at and none changes: made once."""

from pathlib import Path

import pytest

from tests.pipelines.small import make_corpus, synthesize


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and two photographs."""
    return make_corpus(tmp_path_factory.mktemp("media") / "corpus")


@pytest.fixture(scope="session")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of the corpus by the small recipe as it stands."""
    return synthesize(corpus, tmp_path_factory.mktemp("plain") / "set")
