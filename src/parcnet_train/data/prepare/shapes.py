"""Geometry of annotated objects: masks, boxes and areas, and the turn of an image's orientation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.channels import upright
from parcnet_train.data.prepare.annotated import AnnotatedObject, Box, Polygon, Runs
from parcnet_train.sizes import Size

Drawn = npt.NDArray[np.bool_]  # (H, W)

Point = tuple[float, float]  # x, y

FAR = 1e12  # pixels; differences of larger coordinates may overflow

# A point of the stored image, (x, y), in the image as shown, for the EXIF orientations that turn an
# image on its side; height and width are those of the stored image.
TURNS: dict[int, Callable[[Any, Any, int, int], tuple[Any, Any]]] = {
    5: lambda x, y, height, width: (y, x),
    6: lambda x, y, height, width: (height - y, x),
    7: lambda x, y, height, width: (height - y, width - x),
    8: lambda x, y, height, width: (y, width - x),
}


def draw(shape: AnnotatedObject, size: Size) -> Drawn:
    """Return the pixels of an object: its run lengths, or the union of its polygons or its box.

    Raises:
        ValueError: If the run lengths are invalid or belong to an image of another size.
    """
    from pycocotools import mask

    return np.asarray(mask.decode(runs_of(shape, size)), np.bool_)


def runs_of(shape: AnnotatedObject, size: Size) -> Any:
    """Return the pixels of an object as pycocotools' run lengths; see `draw`."""
    from pycocotools import mask

    if shape.runs is not None:
        height, width = shape.runs["size"]
        if (height, width) != tuple(size):
            raise ValueError(f"its mask has {width}x{height} pixels")
        return compressed(shape.runs)
    polygons = shape.polygons or (corners(shape.box),)
    runs = mask.frPyObjects([near(polygon, size) for polygon in polygons], *size)
    return mask.merge(runs)


def near(polygon: Polygon, size: Size) -> list[float]:
    """Return the part of a polygon that is at most one image beside the image.

    pycocotools allocates memory for every pixel of an outline, wherever it is. The polygon is cut
    at four lines in turn (Sutherland and Hodgman, 1974).

    Raises:
        ValueError: If a coordinate is not finite.
    """
    if not all(map(math.isfinite, polygon)):
        raise ValueError("its outline has coordinates that are no numbers")
    points = [(min(max(x, -FAR), FAR), min(max(y, -FAR), FAR)) for x, y in pairs_of(polygon)]
    for axis, length in enumerate((size[1], size[0])):
        points = cut(points, axis, -length, is_lower=True)
        points = cut(points, axis, 2 * length, is_lower=False)
    return [value for point in points or [(-1.0, -1.0)] * 3 for value in point]


def pairs_of(polygon: Polygon) -> list[Point]:
    """Return the points of a polygon."""
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def cut(points: list[Point], axis: int, end: float, is_lower: bool) -> list[Point]:
    """Return the part of a polygon on one side of a line.

    Args:
        points: Points of the polygon.
        axis: 0 for a line x = `end`, 1 for a line y = `end`.
        end: Position of the line.
        is_lower: Whether larger coordinates are kept, instead of smaller ones.
    """

    def is_kept(point: Point) -> bool:
        return point[axis] >= end if is_lower else point[axis] <= end

    if all(map(is_kept, points)):
        return points
    kept: list[Point] = []
    for start, stop in zip([points[-1], *points], points, strict=False):
        if is_kept(start) != is_kept(stop):
            share = (end - start[axis]) / (stop[axis] - start[axis])
            x, y = (a + share * (b - a) for a, b in zip(start, stop, strict=True))
            kept.append((x, y))
        if is_kept(stop):
            kept.append(stop)
    return kept


