"""Anchor recall: the share of boxes that an anchor fits, before GPU time is spent on them.

SSD (arXiv 1512.02325, section 2.2) trains anchors on the objects that they overlap with an IoU of
at least 0.5. An object without such an anchor still gets its best one, but a network learns such
objects slowly and finds them rarely.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import visible_boxes
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.file_checks import evenly_spread
from parcnet_train.data.resizing import place
from parcnet_train.detection.anchors import box_shapes
from parcnet_train.detection.matching import IOU
from parcnet_train.doctor.findings import Finding, Table
from parcnet_train.doctor.sets import ImageSet
from parcnet_train.models.heads.ssdlite import STRIDES, SSDLite
from parcnet_train.sizes import Size
from parcnet_train.targets import locate

log = logging.getLogger(__name__)

Boxes = npt.NDArray[np.float64]

HALVINGS = 3  # levels after the backbone's, each at half the resolution of the one before
GOOD = 0.6  # recall below which another size is worth a thought
GAIN = 0.03  # of the recall, from which another size is named
LEAST = 20  # boxes of a class from which its recall says something
TRIED = 20_000  # boxes on which other sizes are tried
SIZES = (256, 320, 384, 448, 512, 640, 768)  # multiples of 32
SMALLEST = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
AREAS = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, np.inf)}  # COCO's sides


class Anchors(NamedTuple):
    """Settings on which the anchors depend.

    Attributes:
        size: Height and width of the network's input.
        smallest: Side of the smallest square anchors, as a share of the image.
    """

    size: Size
    smallest: float


def anchors_of(head: Mapping[str, Any], size: Size) -> Anchors | None:
    """Return the settings of the anchors of a head's config; None for another head than ours."""
    target = locate(head)
    if not (inspect.isclass(target) and issubclass(target, SSDLite)):
        return None
    default = inspect.signature(SSDLite).parameters["smallest_anchor"].default
    return Anchors(size, head.get("smallest_anchor", default))


def warn_of_missed(data: Any, head: Mapping[str, Any]) -> None:
    """Warn before a training if no anchor fits many boxes of the training set.

    Args:
        data: Data module; only those of detection are looked at.
        head: Config of the head.
    """
    anchors = anchors_of(head, data.image_size) if isinstance(data, CocoData) else None
    if anchors is None:
        return
    boxes = objects_at(data.read_training(), anchors.size, data.keep_aspect).boxes
    if not len(boxes):  # which the training set refuses
        return
    fits = best_overlaps(boxes[evenly_spread(len(boxes), TRIED)], anchors) >= IOU
    if fits.mean() < GOOD:
        log.warning(
            "head.smallest_anchor=%g: anchors fit only %.0f %% of the training boxes at %dx%d (IoU "
            "of at least %g); expected at least %.0f %%. Fix: action=check check.data=full names "
            "better anchors or a better input size",
            anchors.smallest,
            100 * fits.mean(),
            *anchors.size[::-1],
            IOU,
            100 * GOOD,
        )


def map_sizes(size: Size) -> list[Size]:
    """Return height and width of the maps of `SSDLite`, for an input that its strides divide."""
    sizes = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
    for _ in range(HALVINGS):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return [*sizes, (1, 1)]


def best_overlaps(boxes: Boxes, anchors: Anchors) -> npt.NDArray[np.float64]:
    """Return the largest IoU of each box with any anchor, `(n,)`.

    Of all anchors of one shape on one level, the one whose center is nearest to that of the box
    overlaps it most, since the anchors form a regular grid.

    Args:
        boxes: Corners (xyxy) `(n, 4)`, as shares of the input.
        anchors: Settings of the anchors.
    """
    maps = map_sizes(anchors.size)
    centers, lengths = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    areas = lengths.prod(axis=1)
    best = np.zeros(len(boxes))
    for (rows, columns), shapes in zip(maps, box_shapes(len(maps), anchors.smallest), strict=True):
        cells = np.array([columns, rows])
        nearest = (np.floor(centers * cells).clip(0, cells - 1) + 0.5) / cells
        apart = np.abs(centers - nearest)
        for shape in shapes:
            sides = np.minimum(shape, 1.0)
            common = np.minimum(np.minimum(lengths, sides), (lengths + sides) / 2 - apart).clip(
                min=0
            )
            inside = common.prod(axis=1)
            np.maximum(best, inside / (areas + sides.prod() - inside), out=best)
    return best


class Objects(NamedTuple):
    """Boxes at the network's input.

    Attributes:
        boxes: Corners (xyxy) `(n, 4)`, as shares of the input.
        labels: Class indices `(n,)`.
    """

    boxes: Boxes
    labels: npt.NDArray[np.int64]


def objects_at(annotations: CocoAnnotations, size: Size, keep_aspect: bool) -> Objects:
    """Place the objects of a set on the network's input, as an evaluation does."""
    boxes, is_object = visible_boxes(annotations)
    unique, inverse = np.unique(annotations.sizes, axis=0, return_inverse=True)
    placed = np.zeros((len(unique), 4))  # scale and offset, x and y
    for row, (height, width) in enumerate(unique.tolist()):
        inner, top, left = place((height, width), size, keep_aspect)
        placed[row] = (
            inner[1] / width / size[1],
            inner[0] / height / size[0],
            left / size[1],
            top / size[0],
        )
    shares = placed[inverse.ravel()][annotations.owners[is_object]]
    scale, offset = np.tile(shares[:, :2], 2), np.tile(shares[:, 2:], 2)
    return Objects(boxes[is_object] * scale + offset, annotations.labels[is_object])


