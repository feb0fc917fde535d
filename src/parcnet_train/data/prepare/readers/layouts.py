"""Sets in the layouts of the data modules that lack a validation set, to be split.

SET/CLASS/*.jpg                                     one folder per class
SET/JPEGImages/*    SET/SegmentationClass/*.png    SET/classes.txt
SET/annotations/*.json    SET/images/*
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parcnet_train.data.folders import OF_SYSTEMS
from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet, split_named
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images
from parcnet_train.data.prepare.readers.coco_json import read_coco_json
from parcnet_train.data.prepare.readers.color_masks import MASKS, read_index_masks
from parcnet_train.errors import DataError


def read_layout(path: Path, classes: Sequence[str] | None, faults: Faults) -> AnnotatedSet:
    """Read a set in one of the layouts.

    Args:
        path: Folder of the set, or an annotation file of COCO's.
        classes: Names of the classes in order; None: those of the source.
        faults: Collects what is wrong.

    Raises:
        DataError: If it is in none of them.
    """
    if path.is_file() or any(path.glob("annotations/*.json")) or any(path.glob("*.json")):
        return read_coco_json(path, faults)
    if (path / MASKS).is_dir():
        return read_index_masks(path, classes, faults)
    return read_class_folders(path, faults)


def read_class_folders(folder: Path, faults: Faults) -> AnnotatedSet:
    """Read folders of images, one per class, or one of such folders for each set.

    Raises:
        DataError: If there are no such folders.
    """
    inside = folders_in(folder)
    sets = {name: split_named(name) for name in inside}
    has_sets = bool(inside) and all(sets.values()) and any(folders_in(folder / n) for n in inside)
    depth = 1 if has_sets else 0
    found, classes = [], set()
    for name in Images(folder).paths:
        parts = name.split("/")
        if len(parts) < depth + 2:
            faults.add("images beside the class folders", "expected CLASS/IMAGE", name)
            continue
        split = sets[parts[0]] if has_sets else None
        classes.add(parts[depth])
        found.append(AnnotatedImage(name, folder / name, split=split, label=parts[depth]))
    if not found and not faults.found:
        raise DataError(
            f"prepare.input={folder}: it contains no image in a folder; expected one folder of "
            f"images per class, JPEGImages and {MASKS}, or annotations/*.json"
        )
    return AnnotatedSet(sorted(classes), found)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the visible folders in a folder."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in OF_SYSTEMS
    )
