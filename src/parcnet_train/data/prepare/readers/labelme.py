"""JSON files of labelme 5: polygons, rectangles, circles, lines and masks.

Shapes of one label and one `group_id` are one object. An image that is missing may be embedded in
its JSON file. If an image has no shape, but exactly one flag is set, the flag is its class. Points
have no area and are left out.
"""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.prepare.annotated import (
    SPECIAL,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Polygon,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import Images, files_below, read_json, split_of_path
from parcnet_train.data.prepare.shapes import (
    Drawn,
    box_of,
    box_of_mask,
    corners,
    draw,
    encode,
)
from parcnet_train.errors import DataError
from parcnet_train.sizes import Size

LINE_WIDTH = 10  # pixels, as labelme draws lines
CORNERS = 64  # of the polygon that stands for a circle
SHAPES = "expected polygon, rectangle, circle, line, linestrip or mask"
FEWEST = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}


def read_labelme(folder: Path, faults: Faults) -> AnnotatedSet:
    """Read all JSON files of labelme below a folder.

    Args:
        folder: Folder of the set.
        faults: Collects what is wrong.

    Raises:
        DataError: If there is no such file.
    """
    images = Images(folder)
    found: list[AnnotatedImage] = []
    for path in files_below(folder, (".json",)):
        document = read_json(folder / path)
        if not (isinstance(document, dict) and isinstance(document.get("shapes"), list)):
            continue
        near = str(PurePosixPath(path).parent).removeprefix(".")
        named = str(document.get("imagePath") or "")
        name = images.find(named, near) or images.find(PurePosixPath(path).stem, near)
        if name is None and not document.get("imageData"):
            faults.add(
                "annotation files without their image",
                "expected the image of imagePath, or imageData. Fix: fetch the images, or save "
                "with labelme's `Save With Image Data`",
                f"{path} ({named})",
            )
            continue
        size = declared_size(document)
        shapes = document["shapes"]
        found.append(
            AnnotatedImage(
                name or str(PurePosixPath(path).with_suffix(".png")),
                folder / name if name else None,
                folder / path,
                size,
                split_of_path(path),
                label_of(document) if not shapes else None,
                list(objects_of(shapes, size, path, faults)),
            )
        )
    images.warn_of_others(image.name for image in found)
    if not found and not faults.found:
        raise DataError(
            f"prepare.input={folder}: it contains no JSON file of labelme; expected files with "
            "`shapes` and `imagePath`"
        )
    names = {each.name for image in found for each in image.objects} - {*SPECIAL}
    names |= {image.label for image in found if image.label is not None}
    return AnnotatedSet(sorted(names), found)


def declared_size(document: Mapping[str, Any]) -> Size | None:
    """Return the height and width that a file declares, or None."""
    height, width = document.get("imageHeight"), document.get("imageWidth")
    if not (type(height) is int and type(width) is int):  # a bool is an int as well
        return None
    # A size of gigabytes would be allocated for masks, before it is compared with the image.
    return (height, width) if min(height, width) > 0 and height * width <= MAX_PIXELS else None


def label_of(document: Mapping[str, Any]) -> str | None:
    """Return the only flag that is set, the class of the image; None if it is not the only one."""
    flags = document.get("flags")
    chosen = [name for name, value in flags.items() if value] if isinstance(flags, dict) else []
    return chosen[0] if len(chosen) == 1 else None


