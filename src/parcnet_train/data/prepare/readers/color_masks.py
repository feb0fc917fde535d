"""Colored masks, as CVAT exports them (Segmentation mask), or with a palette of your own.

    labelmap.txt    JPEGImages/*    SegmentationClass/*.png    ImageSets/Segmentation/*.txt

A line of `labelmap.txt` is `name:red,green,blue:parts:actions`; a palette of your own may also be a
table with the columns name, r, g and b (CamVid's class_dict.csv).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from parcnet_train.data.batches import BACKGROUND_NAME, IGNORED
from parcnet_train.data.prepare.annotated import (
    BACKGROUNDS,
    IGNORE,
    AnnotatedImage,
    AnnotatedSet,
    Palette,
    Split,
    split_named,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images, files_below, lines_of, read_text, repeated
from parcnet_train.data.segmentation.palette import MASK_SUFFIXES
from parcnet_train.errors import DataError, shortened

LABELMAP = "labelmap.txt"
MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
CLASSES = "classes.txt"
VOID = 0xE0E0C0  # color of VOC's ignored pixels
LINE = "expected lines `name:red,green,blue::`, or a table with the columns name, r, g and b"


def read_color_masks(folder: Path, palette: Path | None, faults: Faults) -> AnnotatedSet:
    """Read a set with colored masks.

    Args:
        folder: Folder of the set.
        palette: File with the colors; None: `labelmap.txt`.
        faults: Collects what is wrong.

    Raises:
        DataError: If the colors or the masks are not found.
    """
    file = palette or folder / LABELMAP
    if palette is None and not file.is_file():
        raise DataError(
            f"prepare.input={folder}: {LABELMAP} does not exist; expected CVAT's export "
            "`Segmentation mask`. Fix: prepare.palette=FILE with the colors of the classes"
        )
    classes, meaning = read_palette(file, "prepare.palette" if palette else "prepare.input")
    return AnnotatedSet(classes, read_masked(folder, faults), meaning)


def read_index_masks(folder: Path, classes: Sequence[str] | None, faults: Faults) -> AnnotatedSet:
    """Read a set in VOC's layout, whose masks contain class indices.

    A first name `__ignore__` is labelme's name for pixels with the value 255; the name after it has
    index 0. A later one has an index, as every other name, whose pixels are ignored.

    Args:
        folder: Folder of the set.
        classes: Names of the classes, index 0 first, if there is no `classes.txt`.
        faults: Collects what is wrong.

    Raises:
        DataError: If the classes are unknown, or there are no masks.
    """
    file = folder / CLASSES
    if classes is None and not file.is_file():
        raise DataError(
            f"prepare.input={folder}: {CLASSES} does not exist, so the classes are unknown; "
            "expected one name per line, index 0 first. Fix: prepare.classes=[...]"
        )
    given = list(lines_of(file) if file.is_file() else classes or ())
    listed = given[1:] if given[:1] == [IGNORE] else given
    names = [name for name in listed if name != IGNORE]
    indices = {
        index: IGNORED if name == IGNORE else names.index(name) for index, name in enumerate(listed)
    }
    indices[IGNORED] = IGNORED
    return AnnotatedSet(names, read_masked(folder, faults), Palette(indices, is_colored=False))


def read_palette(file: Path, key: str = "prepare.input") -> tuple[list[str], Palette]:
    """Return the names of the classes, and the meaning of the colors.

    The background comes first: the lines with one of its names (`BACKGROUNDS`), or black if no line
    has such a name or this color.

    Args:
        file: File of the palette.
        key: Key of the configuration that names it or its folder, for messages.

    Raises:
        DataError: If a line is invalid, or a name or a color occurs twice.
    """
    rows = list(palette_rows(file, key))
    names, colors = [name for name, _ in rows], [color for _, color in rows]
    twice = [*sorted(repeated(names)), *sorted(repeated(map(str, colors)))]
    if twice:
        raise DataError(
            f"{key}: {file}: {twice[0]} occurs twice; expected a name and a color of its own in "
            "every line"
        )
    rows = [(BACKGROUND_NAME if name in BACKGROUNDS else name, color) for name, color in rows]
    if not set(BACKGROUNDS).intersection(names) and (0, 0, 0) not in colors:
        rows.insert(0, (BACKGROUND_NAME, (0, 0, 0)))
    rows.sort(key=lambda row: row[0] != BACKGROUND_NAME)  # stable
    names = list(dict.fromkeys(name for name, _ in rows if name != IGNORE))
    indices = {VOID: IGNORED}
    for name, (red, green, blue) in rows:
        color = red << 16 | green << 8 | blue
        indices[color] = IGNORED if name == IGNORE else names.index(name)
    return names, Palette(indices, is_colored=True)


def palette_rows(file: Path, key: str) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the name and the color of every line of a palette.

    Raises:
        DataError: If a line is invalid.
    """
    text = read_text(file, key)
    if file.suffix.lower() == ".csv":
        table = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        try:
            lines = [
                ":".join((row.get("name") or "", ",".join(row.get(key) or "" for key in "rgb")))
                for row in table
            ]
        except csv.Error as error:
            raise DataError(
                f"{key}: {file}:{table.line_num + 1} is not CSV ({error}); {LINE}"
            ) from error
    else:
        lines = [line.strip() for line in text.splitlines()]
    rows = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(part) for part in rest.split(":")[0].split(","))
        except ValueError as error:
            raise DataError(
                f"{key}: {file}: the line {shortened(repr(line))} has no color; {LINE}"
            ) from error
        if not name.strip() or not all(0 <= part <= 255 for part in (red, green, blue)):
            raise DataError(
                f"{key}: {file}: the line {shortened(repr(line))} has no name or no color; {LINE}"
            )
        rows.append((name.strip(), (red, green, blue)))
    return rows


def read_masked(folder: Path, faults: Faults) -> list[AnnotatedImage]:
    """Return the images of a set in VOC's layout that have masks.

    Raises:
        DataError: If there are no masks.
    """
    masks = {
        str(PurePosixPath(path).with_suffix("")): folder / MASKS / path
        for path in files_below(folder / MASKS, MASK_SUFFIXES)
    }
    if not masks:
        raise DataError(
            f"prepare.input={folder}: {MASKS} contains no mask; expected one PNG per image there"
        )
    images = Images(folder, (MASKS, "SegmentationObject"))
    splits = read_lists(folder)
    found = []
    for name in splits or masks:
        mask, image = masks.get(name), images.find(name, "JPEGImages")
        if mask is None or image is None:
            faults.add(
                f"images without a mask in {MASKS}" if mask is None else "masks without an image",
                "expected an image and a mask of every name. Fix: export them with the images, or "
                f"correct {LISTS}",
                name,
            )
            continue
        found.append(AnnotatedImage(image, folder / image, split=splits.get(name), mask=mask))
    return found


def read_lists(folder: Path) -> dict[str, Split | None]:
    """Return the split of every listed image by its name; empty without lists."""
    lists = sorted((folder / LISTS).glob("*.txt"))
    splits: dict[str, Split | None] = {}
    for file in sorted(lists, key=lambda file: split_named(file.stem) is not None):  # later wins
        for line in lines_of(file):
            name = line.split("\t")[0].lstrip("/")
            if PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg", ".png"):
                name = str(PurePosixPath(name).with_suffix(""))
            splits[name] = split_named(file.stem)
    return splits
