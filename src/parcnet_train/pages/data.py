"""The data of a run: labels per class and set, image sizes, boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.classification.dataset import ImageDataset
from parcnet_train.data.detection.dataset import BoxedImages
from parcnet_train.data.file_checks import evenly_spread
from parcnet_train.data.segmentation.dataset import MaskedImages
from parcnet_train.doctor.sets import TITLES
from parcnet_train.errors import DataError, printable
from parcnet_train.pages.figures import MOST_CLASSES, bars, density, histograms
from parcnet_train.pages.parts import Block, Drawing, Table

READ = 64  # images of a set that are read for their sizes and the classes of their pixels

Sets = Mapping[str, Any]  # data sets by their title
Counts = Mapping[str, npt.NDArray[np.int64]]


def sets_of(data: Any) -> dict[str, Any]:
    """Return the sets that a data module has created, by their titles."""
    made = {"train": getattr(data, "train_set", None), data.split: getattr(data, "val_set", None)}
    return {TITLES[split]: each for split, each in made.items() if each is not None}


def kept_classes(data: Any) -> Sequence[int]:
    """Return the classes that are evaluated, in their order."""
    return data.evaluated_classes or range(len(data.class_names))


def name_of(dataset: Any, sample: int) -> str:
    """Return the file name of an image for a page; the row of a table without files."""
    files = dataset.files()
    if len(files) < len(dataset):
        return f"row {sample}"
    return printable(os.fsdecode(files[sample]))


def data_blocks(data: Any) -> list[Block]:
    """Return what the sets of a data module hold.

    Args:
        data: Data module of one of the three tasks whose sets are created.
    """
    sets, kept = sets_of(data), kept_classes(data)
    names = [data.class_names[each] for each in kept]
    boxed = {title: each for title, each in sets.items() if isinstance(each, BoxedImages)}
    if boxed:
        return [*box_blocks(boxed, names)]
    looks = {title: look(each, len(names)) for title, each in sets.items()}
    sizes = {title: sizes for title, (sizes, _) in looks.items() if len(sizes)}
    if all(isinstance(each, ImageDataset) for each in sets.values()):
        every = len(data.class_names)
        counts = {title: each.class_counts(every)[kept] for title, each in sets.items()}
        return [class_block(names, counts, "images"), *size_block(sizes, READ)]
    pixels = {title: counts for title, (_, counts) in looks.items()}
    return [class_block(names, pixels, "pixels", READ), *size_block(sizes, READ)]


def look(dataset: Any, classes: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Read some images, evenly spread over a set.

    Returns:
        Heights and widths `(n, 2)`, and the number of pixels per class `(classes,)`, which are 0 if
        the set has no masks.
    """
    sizes, pixels = [], np.zeros(classes, np.int64)
    for sample in evenly_spread(len(dataset), READ):
        try:
            if isinstance(dataset, MaskedImages):
                view = dataset.read(sample)
                image = view.image
                pixels += np.bincount(view.mask.ravel(), minlength=256)[:classes]
            else:
                image = dataset.original(sample)
        except DataError:  # data.on_error=skip
            continue
        sizes.append(image.shape[:2])
    return np.array(sizes, np.int64).reshape(-1, 2), pixels


def class_block(names: list[str], counts: Counts, unit: str, read: int | None = None) -> Block:
    """Return how many samples every class has in every set.

    Args:
        names: Names of the classes.
        counts: Counts by the title of the set, `(K,)` each.
        unit: Counted things, in plural.
        read: Number of images that were counted at most; None: all.
    """
    shares = {title: 100 * each / max(1, each.sum()) for title, each in counts.items()}
    order = np.argsort(-next(iter(counts.values())), kind="stable").tolist()
    half = MOST_CLASSES // 2
    shown = order if len(order) <= MOST_CLASSES else [*order[:half], *order[-half:]]
    which = "" if shown is order else f" (the {half} largest and smallest of {len(order):,})"
    figure = bars(
        f"{unit.capitalize()} per class, %",
        [names[each] for each in shown],
        {title: each[shown] for title, each in shares.items()},
        f"share of the set's {unit}, %",
        "{:.1f}",
    )
    totals = "; ".join(f"{int(each.sum()):,} {unit} ({title})" for title, each in counts.items())
    counted = f", counted in up to {read} images of each set" if read else ""
    headings = ["class", *(f"{unit}, {title}" for title in counts)]
    rows = [[names[n], *(f"{each[n]:,}" for each in counts.values())] for n in order]
    alt = f"Bars: share of each class{which}; the table has the numbers."
    drawing = Drawing("data_classes", figure, alt)
    return Block("Classes", f"{totals}{counted}{which}.", [drawing], Table(headings, rows))


