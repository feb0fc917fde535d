"""Tables of a report as Markdown and on the console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from parcnet_train.report.grids import Grid
from parcnet_train.terminal import wide_console

Notes = Sequence[tuple[str, Sequence[str]]]  # sentences, each with the list items that belong to it

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def markdown(title: str, grids: Sequence[Grid], notes: Notes, figures: Iterable[str]) -> str:
    """Return the report as Markdown.

    Args:
        title: Title of the page.
        grids: Tables of the page.
        notes: Paragraphs after the tables.
        figures: File names of the figures, which are in the folder of the page.
    """
    parts = [f"# {mask(title)}"]
    for grid in grids:
        parts += [f"## {mask(grid.title)}"]
        if grid.warning:
            head, *lines = grid.warning
            parts.append(f"> **{mask(head)}**" + "".join(f"\n> - {mask(line)}" for line in lines))
        rules = ["---:" if at in grid.numbers else "---" for at in range(len(grid.headings))]
        rows = [map(mask, grid.headings), rules, *(map(mask, row) for row in grid.cells)]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        parts += paragraphs(grid.remarks)
    parts += paragraphs(notes)
    parts += [f"![{mask(name)}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def paragraphs(notes: Notes) -> list[str]:
    """Return sentences with their lists as Markdown."""
    return [
        "\n".join([mask(head), *([""] if lines else []), *(f"- {mask(line)}" for line in lines)])
        for head, lines in notes
    ]


def mask(text: str) -> str:
    """Escape text so that Markdown shows it literally, also in cells of tables."""
    for sign in ("\\", "|", "*", "_", "[", "]", "<"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def print_grids(grids: Sequence[Grid], notes: Notes, width: int) -> None:
    """Print all tables, each followed by its warning and remarks.

    Args:
        grids: Tables to print.
        notes: Paragraphs after the tables.
        width: Width in characters that the widest table needs.
    """
    console = wide_console(width)
    for grid in grids:
        table = Table(title=escape(grid.title), title_justify="left")
        for at, heading in enumerate(grid.headings):
            is_number = at in grid.numbers
            table.add_column(
                escape(heading),
                justify="right" if is_number else "left",
                overflow="fold",
            )
        for row in grid.cells:
            table.add_row(*map(escape, row))
        console.print(table)
        warnings = [(grid.warning[0], grid.warning[1:])] if grid.warning else []
        for head, lines in (*warnings, *grid.remarks):
            console.print("\n".join([head, *(f"  {line}" for line in lines)]), **PLAIN)
        console.print()
    for head, lines in notes:
        console.print("\n".join([head, *(f"  {line}" for line in lines)]), **PLAIN)