def compressed(runs: Runs) -> Any:
    """Return run lengths as pycocotools decodes them: compressed, as bytes.

    Raises:
        ValueError: If they are invalid.
    """
    from pycocotools import mask

    height, width = runs["size"]
    counts = runs["counts"]
    if isinstance(counts, str | bytes):
        text = counts.encode() if isinstance(counts, str) else counts
        if sum(lengths_of(text)) != height * width:
            raise ValueError("its run lengths do not add up to the number of its pixels")
        return {"size": [height, width], "counts": text}
    if sum(counts) != height * width or min(counts) < 0:  # pycocotools fails, or draws anything
        raise ValueError("its run lengths do not add up to the number of its pixels")
    return mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)


def lengths_of(text: bytes) -> list[int]:
    """Return the run lengths of COCO's compressed format (`rleFrString` of pycocotools).

    pycocotools draws arbitrary pixels if they are invalid.

    Raises:
        ValueError: If the text ends within a number, or a length is negative.
    """
    lengths: list[int] = []
    value = shift = 0
    for byte in text:
        part = byte - 48
        if not 0 <= part < 64:
            raise ValueError("its run lengths have an invalid character")
        value |= (part & 31) << shift
        shift += 5
        if not part & 32:
            if part & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift or any(length < 0 for length in lengths):
        raise ValueError("its run lengths are truncated or negative")
    return lengths


def encode(drawn: Drawn) -> dict[str, Any]:
    """Return a mask as compressed run lengths, as JSON holds them."""
    from pycocotools import mask

    runs = mask.encode(np.asfortranarray(drawn, dtype=np.uint8))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}


def area_of(shape: AnnotatedObject, size: Size) -> float:
    """Return the number of pixels of an object; the area of the box if it has only a box."""
    from pycocotools import mask

    if shape.has_shape:
        return float(mask.area(runs_of(shape, size)))
    left, top, right, bottom = shape.box
    return (right - left) * (bottom - top)


def box_of(polygons: Sequence[Polygon]) -> Box:
    """Return the smallest box around polygons."""
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def box_of_mask(drawn: Drawn) -> Box | None:
    """Return the smallest box around the pixels of a mask; None if there are none."""
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return None
    return (
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] + 1),
        float(rows[-1] + 1),
    )


def corners(box: Box) -> Polygon:
    """Return a box as a polygon."""
    left, top, right, bottom = box
    return (left, top, right, top, right, bottom, left, bottom)


def scaled(shape: AnnotatedObject, size: Size) -> AnnotatedObject:
    """Return an object whose coordinates are shares of the image in pixels."""
    height, width = size
    left, top, right, bottom = shape.box
    return replace(
        shape,
        box=(left * width, top * height, right * width, bottom * height),
        polygons=tuple(
            tuple(value * (height if n % 2 else width) for n, value in enumerate(polygon))
            for polygon in shape.polygons
        ),
    )


def turned(shape: AnnotatedObject, stored: Size, orientation: int) -> AnnotatedObject:
    """Return an object of a stored image in the image as shown.

    Args:
        shape: Object, in pixels of the stored image.
        stored: Height and width of the stored image.
        orientation: EXIF orientation, 5 to 8.
    """
    turn = TURNS[orientation]
    left, top, right, bottom = shape.box
    x1, y1 = turn(left, top, *stored)
    x2, y2 = turn(right, bottom, *stored)
    polygons = []
    for polygon in shape.polygons:
        x, y = turn(np.array(polygon[0::2]), np.array(polygon[1::2]), *stored)
        polygons.append(tuple(np.stack([x, y], axis=1).ravel().tolist()))
    runs = None
    if shape.runs is not None:
        runs = encode(upright(draw(shape, stored), orientation))
    return replace(
        shape,
        box=(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)),
        polygons=tuple(polygons),
        runs=runs,
    )


def clipped(shape: AnnotatedObject, size: Size) -> AnnotatedObject | None:
    """Return an object with its box within the image; None if no area is left.

    Its outlines stay as they are, since drawing cuts them at the image.
    """
    height, width = size
    left, top, right, bottom = shape.box
    box = (
        min(max(left, 0.0), width),
        min(max(top, 0.0), height),
        min(max(right, 0.0), width),
        min(max(bottom, 0.0), height),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    if box == tuple(shape.box):
        return shape
    return replace(shape, box=box)