def size_block(sizes: Mapping[str, npt.NDArray[np.int64]], read: int | None) -> Iterator[Block]:
    """Yield how large the images are.

    Args:
        sizes: Heights and widths `(n, 2)` by the title of the set.
        read: Number of images of each set that were read at most; None: all.
    """
    if not sizes:
        return
    every = np.concatenate(list(sizes.values()))
    of = f"{read} images of each set, evenly spread" if read else "all images"
    (low_h, low_w), (high_h, high_w) = every.min(axis=0).tolist(), every.max(axis=0).tolist()
    if (low_h, low_w) == (high_h, high_w):
        yield Block("Image sizes", f"All have {low_w}x{low_h} pixels ({of}).")
        return
    sides = {title: np.sqrt(each.prod(axis=1)) for title, each in sizes.items()}
    aspects = {title: each[:, 1] / each[:, 0] for title, each in sizes.items()}
    drawings = [
        Drawing(f"data_{key}", figure, f"Histogram of the {words} of the images by set.")
        for key, figure, words in (
            (
                "image_sides",
                histograms("Image size", sides, "square root of the area, pixels", True),
                "size",
            ),
            (
                "image_aspects",
                histograms("Aspect ratio", aspects, "width / height", True),
                "aspect ratio",
            ),
        )
    ]
    text = f"From {low_w} to {high_w} pixels wide, {low_h} to {high_h} pixels high ({of})."
    yield Block("Image sizes", text, drawings)


def box_blocks(sets: Mapping[str, BoxedImages], names: list[str]) -> Iterator[Block]:
    """Yield what the boxes of detection data are like: count, size, place, aspect ratio."""
    counts, per_image, sides, aspects, sizes, places = {}, {}, {}, {}, {}, []
    for title, each in sets.items():
        known, rows = each.annotations, np.flatnonzero(each.is_object)
        owners = np.searchsorted(known.starts, rows, side="right") - 1
        edges = known.sizes[owners, ::-1]
        boxes = each.boxes[rows]
        lengths = boxes[:, 2:] - boxes[:, :2]
        counts[title] = np.bincount(known.labels[rows], minlength=len(names))[1:]
        per_image[title] = np.bincount(owners, minlength=len(known))[each.images].astype(float)
        sides[title] = np.sqrt((lengths / edges).prod(axis=1))
        aspects[title] = lengths[:, 0] / lengths[:, 1]
        sizes[title] = known.sizes[each.images]
        places.append((boxes[:, :2] + lengths / 2) / edges)
    yield class_block(names[1:], counts, "boxes")
    centers = np.concatenate(places)
    if len(centers):
        drawings = [
            Drawing(
                "data_boxes_per_image",
                histograms("Boxes per image", per_image, "boxes"),
                "Histogram of the number of boxes per image by set.",
            ),
            Drawing(
                "data_box_sizes",
                histograms("Box size", sides, "square root of the share of the image", True),
                "Histogram of the size of the boxes relative to their image by set.",
            ),
            Drawing(
                "data_box_aspects",
                histograms("Box aspect ratio", aspects, "width / height", True),
                "Histogram of the aspect ratio of the boxes by set.",
            ),
            Drawing(
                "data_box_places",
                density(
                    "Box centers", centers[:, 0], centers[:, 1], "left to right", "top to bottom"
                ),
                "Map of the image: how often the center of a box is at each place.",
            ),
        ]
        yield Block("Boxes", "Of the objects to be detected, without crowds.", drawings)
    yield from size_block(sizes, None)
