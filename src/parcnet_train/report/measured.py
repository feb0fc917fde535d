"""Parts of Markdown pages that a command writes: measured figures are never typed."""

from __future__ import annotations

from pathlib import Path

from parcnet_train.errors import DataError
from parcnet_train.files import write_whole


def replace_part(page: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page.

    Args:
        page: Markdown file.
        name: Name of the part.
        text: New text of the part.

    Raises:
        DataError: If the page does not have such a part.
        TrainingError: If the page cannot be written.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not found or not ends:
        raise DataError(
            f"{page}: it has no part {name!r}. Fix: add the lines {begin.strip()} and {end.strip()}"
        )
    write_whole(page, f"{before}{begin}\n{text.strip()}\n\n{end}{after}".encode())
