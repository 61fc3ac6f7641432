"""Which licences a dataset may hold, and which of its shards hold which.

A sample has one licence: packs are of sources that share it, everything else is of one source.
"""

import re
from collections.abc import Iterable, Mapping, Set
from fnmatch import fnmatchcase

from pipelines.errors import UserError
from schemas.manifest import sha256_json
from schemas.record import Record

UNKNOWN_LICENCE = "unknown"
"""Stands in names and counts for a source whose licence nobody told."""
_SLUG_LENGTH = 40


class LicencePolicy(Record):
    """What the user wants of licences. Another policy is another dataset."""

    allowed: tuple[str, ...] = ()
    """licences, or globs over them, case ignored; empty: any licence will do, also none"""
    separate: bool = False
    """samples of different licences never share a shard"""

    def refusal(self, licence: str) -> str:
        """Why sources of a licence are left out; empty if they are not."""
        if not self.allowed or any(_matches(pattern, licence) for pattern in self.allowed):
            return ""
        told = repr(licence) if licence else "unknown"
        return f"the licence is {told}, allowed: {', '.join(self.allowed)}"

    def taken(self, licences: Iterable[str]) -> dict[str, list[str]]:
        """Which of the sources' licences each pattern allows."""
        found = sorted(set(licences) - {""})
        return {
            pattern: [licence for licence in found if _matches(pattern, licence)]
            for pattern in self.allowed
        }

    def check(self, licences: Set[str]) -> None:
        """Refuse a pattern that fits none of the sources' licences: it is misspelt.

        Raises:
            UserError: if there is one.
        """
        for pattern, taken in self.taken(licences).items():
            if not taken:
                found = sorted(licences - {""})
                told = f"has {', '.join(map(repr, found))}" if found else "gives no licences"
                raise UserError(
                    f"--licences names {pattern!r}, which no source has: the source list "
                    f"(--sources) {told}"
                )


ANY_LICENCE = LicencePolicy()


def _matches(pattern: str, licence: str) -> bool:
    """Whether a licence is the pattern, as those whose names hold brackets are, or fits it."""
    licence, pattern = licence.lower(), pattern.lower()
    return bool(licence) and (licence == pattern or fnmatchcase(licence, pattern))


def licence_slugs(licences: Iterable[str], named: Mapping[str, str]) -> dict[str, str]:
    """A part of a file name, [a-z0-9-], for each licence; different ones for different licences.

    Args:
        licences: the licences.
        named: what some are called already.
    """
    plain = {licence: _slug(licence) for licence in set(licences) - named.keys()}
    taken = [*plain.values(), *named.values()]
    return dict(named) | {
        licence: slug if taken.count(slug) == 1 else f"{slug}-{sha256_json(licence)[:6]}"
        for licence, slug in plain.items()
    }


def _slug(licence: str) -> str:
    slug = re.sub("[^a-z0-9]+", "-", licence.lower())[:_SLUG_LENGTH].strip("-")
    return slug or ("other" if licence else UNKNOWN_LICENCE)


_SPDX = (
    "Apache-2.0", "MIT", "CC0-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0",
    "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0",
    "CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0",
    "Unlicense",
)  # fmt: skip


def spdx_identifier(licence: str) -> str:
    """The licence's name in SPDX (in lower case that of the Hugging Face Hub); empty if unknown."""
    return next((known for known in _SPDX if known.lower() == licence.lower()), "")
