"""YOLO's text files with boxes or polygons, as Ultralytics, Roboflow, CVAT, labelImg write them.

    data.yaml    images/train/*.jpg    labels/train/*.txt

A line is `class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`, in shares of the image. If the
YAML file has `kpt_shape`, the numbers after a box are keypoints, which are left out. An image
without a file of labels shows no object. The classes come from a YAML file with `names`, from
`obj.data` (CVAT, darknet) or from `classes.txt` (labelImg, label-studio).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from parcnet_train.data.prepare.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Split,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import (
    Images,
    files_below,
    lines_of,
    read_text,
    relative,
    split_of_path,
)
from parcnet_train.data.prepare.shapes import box_of
from parcnet_train.errors import DataError, first_line

log = logging.getLogger(__name__)

NAMES_FILES = ("classes.txt", "obj.names", "predefined_classes.txt")
KEYS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LINE = "expected lines `class x y width height` or `class x1 y1 x2 y2 x3 y3 ...`"
MARGIN = 0.01  # rounded shares may exceed 0 or 1 by so much
BOX = 5  # numbers of a line with a box


def read_yolo(path: Path, classes: Sequence[str] | None, faults: Faults) -> AnnotatedSet:
    """Read a set.

    Args:
        path: Folder of the set, or its YAML file.
        classes: Names of the classes in order; None: those of the source.
        faults: Collects what is wrong.

    Raises:
        DataError: If the names of the classes or the images are not found.
    """
    document, file = find_document(path)
    root = root_of(document, path if path.is_dir() else path.parent)
    names = names_of(document, file) if document else read_names(root)
    if names is None and classes is None:
        raise DataError(
            f"prepare.input={path}: the names of the classes are unknown; expected data.yaml with "
            f"`names`, obj.data or {NAMES_FILES[0]}. Fix: prepare.classes=[...], in order"
        )
    names = names or list(classes or ())
    images = Images(root)
    listed = list(listed_images(document, file, images, faults)) if document else []
    if not listed:
        listed = [(name, split_of_path(name)) for name in images.paths]
    keypoints = keypoints_of(document, file)
    found = []
    for name, split in listed:
        labels = labels_of(root, name)
        objects = list(read_labels(labels, names, keypoints, root, faults)) if labels else []
        found.append(
            AnnotatedImage(
                name, root / name, labels, split=split, objects=objects, is_relative=True
            )
        )
    if found and not faults.found and all(image.annotation is None for image in found):
        raise DataError(
            f"prepare.input={path}: none of its {len(found):,} images has a file of labels (first: "
            f"{found[0].name}); expected labels/NAME.txt for images/NAME.jpg, or NAME.txt beside it"
        )
    warn_of_others(root, {image.annotation for image in found if image.annotation}, images)
    return AnnotatedSet(names, found)


def warn_of_others(root: Path, used: Collection[Path], images: Images) -> None:
    """Warn about files of labels without an image, which are left out."""
    others = [
        path
        for path in files_below(root, (".txt",))
        if "labels" in path.split("/")[:-1]
        and PurePosixPath(path).name not in NAMES_FILES
        and root / path not in used
        and PurePosixPath(path).stem not in images.by_key
    ]
    if others:
        log.warning(
            "%s: %s files of labels have no image and are left out (first: %s)",
            root,
            f"{len(others):,}",
            others[0],
        )


def find_document(path: Path) -> tuple[dict[str, Any], Path]:
    """Return the description of a set, and its file; empty if there is none.

    Raises:
        DataError: If there are several, or the only one cannot be read.
    """
    if path.is_file():
        return read_document(path), path
    if (path / "obj.data").is_file():
        return read_document(path / "obj.data"), path / "obj.data"
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    found = [(document, file) for file in files if "names" in (document := read_document(file))]
    if len(found) > 1:
        named = [each for each in found if each[1].stem == "data"]
        if len(named) != 1:
            raise DataError(
                f"prepare.input={path}: {', '.join(file.name for _, file in found)} all describe a "
                f"set; expected one. Fix: prepare.input={found[0][1]}"
            )
        found = named
    return found[0] if found else ({}, path)


def read_document(file: Path) -> dict[str, Any]:
    """Return the values of a YAML file, or of darknet's lines `key = value`.

    Raises:
        DataError: If it is neither.
    """
    text = read_text(file)
    if file.suffix == ".data":
        pairs = [line.partition("=") for line in text.splitlines() if "=" in line]
        return {key.strip(): value.strip() for key, _, value in pairs}
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date may be invalid
        raise DataError(f"prepare.input: {file} is not YAML ({first_line(error)})") from error
    return document if isinstance(document, dict) else {}


def names_of(document: dict[str, Any], file: Path) -> list[str] | None:
    """Return the names of the classes: a list, a mapping by index, or the path of a file.

    Raises:
        DataError: If they have no order from 0.
    """
    names = document.get("names")
    if isinstance(names, str):  # obj.data: data/obj.names
        lines = file.parent / PurePosixPath(names.replace("\\", "/")).name
        return lines_of(lines)
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError(
                f"prepare.input: {file}: names has the keys {sorted(map(str, names))[:5]}; "
                "expected 0, 1, 2, ... without a gap"
            )
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        return None
    # Anchors of YAML make nested lists whose text has gigabytes.
    if nested := [number for number, name in enumerate(names) if isinstance(name, list | dict)]:
        raise DataError(
            f"prepare.input: {file}: names[{nested[0]}] is a list or a mapping; expected one text "
            "for every class"
        )
    return [str(name) for name in names]


def keypoints_of(document: dict[str, Any], file: Path) -> int:
    """Return how many numbers of keypoints follow each box; 0 for a set without keypoints.

    Raises:
        DataError: If the shape of the keypoints is not `[N, 2]` or `[N, 3]`.
    """
    shape = document.get("kpt_shape")
    if shape is None:
        return 0
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(each) is int and each > 0 for each in shape)
        and shape[1] in (2, 3)
    ):
        raise DataError(
            f"prepare.input: {file}: kpt_shape: expected [N, 2] or [N, 3] with N > 0 keypoints"
        )
    return math.prod(shape)


def read_names(root: Path) -> list[str] | None:
    """Return the names of the classes from a text file in the set or beside its labels."""
    for folder in (root, root / "labels"):
        for name in NAMES_FILES:
            if (folder / name).is_file():
                return lines_of(folder / name)
    return None


def listed_images(
    document: dict[str, Any], file: Path, images: Images, faults: Faults
) -> Iterator[tuple[str, Split | None]]:
    """Yield the images of the sets that a description names, with their split."""
    for key, split in KEYS.items():
        given = document.get(key)
        for entry in given if isinstance(given, list) else [given] if given else []:
            if not isinstance(entry, str):  # anchors of YAML make lists whose text has gigabytes
                faults.add("folders or lists of images that are no texts", "expected paths", key)
                continue
            place = existing(entry, images.folder)
            if place is None:
                faults.add(
                    "folders or lists of images that do not exist",
                    f"expected paths below {images.folder}. Fix: correct them in {file.name}",
                    f"{key}: {entry}",
                )
            elif place.is_file():
                for line in lines_of(place):
                    name = images.find(line, relative(place.parent, images.folder))
                    if name is None:
                        faults.add(
                            f"images of {place.name} that do not exist",
                            "expected paths of images. Fix: fetch them or remove the lines",
                            line,
                        )
                    else:
                        yield name, split
            else:
                inside = relative(place, images.folder)
                found = [
                    name for name in images.paths if not inside or name.startswith(f"{inside}/")
                ]
                if not found:
                    faults.add("folders without images", "expected images in them", f"{entry}")
                yield from ((name, split) for name in found)


def root_of(document: dict[str, Any], folder: Path) -> Path:
    """Return the folder of a set: its `path` if that exists, else the folder of its description."""
    named = document.get("path")
    given = Path(named if isinstance(named, str) else ".")
    # Exporters write where the set was.
    return folder / given if (folder / given).is_dir() else folder


def existing(entry: str, root: Path) -> Path | None:
    """Return the folder or list that an entry means; the set may have been moved since."""
    inner = [part for part in entry.replace("\\", "/").split("/") if part not in ("..", ".", "")]
    if not inner:
        return root
    places = (root.joinpath(*inner[start:]) for start in range(len(inner)))
    return next((place for place in places if place.exists()), None)


def labels_of(root: Path, name: str) -> Path | None:
    """Return the file of labels of an image; None if it has none.

    The last folder `images` of the path becomes `labels`; darknet has both in one folder.
    """
    path = PurePosixPath(name).with_suffix(".txt")
    parts = list(path.parts)
    places = [path]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        places.insert(0, PurePosixPath(*parts[:last], "labels", *parts[last + 1 :]))
    places.append(PurePosixPath("labels", path.name))
    return next((root / place for place in places if (root / place).is_file()), None)


def read_labels(
    file: Path, names: Sequence[str], keypoints: int, root: Path, faults: Faults
) -> Iterator[AnnotatedObject]:
    """Yield the objects of a file of labels, in shares of the image.

    Args:
        file: File of labels.
        names: Names of the classes by index.
        keypoints: Number of numbers after each box; 0: longer lines are polygons.
        root: Folder of the set.
        faults: Collects what is wrong.
    """
    expected = (
        f"expected {BOX} or {BOX + keypoints}, since kpt_shape gives {keypoints} to the keypoints "
        "of an object"
        if keypoints
        else LINE
    )
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{relative(file.parent, root)}/{file.name}:{number}"
        try:
            values = [float(word) for word in words]
        except ValueError:
            faults.add("lines of labels that are not numbers", LINE, where)
            continue
        count = len(values)
        if keypoints:
            is_fit = count in (BOX, BOX + keypoints)
            values, count = values[:BOX], BOX
        else:
            is_fit = count == BOX or (count >= 7 and count % 2 == 1)
        if not (is_fit and all(map(math.isfinite, values))):
            faults.add("lines of labels with a wrong number of numbers", expected, where)
            continue
        index, *shares = values
        if index != int(index) or not 0 <= index < len(names):
            faults.add(
                "classes that have no name",
                f"expected 0 to {len(names) - 1}. Fix: correct `names`",
                f"{where}: {words[0]}",
            )
            continue
        if min(shares) < -MARGIN or max(shares) > 1 + MARGIN:
            faults.add(
                "coordinates that are no shares of the image",
                "expected numbers from 0 to 1. Fix: divide pixels by width and height",
                where,
            )
            continue
        name = names[int(index)]
        if count == BOX:
            x, y, width, height = shares
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield AnnotatedObject(name, box)
        else:
            polygon = tuple(shares)
            yield AnnotatedObject(name, box_of([polygon]), (polygon,))
