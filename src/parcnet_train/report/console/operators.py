"""Table of the operators in an exported file."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_operators(title: str, counts: Mapping[str, int]) -> None:
    """Print the number of times that each operator occurs in a file."""
    table = Table("operator", "times")
    for name, count in counts.items():
        table.add_row(escape(name), str(count))
    console = Console()
    console.print(title, soft_wrap=True)
    console.print(table)
