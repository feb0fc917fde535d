"""Table of predictions that ends `action=predict`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from parcnet_train.terminal import wide_console

LINES = 20  # images in the table


def shown(path: Path | str) -> str:
    """Return a path as printable text: file names may contain any bytes."""
    return os.fsencode(path).decode("utf-8", "replace")


def print_predictions(lines: Sequence[tuple[Path, str]], rest: int, title: str) -> None:
    """Print the predictions of some images.

    Args:
        lines: Path and prediction in words of each image.
        rest: Number of further images, which are not shown.
        title: Title of the table.
    """
    table = Table("image", "prediction", title=title, title_justify="left")
    for path, words in lines:
        table.add_row(escape(shown(path)), escape(words))
    if rest:
        table.add_row(f"and {rest:,} more", "")
    widest = max((len(shown(path)) + len(words) for path, words in lines), default=0)
    wide_console(min(widest + 7, 200)).print(table)
