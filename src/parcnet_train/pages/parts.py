"""Parts of a run's page: what they hold, and the files that keep them in the run directory.

    report.json   texts, tables and names of pictures
    pictures/     figures as SVG and PNG, examples as JPEG

`report.html` is made from these files and the logs of the run, so that it can be made again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from parcnet_train.errors import first_line
from parcnet_train.files import to_json, write_whole
from parcnet_train.pages.figures import png, svg
from parcnet_train.runs.directories import PAGE, read_values

log = logging.getLogger(__name__)

VALUES = "report.json"
PICTURES = Path("pictures")
MOST_IMAGES = 8  # examples of a kind, whatever `task.pictures` is, so that a page stays small


@dataclass(frozen=True)
class Drawing:
    """A picture of a page.

    Attributes:
        name: Name of its files without their suffix.
        content: Figure, or the bytes of a JPEG file.
        alt: Description for readers who cannot see it.
        caption: Text below it.
    """

    name: str
    content: Figure | bytes = field(repr=False)
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        headings: Headings of the columns.
        rows: Cells of every row.
        numbers: Index of the first column of numbers, as all columns after it are.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 1


@dataclass(frozen=True)
class Block:
    """A part of a section.

    Attributes:
        title: Heading.
        text: Description in a sentence or two.
        drawings: Pictures.
        table: Numbers; None without any.
        kind: Layout of the pictures: `plots`, `pictures` for small images, `pictures wide` for
            images with details, `stack` for one in a row.
    """

    title: str
    text: str = ""
    drawings: Sequence[Drawing] = ()
    table: Table | None = None
    kind: str = "plots"


@contextlib.contextmanager
def harmless(folder: Path, loss: str) -> Iterator[None]:
    """Turn any exception into a warning: no error of a page may harm a run.

    Args:
        folder: Run directory.
        loss: Clause that says what the page then lacks.
    """
    try:
        yield
    except Exception as error:
        log.warning("%s: %s: %s", folder / PAGE, loss, first_line(error))


def percent(share: float) -> str:
    """Return a share in percent; `-` if it is not defined."""
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def lowest(metric: str, name: str, share: float) -> str:
    """Return a sentence about the class with the lowest metric; empty if no class has one."""
    if np.isnan(share):
        return ""
    return f"The class with the lowest {metric} is {name} at {percent(share)}."


def start_again(folder: Path, kept: Sequence[str] = ()) -> None:
    """Remove the page of an earlier run of a directory, and what it was made from.

    Args:
        folder: Run directory.
        kept: Names of sections that stay true.
    """
    sections = sections_of(folder)
    for name in (PAGE, VALUES):
        (folder / name).unlink(missing_ok=True)
    if found := {key: each for key, each in sections.items() if key in kept}:
        save_values(folder, {"sections": found})


def sections_of(folder: Path) -> dict[str, Any]:
    """Return the sections of the page of a run; empty if there are none, or the file is damaged."""
    found = read_values(folder / VALUES).get("sections")
    return found if isinstance(found, dict) else {}


def save(folder: Path, key: str, title: str, blocks: Sequence[Block]) -> None:
    """Write a section of a page: its pictures, and its entry in `report.json`.

    Args:
        folder: Run directory.
        key: Name of the section; an earlier one of that name is replaced.
        title: Heading of the section.
        blocks: Parts of the section.
    """
    written = [plain(each, partial(write, folder)) for each in blocks]
    values: dict[str, Any] = {"title": title, "blocks": written}
    save_values(folder, {"sections": {**sections_of(folder), key: values}})


def save_values(folder: Path, values: dict[str, Any]) -> None:
    """Add values to `report.json`."""
    write_whole(folder / VALUES, to_json({**read_values(folder / VALUES), **values}))


def plain(block: Block, file_of: Callable[[Drawing], str]) -> dict[str, Any]:
    """Return a block as plain values, as the templates read it.

    Args:
        block: Part of a section.
        file_of: Function that returns the name of the file of a picture.
    """
    drawings = [
        {"file": file_of(each), "alt": each.alt, "caption": each.caption} for each in block.drawings
    ]
    table = None if block.table is None else asdict(block.table)
    return {
        "title": block.title,
        "text": block.text,
        "kind": block.kind,
        "table": table,
        "drawings": drawings,
    }


def write(folder: Path, drawing: Drawing) -> str:
    """Write a picture into a run directory, and return the name of its file for the page."""
    path = folder / PICTURES / drawing.name
    if isinstance(drawing.content, bytes):
        write_whole(path.with_suffix(".jpg"), drawing.content)
        return f"{drawing.name}.jpg"
    write_whole(path.with_suffix(".png"), png(drawing.content))
    drawing.content.set_layout_engine("none")  # it is laid out; once more would take as long
    write_whole(path.with_suffix(".svg"), svg(drawing.content, drawing.name))
    return f"{drawing.name}.svg"


def raster_files(folder: Path) -> Iterable[Path]:
    """Yield the pictures of all sections of a page, as files of pixels."""
    for section in sections_of(folder).values():
        for block in section["blocks"]:
            for drawing in block["drawings"]:
                file = folder / PICTURES / drawing["file"]
                yield file.with_suffix(".png") if file.suffix == ".svg" else file
