"""Findings of an examination: what is wrong, in which files, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from parcnet_train.data.file_checks import SHOWN

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Drawing:
    """A picture in a report.

    Attributes:
        content: Bytes of a JPEG file.
        caption: Name of the image, shown below it.
        alt: Description for readers who cannot see it.
    """

    content: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Table:
    """A table in a report.

    Attributes:
        headings: Headings of the columns; the first column is text, the others are numbers.
        rows: Cells of every row.
    """

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one set of images, or in both.

    Attributes:
        kind: Stable name, for programs that read `report.json`.
        severity: `error` if a training would refuse the data, `warning` if something is probably
            wrong, `note` for facts that may be as intended.
        title: Heading of a few words: what the data have.
        count: Number of affected files, boxes or classes.
        unit: Counted things, in plural.
        message: Sentences that describe the fault.
        fix: Sentence that says what to do.
        files: First affected files, with details.
        pictures: Examples; empty where pictures do not help.
        where: Set that is concerned, such as `training set`; empty for both.
        table: Numbers; None without any.
        lines: Messages of a training that refuses the data, for an `error`.
    """

    kind: str
    severity: Severity
    title: str
    count: int
    unit: str
    message: str
    fix: str
    files: list[str] = field(default_factory=list)
    pictures: list[Drawing] = field(default_factory=list)
    where: str = ""
    table: Table | None = None
    lines: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """Return the finding as plain values for `report.json`, without its pictures."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "where": self.where,
            "count": self.count,
            "unit": self.unit,
            "message": self.message,
            "fix": self.fix,
            "files": self.files,
        }
        if self.table is not None:
            values["table"] = [
                dict(zip(self.table.headings, row, strict=True)) for row in self.table.rows
            ]
        return values

    @property
    def is_paired(self) -> bool:
        """Whether two pictures each belong together."""
        return self.kind.startswith(("leakage-", "duplicates-", "contradiction", "label-"))

    @property
    def is_wide(self) -> bool:
        """Whether the pictures need more space, since boxes or masks are drawn on them."""
        return self.kind.startswith(("box-", "mask-", "area", "label-"))

    @property
    def amount(self) -> str:
        """The number of what is affected, with its unit."""
        unit = SINGULAR.get(self.unit, self.unit) if self.count == 1 else self.unit
        return f"{self.count:,} {unit}"

    @property
    def counted(self) -> str:
        """The number of what is affected, with its unit and set."""
        return self.amount + (f", {self.where}" if self.where else "")

    @property
    def sentence(self) -> str:
        """The finding as a sentence, for a terminal."""
        holder = f"The {self.where} has" if self.where else "The data have"
        return f"{holder} {self.title[0].lower()}{self.title[1:]} ({self.amount})."


SINGULAR = {
    "images": "image",
    "validation images": "validation image",
    "test images": "test image",
    "boxes": "box",
    "classes": "class",
    "categories": "category",
    "masks": "mask",
    "groups": "group",
    "objects": "object",
    "pairs": "pair",
    "faults": "fault",
}


def refused(error: BaseException, kind: str = "refused") -> Finding:
    """Return the finding for an error that a training would raise."""
    lines = [line for line in str(error).splitlines() if line]
    return Finding(
        kind,
        "error",
        "Faults that stop a training",
        len(lines),
        "faults",
        "A training stops with these messages.",
        "Follow the messages; each ends with its fix.",
        lines[:SHOWN],
        lines=lines,
    )


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity; within a severity, their order stays."""
    return sorted(findings, key=lambda each: SEVERITIES.index(each.severity))


def count_of(findings: Sequence[Finding], *severities: Severity) -> int:
    """Return the number of findings of some severities."""
    return sum(each.severity in severities for each in findings)


def share(part: int, whole: int) -> str:
    """Return a share in percent, for messages; small ones are not rounded to zero."""
    percent = 100 * part / max(1, whole)
    return f"{percent:.1f} %" if percent >= 0.1 or part == 0 else "less than 0.1 %"
