"""Pascal VOC's XML files with boxes, as VOC itself, labelImg, Roboflow and CVAT write them.

    Annotations/*.xml    JPEGImages/*    ImageSets/Main/{train,val,test}.txt

The files may also lie beside their images, and in folders named train, valid and test. Boxes of VOC
count pixels from 1 and include their last pixel. Some tools count from 0: if any edge of a set is
below 1, all its boxes are read as positions from 0.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from parcnet_train.data.prepare.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Box,
    Polygon,
    Split,
    split_named,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images, files_below, lines_of, read_text, split_of_path
from parcnet_train.errors import DataError, first_line

log = logging.getLogger(__name__)

LISTS = "ImageSets/Main"
EDGES = ("xmin", "ymin", "xmax", "ymax")
LAYOUT = "expected VOC's XML files: <annotation> with <filename>, <size> and <object> elements"


class Parsed(NamedTuple):
    """Content of an XML file."""

    path: str
    root: ElementTree.Element


def read_voc_xml(folder: Path, faults: Faults) -> AnnotatedSet:
    """Read all XML files below a folder.

    Args:
        folder: Folder of the set.
        faults: Collects what is wrong.

    Raises:
        DataError: If there is no such file.
    """
    images = Images(folder, ("SegmentationClass", "SegmentationObject"))
    splits = read_lists(folder)
    found: list[AnnotatedImage] = []
    for path, root in parsed_files(folder, faults):
        name = image_of(path, root, images)
        if name is None:
            faults.add(
                "annotation files without their image",
                "expected the image named in <filename>, or one with the name of the XML file",
                path,
            )
            continue
        stem = PurePosixPath(path).stem
        found.append(
            AnnotatedImage(
                name,
                folder / name,
                folder / path,
                size_of(root),
                splits.get(stem) if splits else split_of_path(path),
                objects=list(objects(root, path, faults)),
            )
        )
    images.warn_of_others(image.name for image in found)
    if not found and not faults.found:
        raise DataError(f"prepare.input={folder}: it contains no XML file of VOC; {LAYOUT}")
    if not counts_from_0(found):
        for image in found:
            image.objects = [moved(each) for each in image.objects]
    else:
        log.info("%s: boxes count pixels from 0, since some edges are below 1", folder)
    classes = sorted({each.name for image in found for each in image.objects})
    return AnnotatedSet(classes, found)


def parsed_files(folder: Path, faults: Faults) -> Iterator[Parsed]:
    """Yield the parsed annotation files below a folder; other XML files are skipped."""
    for path in files_below(folder, (".xml",)):
        text = read_text(folder / path)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # could expand to gigabytes
            faults.add("XML files with a document type", LAYOUT, path)
            continue
        try:
            # A declared encoding does not apply to text that is already decoded.
            root = ElementTree.fromstring(text.encode())
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            faults.add("files that are not XML", LAYOUT, f"{path} ({first_line(error)})")
            continue
        if root.tag == "annotation":
            yield Parsed(path, root)


def read_lists(folder: Path) -> dict[str, Split | None]:
    """Return the split of each listed image by its name without suffix; empty without lists."""
    splits: dict[str, Split | None] = {}
    lists = folder / LISTS
    for name in ("trainval", "default", "train", "val", "valid", "test"):  # later ones win
        file = lists / f"{name}.txt"
        if file.is_file():
            for line in lines_of(file):
                # Lists of one class have a second column, 1 or -1.
                stem = line.rsplit(maxsplit=1)[0] if line.endswith((" 1", " -1", " 0")) else line
                stem = PurePosixPath(stem.replace("\\", "/")).name
                for suffix in (".jpg", ".jpeg", ".png", ".xml"):
                    stem = stem.removesuffix(suffix)
                splits[stem.strip()] = split_named(name)
    return splits


def image_of(path: str, root: ElementTree.Element, images: Images) -> str | None:
    """Return the path of an annotated image; people rename images together with their files."""
    near = str(PurePosixPath(path).parent).removeprefix(".")
    stem = PurePosixPath(path).stem
    named = (root.findtext("filename") or "").strip()
    # A `filename` of another image, as in renamed copies, must not win over the file's own name.
    names = [named] if PurePosixPath(named).stem == stem else [stem, named]
    return next(filter(None, (images.find(name, near) for name in [*names, stem] if name)), None)


def size_of(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return the declared height and width; None if they are missing or 0, as some tools write."""
    try:
        height, width = (
            int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width")
        )
    except (ValueError, OverflowError):  # no number, or infinity
        return None
    return (height, width) if height > 0 and width > 0 else None


def objects(root: ElementTree.Element, path: str, faults: Faults) -> Iterator[AnnotatedObject]:
    """Yield the objects of a file with their edges as written; parts of objects are skipped."""
    for number, element in enumerate(root.findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        texts = [element.findtext(f"bndbox/{edge}") for edge in EDGES]
        where = f"{path}, object {number}"
        if not name:
            faults.add("objects without a name", "expected <name>CLASS</name>", where)
            continue
        try:
            box = tuple(float(text or "missing") for text in texts)
        except ValueError:
            faults.add(
                "objects without a box of four numbers",
                "expected <bndbox> with xmin, ymin, xmax and ymax in pixels",
                where,
            )
            continue
        if not all(map(math.isfinite, box)):
            faults.add(
                "objects without a box of four numbers",
                "expected <bndbox> with xmin, ymin, xmax and ymax in pixels",
                where,
            )
            continue
        if not (box[0] <= box[2] and box[1] <= box[3]):
            faults.add(
                "boxes whose right or bottom edge comes before the left or top one",
                "expected xmin <= xmax and ymin <= ymax",
                where,
            )
            continue
        is_difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
        yield AnnotatedObject(name, edges(box), outline(element), None, is_difficult)


def edges(values: Sequence[float]) -> Box:
    """Return four edges as a box."""
    left, top, right, bottom = values
    return left, top, right, bottom


def outline(element: ElementTree.Element) -> tuple[Polygon, ...]:
    """Return the polygon that Roboflow adds to an object: x1, y1, x2, y2, ..."""
    polygon = element.find("polygon")
    if polygon is None:
        return ()
    values = {child.tag: child.text or "" for child in polygon}
    points = []
    for number in range(1, len(values) // 2 + 1):
        try:
            points += [float(values[f"x{number}"]), float(values[f"y{number}"])]
        except (KeyError, ValueError):
            return ()
    is_outline = len(points) >= 6 and all(map(math.isfinite, points))
    return (tuple(points),) if is_outline else ()


def counts_from_0(images: Sequence[AnnotatedImage]) -> bool:
    """Return whether the boxes of a set count pixels from 0: an edge is below 1."""
    return any(min(each.box[:2]) < 1 for image in images for each in image.objects)


def moved(shape: AnnotatedObject) -> AnnotatedObject:
    """Return an object whose pixels are counted from 1 at its position from 0."""
    left, top, right, bottom = shape.box
    return replace(shape, box=(left - 1, top - 1, right, bottom))
