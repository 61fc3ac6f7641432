"""What belongs together, and on which side of the split it is."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipelines.corpus import SourceRule, akin
from pipelines.errors import UserError
from pipelines.found import Found
from schemas.source import TRAIN, VALIDATION


def told(rules: Sequence[SourceRule], source: Found, name: str) -> dict[str, str]:
    """What the list says of a source, with a place for which it says so.

    For each place the first rule that says anything counts.
    """
    said: dict[str, str] = {}
    for uri in source.uris if rules else ():
        matching = (rule for rule in rules if rule.matches(uri, source.source_id))
        value = next((value for rule in matching if (value := getattr(rule, name))), "")
        if value:
            said.setdefault(value, uri)
    return said


def assign_groups(
    fresh: Sequence[Found],
    known: Iterable[Found],
    kept: Sequence[Found],
    rules: Sequence[SourceRule],
    validation_fraction: float,
) -> None:
    """Set groups and splits of new sources. What shares a label, a user's or that of a place, is
    one group.

    A group is called as earlier sources in it call theirs; else after the user's label, if there is
    one; else after its first source, so that it does not change its split when files are renamed.
    Its split is that of earlier sources in it; else as the user's list says; else by a threshold on
    the group's hash.

    Args:
        fresh: new sources.
        known: earlier ones that were found again: what lies beside them is bound to them, too.
        kept: earlier sources, as they were planned.
        rules: the user's source list; it is about new sources.
        validation_fraction: share of the groups whose hash says validation.

    Raises:
        UserError: if a group would be in both splits.
    """
    for source in fresh:
        source.group_labels = tuple(sorted(told(rules, source, "group")))
    members = [source for source in fresh if source.is_usable]
    links = _Links()
    for source in (*filter(_is_member, kept), *known, *members):
        links.add(source)
    names = _names(members, kept, links)
    splits = _told_splits(members, kept, rules, links)
    for source in members:
        least = links.least(source.source_id)
        source.group = names.get(least, least)
        source.split = splits.get(least) or _split_by_hash(source.group, validation_fraction)


def _is_member(kept: Found) -> bool:
    """Whether an earlier source is in a group, also if that is of another licence."""
    return kept.is_usable or kept.stage == "plan"


class _Links:
    """Sets of sources that share labels; each set goes by the least of its members."""

    def __init__(self) -> None:
        self._lesser: dict[str, str] = {}  # of those that are not the least
        self._first: dict[str, str] = {}  # label -> the source that had it first

    def add(self, source: Found) -> None:
        """Link a source to those that have its labels."""
        labels = [f"user:{group}" for group in source.group_labels]
        labels += [f"place:{akin(uri)}" for uri in source.uris]
        for label in labels:
            first = self._first.setdefault(label, source.source_id)
            one, other = self.least(source.source_id), self.least(first)
            if one != other:
                self._lesser[max(one, other)] = min(one, other)

    def least(self, source_id: str) -> str:
        """The set that a source is in."""
        while lesser := self._lesser.get(source_id):
            # Halves the way for those who come after.
            self._lesser[source_id] = self._lesser.get(lesser, lesser)
            source_id = lesser
        return source_id


def _names(members: Iterable[Found], kept: Sequence[Found], links: _Links) -> dict[str, str]:
    """Set -> name, of those that are not called after their first source."""
    labels = defaultdict[str, list[str]](list)
    for source in (*filter(_is_member, kept), *members):
        if source.group_labels:
            labels[links.least(source.source_id)] += source.group_labels
    earlier = defaultdict[str, list[str]](list)
    for source in kept:
        if source.group:
            earlier[links.least(source.source_id)].append(source.group)
    return {least: min(names) for least, names in (labels | earlier).items()}


def _told_splits(
    members: Sequence[Found], kept: Sequence[Found], rules: Sequence[SourceRule], links: _Links
) -> dict[str, str]:
    """Set -> split, where earlier sources or the user's list tell it."""
    examples = defaultdict[str, dict[str, str]](dict)
    for source in kept:
        if source.split:
            examples[links.least(source.source_id)].setdefault(source.split, source.uris[0])
    for source in members:
        for split, uri in told(rules, source, "split").items():
            examples[links.least(source.source_id)].setdefault(split, uri)
    if joined := [least for least, example in examples.items() if len(example) > 1]:
        least = min(joined)
        added = [source for source in members if links.least(source.source_id) == least]
        raise _joins_splits(examples[least], added, is_first=not kept)
    return {least: split for least, (split,) in examples.items()}


def _joins_splits(examples: dict[str, str], added: Sequence[Found], *, is_first: bool) -> UserError:
    told = " and ".join(f"{uri} into {split}" for split, uri in sorted(examples.items()))
    who = "the source list puts" if is_first else "what was made before and the source list put"
    joins = not is_first and bool(added)
    cure = f"; leave out what joins them, such as {added[0].uris[0]}" if joins else ""
    return UserError(
        f"{who} {told}, but they belong together: sources of one group "
        f"(equal content, stereo pairs, one clip in two formats) must share a split{cure}"
    )


def _split_by_hash(group: str, validation_fraction: float) -> str:
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return VALIDATION if position < validation_fraction else TRAIN
