"""What is written beside the data for people and for other tools: a pure function of the rest.

No document holds a time, a place or the manifest's hash, since the manifest lists their hashes.
"""

import yaml

from pipelines.documents.card import dataset_card
from pipelines.documents.croissant import croissant
from pipelines.documents.facts import Facts, read_facts
from pipelines.layout import Layout
from schemas.manifest import Manifest

RECIPE_NAME = "recipe.yaml"
CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"


def documents(manifest: Manifest, layout: Layout) -> dict[str, bytes]:
    """The documents of a dataset, by path.

    Args:
        manifest: of the dataset; its own list of documents plays no part.
        layout: where its tables are; the shards need not be there.

    Raises:
        OSError: if a table is missing or damaged.
        ValueError: if tables do not fit together.
    """
    return describe(manifest, read_facts(manifest.shards, layout))


def describe(manifest: Manifest, facts: Facts) -> dict[str, bytes]:
    """The documents of a dataset, by path, whose tables have been counted."""
    recipe = yaml.safe_dump(manifest.recipe, sort_keys=False, allow_unicode=True)
    return {
        RECIPE_NAME: recipe.encode(),
        CARD_NAME: dataset_card(manifest, facts).encode(),
        CROISSANT_NAME: croissant(manifest, facts),
    }
