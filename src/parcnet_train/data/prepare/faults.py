"""Faults of a source, collected so that all of one kind become one line."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from parcnet_train.errors import DataError, printable

log = logging.getLogger(__name__)

SHOWN = 3  # names that a line lists
LONGEST = 200  # characters of a name


@dataclass
class Faults:
    """Names by problem; the order of the first occurrences is kept.

    Attributes:
        where: Beginning of every line, such as `prepare.input=PATH`.
        found: Names by problem and by what is expected instead.
    """

    where: str
    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, problem: str, expected: str, name: str) -> None:
        """Add a fault.

        Args:
            problem: Fault in words, the same for all faults of this kind.
            expected: End of the line: what is expected, and the fix.
            name: File, line or entry at fault.
        """
        self.found.setdefault((printable(problem), expected), []).append(printable(name)[:LONGEST])

    def lines(self) -> list[str]:
        """Return one line per problem, with the number and the first of the names."""
        return [
            f"{self.where}: {problem}: {len(names):,} (first: {', '.join(names[:SHOWN])}"
            f"{', ...' if len(names) > SHOWN else ''}); {expected}"
            for (problem, expected), names in self.found.items()
        ]

    def refuse(self) -> None:
        """Raise all faults at once.

        Raises:
            DataError: If there are any; one line per problem.
        """
        if self.found:
            raise DataError("\n".join(self.lines()))

    def warn(self) -> None:
        """Log all of them as warnings, one line per problem, and forget them."""
        for line in self.lines():
            log.warning("%s", line)
        self.found.clear()
