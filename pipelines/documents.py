"""What is written beside the data for people and for other tools, all of it from the manifest."""

import yaml

from schemas.manifest import Manifest

RECIPE_NAME = "recipe.yaml"


def documents(manifest: Manifest) -> dict[str, bytes]:
    """The documents of a dataset, by path.

    Args:
        manifest: of the dataset; its own list of documents plays no part.
    """
    recipe = yaml.safe_dump(manifest.recipe, sort_keys=False, allow_unicode=True)
    return {RECIPE_NAME: recipe.encode()}