def anchor_findings(images: ImageSet, anchors: Anchors, keep_aspect: bool) -> Iterator[Finding]:
    """Yield the finding about the anchors that fit the boxes of a set, with a table.

    Args:
        images: Set with annotations, usually the training set.
        anchors: Settings of the anchors.
        keep_aspect: Whether the aspect ratio of images is kept at the input.
    """
    annotations = images.annotations
    assert annotations is not None
    objects = objects_at(annotations, anchors.size, keep_aspect)
    if not len(objects.boxes):
        return
    fits = best_overlaps(objects.boxes, anchors) >= IOU
    pixels = (objects.boxes[:, 2:] - objects.boxes[:, :2]) * np.array(anchors.size[::-1])
    sides = np.sqrt(pixels.prod(axis=1))
    table, poor = recall_table(objects, fits, sides, annotations.class_names)
    total = float(fits.mean())
    is_poor = total < GOOD or bool(poor)
    helps = better(annotations, objects, anchors, keep_aspect) if is_poor else ""
    words = (
        f" Fewer than half of the boxes of {enumerated(poor)} have such an anchor." if poor else ""
    )
    size = f"{anchors.size[1]}x{anchors.size[0]}"
    yield Finding(
        "anchor-recall",
        "warning" if is_poor else "note",
        f"Boxes that no anchor fits at {size}",
        int((~fits).sum()),
        "boxes",
        f"An anchor overlaps {100 * total:.1f} % of the {len(fits):,} boxes with an IoU of at "
        f"least {IOU:g}; each of the others trains only one anchor.{words} "
        f"(head.smallest_anchor={anchors.smallest:g}, images as evaluated; random crops enlarge "
        "some objects.)",
        helps or "Nothing has to be done.",
        where=f"{images.title} set",
        table=table,
    )


def enumerated(names: Sequence[str]) -> str:
    """Return the first names as a part of a sentence, and the number of the others."""
    first = [*names[:5], *([f"{len(names) - 5:,} more classes"] if len(names) > 5 else [])]
    return first[0] if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]}"


def recall_table(
    objects: Objects,
    fits: npt.NDArray[np.bool_],
    sides: npt.NDArray[np.float64],
    class_names: Sequence[str],
) -> tuple[Table, list[str]]:
    """Return the recall per class and size, and the classes with a recall below one half."""

    def cells(chosen: npt.NDArray[np.bool_]) -> list[str]:
        shown = [recall_of(fits[chosen])]
        for low, high in AREAS.values():
            shown.append(recall_of(fits[chosen & (sides >= low) & (sides < high)]))
        return shown

    counts = np.bincount(objects.labels, minlength=len(class_names))
    kept = np.bincount(objects.labels, weights=fits, minlength=len(class_names))
    recall = kept / np.maximum(1, counts)
    order = [n for n in np.argsort(recall, kind="stable").tolist() if counts[n]]
    rows = [("all", f"{len(fits):,}", *cells(np.ones_like(fits)))]
    rows += [(class_names[n], f"{counts[n]:,}", *cells(objects.labels == n)) for n in order[:30]]
    poor = [class_names[n] for n in order if counts[n] >= LEAST and recall[n] < 0.5]
    headings = [
        f"{name}, {bounds}"
        for name, bounds in zip(AREAS, ("below 32 px", "to 96 px", "above"), strict=True)
    ]
    return Table(("class", "boxes", "recall", *headings), rows), poor


def recall_of(fits: npt.NDArray[np.bool_]) -> str:
    """Return a recall in percent; empty without boxes."""
    return f"{100 * fits.mean():.1f} %" if len(fits) else ""


def better(
    annotations: CocoAnnotations, objects: Objects, anchors: Anchors, keep_aspect: bool
) -> str:
    """Return the anchors or the input size that would fit more boxes, as a sentence.

    Classes count equally, since the poor ones are often the rare ones. A change of the anchors
    costs nothing, so it comes first. The anchors are shares of the image: a larger input only makes
    their grid denser.
    """
    few = evenly_spread(len(objects.boxes), TRIED)
    labels = objects.labels[few]

    def recall_at(tried: Anchors, boxes: Boxes) -> float:
        return mean_recall(best_overlaps(boxes, tried) >= IOU, labels)

    now = recall_at(anchors, objects.boxes[few])
    by_value = {
        value: recall_at(anchors._replace(smallest=value), objects.boxes[few]) for value in SMALLEST
    }
    value = max(by_value, key=lambda each: (round(by_value[each], 2), each))
    sentences = []
    reached = by_value[value]
    if reached > now + GAIN:
        sentences.append(f"head.smallest_anchor={value:g} would raise it to {100 * reached:.0f} %")
    else:
        value, reached = anchors.smallest, now
    by_size = {}
    for size in (each for each in SIZES if each > max(anchors.size)):
        boxes = objects_at(annotations, (size, size), keep_aspect).boxes[few]
        by_size[size] = recall_at(Anchors((size, size), value), boxes)
    if by_size and (best := max(by_size.values())) > reached + GAIN:
        size = next(size for size, each in by_size.items() if each >= best - 0.01)
        also = "with it, to" if sentences else "would raise it to"
        sentences.append(f"recipe.image_size={size} {also} {100 * by_size[size]:.0f} %")
    if not sentences:
        return "No other anchors or input size would help much; cut the images into tiles."
    more = (
        "" if value == anchors.smallest else " Other anchors fit other sizes, so compare metrics."
    )
    return f"The mean recall of the classes is {100 * now:.0f} %; {', and '.join(sentences)}.{more}"


def mean_recall(fits: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> float:
    """Return the mean over the classes of the share of boxes that an anchor fits."""
    counts = np.bincount(labels)
    kept = np.bincount(labels, weights=fits, minlength=len(counts))
    return float((kept[counts > 0] / counts[counts > 0]).mean())