def objects_of(
    shapes: Sequence[Any], size: Size | None, path: str, faults: Faults
) -> Iterator[AnnotatedObject]:
    """Yield the objects of a file, in the order of their first shapes."""
    groups: defaultdict[object, list[AnnotatedObject]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        where = f"{path}, shape {number}"
        found = object_of(shape, size, where, faults)
        if found is not None:
            group = shape.get("group_id")
            group = group if isinstance(group, int | str) else None
            key = number if group is None else (found.name, group)
            groups[key].append(found)
    for parts in groups.values():
        yield parts[0] if len(parts) == 1 else merged(parts, size)


def object_of(shape: Any, size: Size | None, where: str, faults: Faults) -> AnnotatedObject | None:
    """Return the object of one shape; None for a point and for a fault."""
    if not (isinstance(shape, dict) and str(shape.get("label") or "").strip()):
        faults.add("shapes without a label", "expected a label", where)
        return None
    kind = str(shape.get("shape_type") or "polygon")
    if kind in ("point", "points"):
        return None
    name = str(shape["label"]).strip()
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        points = []
    if kind not in FEWEST or len(points) < FEWEST[kind]:
        faults.add("shapes that are not complete or of an unknown kind", SHAPES, f"{where}: {kind}")
        return None
    if not all(math.isfinite(value) for point in points for value in point):
        faults.add("shapes with coordinates that are no numbers", SHAPES, f"{where}: {kind}")
        return None
    if kind in ("mask", "line", "linestrip"):
        try:
            drawn = pixels_of(shape, kind, points, size)
        except Exception:  # base64, Pillow and NumPy raise nearly anything
            drawn = None
        box = box_of_mask(drawn) if drawn is not None else None
        if drawn is None or box is None:
            faults.add(
                "masks or lines without pixels in the image",
                "expected imageHeight and imageWidth, and a mask as base64 of a PNG",
                f"{where}: {kind}",
            )
            return None
        return AnnotatedObject(name, box, runs=encode(drawn))
    polygon = polygon_of(kind, points)
    if not all(map(math.isfinite, polygon)):  # a circle of points that are far apart
        faults.add("shapes with coordinates that are no numbers", SHAPES, f"{where}: {kind}")
        return None
    return AnnotatedObject(name, box_of([polygon]), (polygon,))


def polygon_of(kind: str, points: Sequence[tuple[float, float]]) -> Polygon:
    """Return a polygon, a rectangle or a circle as a polygon."""
    if kind == "rectangle":
        xs, ys = zip(*points, strict=True)
        return corners((min(xs), min(ys), max(xs), max(ys)))
    if kind == "circle":  # center, and a point on it
        (x, y), (other_x, other_y) = points[:2]
        radius = math.hypot(other_x - x, other_y - y)
        angles = [2 * math.pi * n / CORNERS for n in range(CORNERS)]
        return tuple(
            value
            for angle in angles
            for value in (x + radius * math.cos(angle), y + radius * math.sin(angle))
        )
    return tuple(value for point in points for value in point)


def pixels_of(
    shape: Mapping[str, Any], kind: str, points: Sequence[tuple[float, float]], size: Size | None
) -> Drawn | None:
    """Return the pixels of a mask or of lines, `(H, W)`, which labelme draws 10 pixels wide."""
    if size is None:
        return None
    drawn = np.zeros(size, np.bool_)
    if kind == "mask":  # of its box, whose last row and column belong to it
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            part = np.array(image).astype(np.bool_)
        left, top = int(points[0][0]), int(points[0][1])
        target = drawn[top : top + part.shape[0], left : left + part.shape[1]]
        target[:] = part[: target.shape[0], : target.shape[1]]
        return drawn
    canvas = Image.fromarray(drawn.astype(np.uint8))
    ImageDraw.Draw(canvas).line([tuple(point) for point in points], fill=1, width=LINE_WIDTH)
    return np.array(canvas, np.bool_)


def merged(parts: Sequence[AnnotatedObject], size: Size | None) -> AnnotatedObject:
    """Return the object of several shapes: all polygons, or the union of all masks."""
    boxes = np.array([part.box for part in parts])
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    polygons = tuple(polygon for part in parts for polygon in part.polygons)
    runs = None
    if size is not None and any(part.runs is not None for part in parts):
        drawn = np.zeros(size, np.bool_)
        for part in parts:
            drawn |= draw(part, size)
        runs = encode(drawn)
        polygons = ()
    return AnnotatedObject(parts[0].name, (left, top, right, bottom), polygons, runs)
