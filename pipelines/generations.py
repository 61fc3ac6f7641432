"""The committed plan, which grows by a generation whenever sources are added.

Plan and table of sources are two files that change together. So the new table waits in the logs;
the plan is published, which commits the generation; then the table takes its place. A run that
begins settles what a killed one left between these steps.
"""

import itertools
from collections.abc import Sequence

import pyarrow as pa

from pipelines.corpus import Entry
from pipelines.errors import UserError
from pipelines.job import Job
from pipelines.layout import Layout, move, publish, staged
from pipelines.plan import NOTHING, Committed, Plan, Portion
from pipelines.probe import files_of
from pipelines.probing import file_sizes, read_entries
from pipelines.store import remove
from schemas.plan import PlannedSample
from schemas.record import Record, Status
from schemas.source import Source
from schemas.store import Place
from schemas.tables import TABLE_ERRORS, TableWriter, read_columns, read_groups, table_of

_SUMMARISED = ["generation", "shard", "split", "kind", "licence"]


def num_generations(layout: Layout) -> int:
    """How many generations are committed.

    Raises:
        UserError: if the plan is damaged.
    """
    if not layout.plan.is_file():
        return 0
    return _generations_in(layout, layout.plan, PlannedSample)


def _generations_in(layout: Layout, table: Place, record: type[Record]) -> int:
    try:
        rows = read_columns(str(table), record, ["generation"])
    except TABLE_ERRORS as error:
        raise _damaged(layout, table, error) from error
    return max(rows.column("generation").to_pylist()) + 1


def read_plan(layout: Layout) -> Committed:
    """What is committed, once all of it lies in its place.

    Raises:
        UserError: if a table is damaged.
    """
    committed = num_generations(layout)
    if layout.next_sources.is_file():
        if committed and committed == _generations_in(layout, layout.next_sources, Source):
            move(layout.next_sources, layout.sources, layout)
        else:
            remove(layout.next_sources)
    if not committed:
        return NOTHING
    samples = read_columns(str(layout.plan), PlannedSample, [*_SUMMARISED, "estimated_bytes"])
    try:
        return Committed(read_columns(str(layout.sources), Source), _summarise(samples))
    except TABLE_ERRORS as error:
        raise _damaged(layout, layout.sources, error) from error


def _summarise(samples: pa.Table) -> list[Portion]:
    """What rows of the plan amount to."""
    values = "estimated_bytes"
    plain = samples.set_column(
        samples.schema.get_field_index("kind"), "kind", samples.column("kind").cast(pa.string())
    )
    grouped = plain.group_by(_SUMMARISED, use_threads=False)  # keeps the order
    sums = grouped.aggregate([(values, "count"), (values, "sum")]).to_pydict()
    columns = [sums[name] for name in (*_SUMMARISED, f"{values}_count", f"{values}_sum")]
    return list(map(Portion._make, zip(*columns, strict=True)))


def not_committed(plan: Plan) -> Committed:
    """What a plan would be, were it committed."""
    portions = (_summarise(table_of(PlannedSample, rows)) for rows in plan.shards())
    return Committed(
        pa.concat_tables(plan.sources()), [*plan.before.portions, *itertools.chain(*portions)]
    )


def _damaged(layout: Layout, table: Place, error: Exception) -> UserError:
    return UserError(
        f"{table} is damaged ({error}): delete {layout.plan}, and the same command plans the same "
        "again; then give those that added sources once more, in their order"
    )


def commit_plan(layout: Layout, plan: Plan) -> None:
    """Publish a plan that is one generation longer than the committed one."""
    with staged(layout) as folder:
        sources = TableWriter(str(folder / "sources"), Source)
        for rows in plan.sources():
            sources.write_columns(rows)
        sources.close()
        publish(folder / "sources", layout.next_sources)
        samples = TableWriter(str(folder / "plan"), PlannedSample)
        if plan.before.portions:
            for group in read_groups(str(layout.plan), PlannedSample):
                samples.write_columns(group)
        for shard in plan.shards():
            samples.write_group(shard)
        samples.close()
        remove(layout.manifest)  # it tells of the plan that was
        publish(folder / "plan", layout.plan)
    move(layout.next_sources, layout.sources, layout)


def not_probed_before(job: Job, entries: Sequence[Entry], before: Committed) -> list[Entry]:
    """Inputs that no earlier generation has looked at, at the same place and of the same size.

    What could not be read then is looked at again.
    """
    earlier = {
        entry for number in range(job.generation) for entry in read_entries(job.layout, number)
    }
    columns = (before.sources.column(name).to_pylist() for name in ("status", "uris", "size"))
    sizes = {
        uri: size
        for status, uris, size in zip(*columns, strict=True)
        if status != Status.FAILED_RETRYABLE
        for uri in uris
    }

    def is_known(entry: Entry) -> bool:
        return sizes.get(entry.uri) == sum(file_sizes(entry))

    return [
        entry
        for entry in entries
        if entry not in earlier
        or not (is_known(entry) or (entry.is_folder and all(map(is_known, files_of(entry)))))
    ]
