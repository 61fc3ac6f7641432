"""What a command found: for a person, for a program, and as an exit status."""

from collections import Counter
from pathlib import Path

from pipelines.command import EXIT_FINDINGS, EXIT_OK
from pipelines.errors import UserError
from schemas.record import Record

_MOST_SHOWN = 20


class Finding(Record):
    """One thing that is not as it should be."""

    check: str
    """short code to count by, such as hash, missing or frame_type"""
    path: str = ""
    """the file, relative to the dataset"""
    shard: str = ""
    """the shard, where it belongs to one"""
    key: str = ""
    """the sample, where it belongs to one"""
    member: str = ""
    """the member of the sample, such as lr0.nut, or what part of the tar it is"""
    detail: str
    """one line for a person: what was found, and what was expected"""

    @property
    def place(self) -> str:
        """Where it is, in a few words."""
        parts = (self.path or self.shard, self.key, self.member)
        return " ".join(part for part in parts if part)


class Report(Record):
    """What a command looked at, and what it found."""

    command: str
    """such as verify"""
    dataset: str
    """the dataset's folder, as it was given"""
    manifest_sha256: str
    """of the manifest file"""
    settings: dict[str, str]
    """what was asked for, such as the grade"""
    looked_at: dict[str, int]
    """how many of what, such as shards, samples, frames"""
    not_looked_at: list[str]
    """what was left out, and why, a line each"""
    findings: list[Finding]
    """in the order of the dataset"""

    @property
    def exit_status(self) -> int:
        """0 if there is nothing to tell, else 1."""
        return EXIT_FINDINGS if self.findings else EXIT_OK

    def describe(self) -> str:
        """The report for a person; of many findings the first few."""
        looked_at = ", ".join(f"{number} {what}" for what, number in self.looked_at.items())
        lines = [f"{self.command} {self.dataset}: looked at {looked_at or 'nothing'}"]
        lines += [f"  not looked at: {reason}" for reason in self.not_looked_at[:_MOST_SHOWN]]
        if (others := len(self.not_looked_at) - _MOST_SHOWN) > 0:
            lines.append(f"  not looked at: {others} more, which the JSON report lists")
        lines += [
            f"  {finding.check}: {finding.place}: {finding.detail}"
            for finding in self.findings[:_MOST_SHOWN]
        ]
        if (others := len(self.findings) - _MOST_SHOWN) > 0:
            lines.append(f"  and {others} more")
        by_check = Counter(finding.check for finding in self.findings)
        counts = ", ".join(f"{count} {check}" for check, count in sorted(by_check.items()))
        lines.append(f"FOUND {counts}" if counts else "all is as it should be")
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write the whole report as JSON.

        Raises:
            UserError: if it cannot be written there.
        """
        write_json(self, path)


def write_json(record: Record, path: Path) -> None:
    """Write a record as JSON for a program.

    Raises:
        UserError: if it cannot be written there.
    """
    try:
        path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report {path}: {error.strerror}") from error
