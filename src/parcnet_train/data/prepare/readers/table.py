"""Image folders with a table of classes: CSV files with one row per image.

    filename,label      Columns are found by their names, or given.
    filename,cat,dog    One column of 0 and 1 per class (Roboflow's _classes.csv)

A set may have several tables in folders named train, valid and test.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet, split_named
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images, files_below, read_text, repeated, split_of_path
from parcnet_train.errors import ConfigError, DataError

IMAGE = ("filename", "file_name", "file", "image", "image_name", "image_id", "path", "id", "img")
LABEL = ("label", "class", "category", "target", "class_name", "label_name", "species", "breed")
SPLIT = ("split", "set", "subset", "partition")
FLAGS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "": 0.0}

Rows = list[dict[str, str]]


def read_table(
    path: Path,
    image_column: str | None,
    label_column: str | None,
    split_column: str | None,
    faults: Faults,
) -> AnnotatedSet:
    """Read a set.

    Args:
        path: Folder of the set, or its only table.
        image_column: Column of the file names; None: found by its name.
        label_column: Column of the classes; None: found by its name, or one column per class.
        split_column: Column of the sets; None: found by its name, if there is one.
        faults: Collects what is wrong.

    Raises:
        ConfigError: If a column is not found.
        DataError: If there is no table, or several tables without sets.
    """
    root = path if path.is_dir() else path.parent
    tables = tables_of(path)
    images = Images(root)
    found: list[AnnotatedImage] = []
    classes: dict[str, None] = {}
    for name in tables:
        rows, columns = read_rows(root / name)
        image_key = column_of(columns, image_column, IMAGE, "image", name)
        assert image_key is not None
        split_key = column_of(columns, split_column, SPLIT, "split", name, is_needed=False)
        label_key = column_of(columns, label_column, LABEL, "label", name, is_needed=False)
        flags = (
            [] if label_key else [each for each in columns if each not in (image_key, split_key)]
        )
        if label_key is None and not (flags and are_flags(rows, flags)):
            raise ConfigError(
                f"prepare.columns.label has no value, and {root / name} has the columns "
                f"{', '.join(columns)}; expected one of {', '.join(LABEL[:4])}, or a column of "
                "0 and 1 per class. Fix: prepare.columns.label=COLUMN"
            )
        classes |= dict.fromkeys(flags)
        for number, row in enumerate(rows, 2):
            where = f"{name}:{number}"
            label = row[label_key] if label_key else only_class(row, flags)
            image = images.find(row[image_key], str(PurePosixPath(name).parent).removeprefix("."))
            if not label:
                faults.add(
                    "rows without exactly one class", "expected one class for every image", where
                )
            elif image is None:
                faults.add(
                    "rows whose image does not exist",
                    f"expected file names in the column {image_key!r}. Fix: correct them, or set "
                    "prepare.columns.image=COLUMN",
                    f"{where}: {row[image_key]}",
                )
            else:
                split = split_named(row[split_key]) if split_key else split_of_path(name)
                classes[label] = None
                found.append(
                    AnnotatedImage(image, root / image, root / name, split=split, label=label)
                )
    return AnnotatedSet(sorted(classes), found)


def tables_of(path: Path) -> list[str]:
    """Return the names of the tables of a set.

    Raises:
        DataError: If there are none, or several outside of folders named after sets.
    """
    if path.is_file():
        return [path.name]
    names = files_below(path, (".csv", ".tsv"))
    if len(names) == 1 or (names and all(split_of_path(name) for name in names)):
        return names
    found = ", ".join(names[:5]) or "no CSV file"
    raise DataError(
        f"prepare.input={path}: it contains {found}; expected one table, or one in each of the "
        "folders train, valid and test. Fix: prepare.input=TABLE.csv"
    )


def read_rows(file: Path) -> tuple[Rows, list[str]]:
    """Return the rows of a table without surrounding white space, and its columns.

    Raises:
        DataError: If it has no rows, or a row has another number of columns.
    """
    text = read_text(file)
    heading = text.partition("\n")[0]
    separator = max((",", ";", "\t"), key=heading.count)
    table = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        columns = [column.strip() for column in table.fieldnames or []]
        read = list(table)
    except csv.Error as error:
        raise DataError(
            f"prepare.input: {file}:{table.line_num + 1} is not CSV ({error}). Fix: export it again"
        ) from error
    if twice := sorted(repeated(columns)):
        raise DataError(
            f"prepare.input: {file} has the column {twice[0]!r} twice; expected different names in "
            "the first line"
        )
    rows = []
    for number, row in enumerate(read, 2):
        if None in row or None in row.values():
            raise DataError(
                f"prepare.input: {file}:{number} has another number of columns than the first "
                f"line, {len(columns)}; expected the same number"
            )
        rows.append(dict(zip(columns, (value.strip() for value in row.values()), strict=True)))
    if not rows:
        raise DataError(
            f"prepare.input: {file} has no rows; expected a heading and a row per image"
        )
    return rows, columns


def column_of(
    columns: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    key: str,
    name: str,
    is_needed: bool = True,
) -> str | None:
    """Return a column: the given one, or the first one with a usual name; None if there is none.

    Raises:
        ConfigError: If the given column does not exist, or a needed one is not found.
    """
    if given is not None:
        if given not in columns:
            raise ConfigError(
                f"prepare.columns.{key}={given}: {name} has the columns {', '.join(columns)}; "
                "expected one of them"
            )
        return given
    by_name = {column.lower().replace(" ", "_"): column for column in reversed(columns)}
    found = next((by_name[each] for each in usual if each in by_name), None)
    if found is None and is_needed:
        raise ConfigError(
            f"prepare.columns.{key} has no value, and {name} has the columns {', '.join(columns)}; "
            f"expected one of {', '.join(usual[:4])}. Fix: prepare.columns.{key}=COLUMN"
        )
    return found


def are_flags(rows: Rows, columns: Sequence[str]) -> bool:
    """Return whether some columns contain only 0 and 1."""
    return all(row[column] in FLAGS for row in rows for column in columns)


def only_class(row: Mapping[str, str], columns: Sequence[str]) -> str | None:
    """Return the column that has a 1; None if it is not exactly one."""
    chosen = [column for column in columns if FLAGS[row[column]]]
    return chosen[0] if len(chosen) == 1 else None
