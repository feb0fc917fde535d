"""Which classes of a network an evaluated set has: some of them, maybe under other names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from parcnet_train.data.folders import class_folders
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, listed, reason_of
from parcnet_train.files import read_regular

log = logging.getLogger(__name__)

KEY = "task.evaluated_classes"
FOLDERS = "folders"  # the value for the classes of all class folders


def evaluated_labels(
    wanted: str | Sequence[str], class_names: Sequence[str], folder: AnyPath
) -> dict[str, int | None]:
    """Return the index of the network's class for every class folder of an evaluated set.

    Args:
        wanted: Value of `task.evaluated_classes`: `folders`, names of classes, or the path of a
            text file whose lines are `CLASS` or `FOLDER<tab>CLASS`.
        class_names: Names of the network's classes, in the order of the logits.
        folder: Folder of the class folders.

    Returns:
        Class index by name of the class folder; None for a folder that is not evaluated.

    Raises:
        DataError: If a class or a folder does not exist, or fewer than two classes remain.
    """
    found = class_folders(folder)
    if wanted == FOLDERS:
        labels = labels_of_folders(found, class_names, folder)
    else:
        labels = labels_of_entries(entries_of(wanted), class_names)
        if missing := [name for name in labels if name not in found]:
            raise DataError(
                f"{KEY}: {folder} has no class folder {listed(missing)}; expected one for each of "
                f"the {len(labels)} entries. Fix: correct the entries, or data.root, or name the "
                "folder before its class: FOLDER<tab>CLASS in a text file"
            )
    if (count := len(set(labels.values()))) < 2:
        only = "only one class" if count else "no class"
        raise DataError(
            f"{KEY}: {only} would be evaluated; expected two or more. Fix: list more classes"
        )
    return {name: labels.get(name) for name in found}


def labels_of_folders(
    found: Sequence[str], class_names: Sequence[str], folder: AnyPath
) -> dict[str, int]:
    """Return the class index of class folders that have names or numbers of classes.

    They are numbers, as in ImageNet-V2, if no folder has the name of a class.

    Raises:
        DataError: If there are others.
    """
    index_of = {name: index for index, name in enumerate(class_names)}
    is_numbered = index_of.keys().isdisjoint(found)
    if is_numbered:
        numbers = {name: int(name) for name in found if name.isascii() and name.isdigit()}
        index_of = {name: index for name, index in numbers.items() if index < len(class_names)}
    if unknown := [name for name in found if name not in index_of]:
        raise DataError(
            f"{KEY}={FOLDERS}: {len(unknown)} of {len(found)} class folders of {folder} are no "
            f"class of the network: {listed(unknown)}; expected names of its {len(class_names):,} "
            f"classes ({listed(class_names)}) or their numbers. Fix: {KEY}=FILE, with lines "
            "FOLDER<tab>CLASS for the folders to evaluate"
        )
    labels = {name: index_of[name] for name in found}
    if is_numbered:
        first = found[0]
        log.info(
            "class folders are numbers of classes: %s is %s", first, class_names[labels[first]]
        )
    return labels


def labels_of_entries(
    entries: Iterable[tuple[str, str]], class_names: Sequence[str]
) -> dict[str, int]:
    """Return the class index of the class folders in pairs of a folder and a class.

    Raises:
        DataError: If a class is not one of the network's, or a folder occurs twice.
    """
    index_of = {name: index for index, name in enumerate(class_names)}
    labels: dict[str, int] = {}
    unknown: list[str] = []
    for folder, name in entries:
        if folder in labels:
            raise DataError(f"{KEY}: the class folder {folder} is given twice; expected it once")
        if name in index_of:
            labels[folder] = index_of[name]
        else:
            unknown.append(name)
    if unknown:
        raise DataError(
            f"{KEY}: the network has no class {listed(unknown)}; expected names of its "
            f"{len(class_names):,} classes: {listed(class_names)}"
        )
    return labels


def entries_of(wanted: str | Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of a class folder and a class, from names of classes or a text file.

    Args:
        wanted: Names of classes, or the path of a file whose lines are `CLASS` or
            `FOLDER<tab>CLASS`.

    Raises:
        DataError: If the file cannot be read.
    """
    if not isinstance(wanted, str):
        return [(name, name) for name in wanted]
    try:
        lines = read_regular(Path(wanted).expanduser()).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(
            f"{KEY}={wanted}: this file cannot be read ({reason}); expected {FOLDERS}, a list of "
            "class names, or a text file with one class per line"
        ) from error
    parts = [[part.strip() for part in line.split("\t", 1)] for line in lines if line.strip()]
    return [(each[0], each[-1]) for each in parts]
