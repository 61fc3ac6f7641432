"""The names in a manifest, looked at before any of them becomes a path."""

from collections.abc import Iterator, Sequence

from pipelines.documents import CARD_NAME, CROISSANT_NAME, RECIPE_NAME
from pipelines.layout import Layout
from schemas.manifest import SHARD_TABLES, DataFile, Manifest, Shard
from schemas.shard import PLAIN_NAME
from schemas.store import Place

_MOST_LETTERS = 200  # of a shard's name: with any suffix it is one of a file


def spanning_tables(layout: Layout) -> list[Place]:
    """The tables that span all shards, as the manifest lists them."""
    return [layout.plan, layout.sources, layout.shards]


def document_files(layout: Layout) -> list[Place]:
    """The documents, as the manifest lists them."""
    return [layout.root / name for name in (RECIPE_NAME, CARD_NAME, CROISSANT_NAME)]


def shard_files(layout: Layout, shard: str) -> list[Place]:
    """The files of a shard, as the manifest lists them: the tar, then its part of each table."""
    return [layout.tar(shard), *(layout.table(table, shard) for table in SHARD_TABLES)]


def named_shards(manifest: Manifest) -> dict[int, Shard]:
    """The shards that have a name of their own and can have files, by their place in the list."""
    first = {shard.shard: index for index, shard in reversed(list(enumerate(manifest.shards)))}
    return {
        index: shard
        for index, shard in enumerate(manifest.shards)
        if _is_name(shard.shard) and first[shard.shard] == index
    }


def _is_name(name: str) -> bool:
    return len(name) <= _MOST_LETTERS and PLAIN_NAME.fullmatch(name) is not None


def name_problems(layout: Layout, manifest: Manifest) -> Iterator[str]:
    """Every name that is not where it belongs, every size that cannot be."""
    named = named_shards(manifest)
    for index, shard in enumerate(manifest.shards):
        if index not in named:
            yield f"{_short(shard.shard)} is no name of a shard, or not its alone"
        else:
            wanted = shard_files(layout, shard.shard)
            yield from _list_problems(layout, f"the files of {shard.shard}", shard.files, wanted)
    yield from _list_problems(layout, "the tables", manifest.tables, spanning_tables(layout))
    yield from _list_problems(layout, "the documents", manifest.documents, document_files(layout))


def _list_problems(
    layout: Layout, what: str, files: Sequence[DataFile], wanted: Sequence[Place]
) -> Iterator[str]:
    names = [layout.relative(file) for file in wanted]
    for file in files:
        if file.path not in names:
            yield f"{_short(file.path)} is none of {what}"
        if min(file.size, file.rows) < 0:
            yield f"{_short(file.path)} has {file.size} bytes and {file.rows} rows"
    found = [file.path for file in files]
    if found != names and set(found) <= set(names):
        yield f"{what} are not {', '.join(names)}, each once"


def _short(name: str) -> str:
    text = repr(name)
    return text if len(text) < 100 else f"{text[:97]}..."
