"""Plans of sources that a test makes up, read back as the rows that would be written."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from pipelines import plan
from pipelines.corpus import SourceRule
from pipelines.generations import not_committed
from pipelines.licences import ANY_LICENCE, LicencePolicy
from pipelines.plan import NOTHING, Committed
from pipelines.probe import Probed
from schemas.plan import PlannedSample
from schemas.recipe import Recipe
from schemas.source import Source
from schemas.tables import table_of


class Planned(NamedTuple):
    """A plan, all generations of it."""

    sources: list[Source]
    samples: list[PlannedSample]
    committed: Committed

    @property
    def shards(self) -> list[list[PlannedSample]]:
        """The samples of each shard."""
        return [list(rows) for _, rows in itertools.groupby(self.samples, lambda row: row.shard)]


NOTHING_PLANNED = Planned([], [], NOTHING)


def make_plan(
    items: Sequence[Probed],
    rules: Sequence[SourceRule],
    recipe: Recipe,
    seed: int,
    policy: LicencePolicy = ANY_LICENCE,
    before: Planned = NOTHING_PLANNED,
) -> Planned:
    """As `pipelines.plan.make_plan`."""
    tables = [table_of(Probed, items[:3]), table_of(Probed, items[3:])]
    planned = plan.make_plan(tables, rules, recipe, seed, policy, before.committed)
    rows = [row for table in planned.sources() for row in table.to_pylist()]
    return Planned(
        sources=[Source.model_validate(row) for row in rows],
        samples=[*before.samples, *itertools.chain(*planned.shards())],
        committed=not_committed(planned),
    )
