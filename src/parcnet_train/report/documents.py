"""Grids as Markdown, as one HTML page, and on the console."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from parcnet_train.report.grids import Grid
from parcnet_train.terminal import wide_console

Notes = Sequence[tuple[str, Sequence[str]]]  # sentences, each with the lines that belong to it

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: left; }
th { border-bottom: 2px solid #666; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
.warning { border-left: 4px solid #c60; background: #fff4e5; padding: .5em 1em; }
.scroll { overflow-x: auto; }
img { max-width: 100%; }
"""


def markdown(title: str, grids: Sequence[Grid], notes: Notes, figures: Iterable[str]) -> str:
    """The report as Markdown.

    Args:
        title: of the page.
        grids: its tables.
        notes: paragraphs behind them.
        figures: file names of pictures beside the page.
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
    """Sentences with their lists, in Markdown."""
    return [
        "\n".join([mask(head), *([""] if lines else []), *(f"- {mask(line)}" for line in lines)])
        for head, lines in notes
    ]


def mask(text: str) -> str:
    """Text that Markdown shows as it is, in cells of tables too."""
    for sign in ("\\", "|", "*", "_", "[", "]", "<"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def page(title: str, grids: Sequence[Grid], notes: Notes, figures: Mapping[str, bytes]) -> str:
    """The report as one HTML file that needs no other.

    Args:
        title: of the page.
        grids: its tables.
        notes: paragraphs behind them.
        figures: PNG files by name.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for grid in grids:
        parts.append(f"<h2>{html.escape(grid.title)}</h2>")
        if grid.warning:
            head, *lines = grid.warning
            parts.append(f'<div class="warning"><strong>{html.escape(head)}</strong>')
            parts += [bullets(lines), "</div>"]
        parts += ['<div class="scroll"><table>', html_row("th", grid.headings, grid.numbers)]
        parts += [html_row("td", row, grid.numbers) for row in grid.cells]
        parts += ["</table></div>", *html_paragraphs(grid.remarks)]
    parts += html_paragraphs(notes)
    for name, png in figures.items():
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        parts.append(f'<p><img alt="{html.escape(name)}" src="{source}"></p>')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return "\n".join(
        [f'<!doctype html><html lang="en"><head>{head}</head><body>', *parts, "</body></html>\n"]
    )


def html_row(tag: str, cells: Sequence[str], numbers: frozenset[int]) -> str:
    """One row of a table."""
    kinds = [' class="number"' if at in numbers else "" for at in range(len(cells))]
    return "".join(
        (
            "<tr>",
            *(
                f"<{tag}{kind}>{html.escape(cell)}</{tag}>"
                for kind, cell in zip(kinds, cells, strict=True)
            ),
            "</tr>",
        )
    )


def html_paragraphs(notes: Notes) -> list[str]:
    """Sentences with their lists."""
    return [f"<p>{html.escape(head)}</p>{bullets(lines)}" for head, lines in notes]


def bullets(lines: Sequence[str]) -> str:
    """A list, nothing where it is empty."""
    entries = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{entries}</ul>" if entries else ""


def print_grids(grids: Sequence[Grid], notes: Notes, width: int) -> None:
    """Prints all tables, what they warn of below each.

    Args:
        grids: the tables.
        notes: paragraphs behind them.
        width: characters that the widest table needs.
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
