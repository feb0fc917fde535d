"""Findings about the masks of a segmentation data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.data.segmentation.label_checks import (
    MaskValues,
    Tally,
    refuse_other_size,
    refuse_unknown_classes,
    without_class,
)
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.doctor.findings import Drawing, Finding, Severity, Table, share
from parcnet_train.doctor.images import Limits, Read
from parcnet_train.doctor.pictures import MOST, SIDE, draw, image_of
from parcnet_train.doctor.reading.facts import MISSING
from parcnet_train.doctor.reading.mask_facts import MaskFacts
from parcnet_train.doctor.sets import ImageSet
from parcnet_train.errors import DataError
from parcnet_train.visualize.class_maps import draw_classes

VOID = 0.5  # share of ignored pixels from which a mask teaches little
LOST = 0.02  # share of a class's objects that vanish at the input size


def mask_findings(
    read: Read, masks: Sequence[MaskFacts], class_names: Sequence[str], limits: Limits
) -> Iterator[Finding]:
    """Yield the findings about the masks of a set.

    Args:
        read: Set with the facts about its images.
        masks: Facts about the masks, in the order of the images.
        class_names: Names of the classes.
        limits: Settings of the data module.
    """
    values: MaskValues = read.images.dataset.values
    indexed = [by_index(mask, values) for mask in masks]
    for finding in (
        *defects(read, masks, values, class_names, limits),
        *of_one_class(read.images, indexed),
        *void(read.images, indexed, class_names, limits),
        *vanishing(read.images, indexed, class_names, limits),
    ):
        yield replace(finding, where=f"{read.images.title} set")


def by_index(mask: MaskFacts, values: MaskValues) -> MaskFacts:
    """Replace the values of a mask by class indices; stray values count as ignored."""
    counts: Counter[int] = Counter()
    for value, count in mask.counts:
        counts[int(values.indices[value])] += count
    lost = values.indices[mask.lost].tolist() if mask.lost else []
    return mask._replace(counts=sorted(counts.items()), lost=[n for n in lost if n != IGNORED])


def pixels_of(masks: Sequence[MaskFacts]) -> npt.NDArray[np.int64]:
    """Return the number of pixels of every class index in all masks, `(256,)`."""
    total = np.zeros(IGNORED + 1, np.int64)
    for mask in masks:
        for index, count in mask.counts:
            total[index] += count
    return total


def defects(
    read: Read,
    masks: Sequence[MaskFacts],
    values: MaskValues,
    class_names: Sequence[str],
    limits: Limits,
) -> Iterator[Finding]:
    """Yield masks that a training refuses: unreadable, with stray values, or of another size."""
    images = read.images
    broken = [place for place, mask in enumerate(masks) if mask.problem]
    for problem, title in (
        (MISSING, "Missing masks"),
        ("unreadable", "Masks that cannot be read"),
        ("not indices", "Masks that hold no class indices"),
    ):
        of_kind = [place for place in broken if masks[place].problem == problem]
        skips = problem != "not indices" and limits.may_skip
        yield from refusing(
            f"mask-{problem.replace(' ', '-')}",
            title,
            images,
            of_kind,
            [masks[place].reason for place in of_kind],
            "warning" if skips else "error",
        )
    stray, lines = [], []
    for place, mask in enumerate(masks):
        present = np.array([[value for value, _ in mask.counts]], np.uint8)
        if error := raised(refuse_unknown_classes, images.mask_path(place), present, values):
            stray.append(place)
            lines.append(error)
    pictures = pictures_of(images, stray, class_names, limits, "Mask with stray values")
    yield from refusing(
        "mask-values", "Masks with stray values", images, stray, lines, pictures=pictures
    )
    other, lines = [], []
    heights, widths = read.facts["height"], read.facts["width"]
    for place, mask in enumerate(masks):
        if mask.problem or not heights[place]:
            continue
        # Only shapes are compared; these arrays take no memory.
        image = np.broadcast_to(np.uint8(0), (heights[place], widths[place], 3))
        shape = np.broadcast_to(np.uint8(0), (mask.height, mask.width))
        path = images.path(place)
        if error := raised(refuse_other_size, path, image, images.mask_path(place), shape):
            other.append(place)
            lines.append(error)
    yield from refusing("mask-size", "Masks of another size than their image", images, other, lines)


def raised(check: object, *arguments: object) -> str | None:
    """Return the message of the error that a check raises; None without one."""
    try:
        check(*arguments)  # type: ignore[operator]
    except DataError as error:
        return str(error)
    return None


def refusing(
    kind: str,
    title: str,
    images: ImageSet,
    places: Sequence[int],
    lines: list[str],
    severity: Severity = "error",
    pictures: list[Drawing] | None = None,
) -> Iterator[Finding]:
    """Yield the finding about masks that a training refuses, if there are any."""
    if places:
        yield Finding(
            kind,
            severity,
            title,
            len(places),
            "masks",
            f"A training stops at the first one: {lines[0]}",
            "Correct or remove the masks, and their images with them.",
            [images.mask_path(place).name for place in places[:SHOWN]],
            pictures or [],
            lines=lines if severity == "error" else [],
        )


def of_one_class(images: ImageSet, masks: Sequence[MaskFacts]) -> Iterator[Finding]:
    """Yield the finding that all masks hold only 0 and 255."""
    tally = Tally(pixels_of(masks), sum(not mask.problem for mask in masks))
    with_void = (n for n, mask in enumerate(masks) if (IGNORED in dict(mask.counts)))
    first = next(with_void, None)
    tally.first = None if first is None else images.mask_path(first)
    lines = without_class(tally, images.source)
    if lines:
        yield Finding(
            "mask-one-class",
            "error",
            "Masks without any class but 0",
            tally.masks,
            "masks",
            lines[0],
            "See the message.",
            lines=lines,
        )


def void(
    images: ImageSet, masks: Sequence[MaskFacts], class_names: Sequence[str], limits: Limits
) -> Iterator[Finding]:
    """Yield masks that are mostly ignored."""
    shares = np.array(
        [dict(m.counts).get(IGNORED, 0) / max(1, m.height * m.width) for m in masks], np.float64
    )
    marked = np.flatnonzero(shares > VOID).tolist()
    if marked:
        mean = share(int(1000 * shares.sum()), 1000 * len(shares))
        yield Finding(
            "mask-void",
            "warning",
            "Masks that are mostly ignored",
            len(marked),
            "masks",
            f"More than {100 * VOID:.0f} % of the pixels of these masks "
            f"are ignored (255); of all masks, the mean is {mean}.",
            "Finish the masks, or leave the images out.",
            [f"{images.mask_path(n).name} ({100 * shares[n]:.0f} %)" for n in marked[:SHOWN]],
            pictures_of(images, marked, class_names, limits, "Mask that is mostly ignored"),
        )


def vanishing(
    images: ImageSet, masks: Sequence[MaskFacts], class_names: Sequence[str], limits: Limits
) -> Iterator[Finding]:
    """Yield thin objects that have no pixel left at the input size."""
    lost = np.zeros(IGNORED + 1, np.int64)
    places = []
    for place, mask in enumerate(masks):
        if mask.lost:
            places.append(place)
            lost += np.bincount(mask.lost, minlength=IGNORED + 1)
    if not places:
        return
    total = sum(mask.objects for mask in masks)
    rows = [
        (name_of(class_names, index), f"{lost[index]:,}") for index in np.argsort(-lost).tolist()
    ]
    yield Finding(
        "mask-thin",
        "warning" if lost.sum() >= LOST * total else "note",
        f"Objects that vanish at {limits.size[1]}x{limits.size[0]}",
        int(lost.sum()),
        "objects",
        f"{share(int(lost.sum()), total)} of the {total:,} objects of the {images.title} set have "
        "no pixel left when the mask is resized to the network's input.",
        "Train with a larger recipe.image_size, or with data.evaluation=windows on the original "
        "size, if these objects matter.",
        [
            f"{images.mask_path(n).name} ({len(masks[n].lost)} of {masks[n].objects})"
            for n in places[:SHOWN]
        ],
        table=Table(("class", "objects lost"), [row for row in rows if row[1] != "0"]),
    )


def name_of(class_names: Sequence[str], index: int) -> str:
    """Return the name of a class, or its index if it has none."""
    return class_names[index] if index < len(class_names) else str(index)


def pictures_of(
    images: ImageSet,
    places: Sequence[int],
    class_names: Sequence[str],
    limits: Limits,
    alt: str,
) -> list[Drawing]:
    """Draw the classes of the first masks over their images."""
    indices = images.dataset.values.indices.tolist()
    names = [
        str(value) if index == IGNORED else class_names[index]
        for value, index in enumerate(indices)
    ]
    shown = []
    for place in places[:MOST]:
        image = image_of(images, place, limits.max_pixels)
        try:
            mask = read_mask(images.mask_path(place), limits.max_pixels)
        except DataError:
            continue
        if image is not None:
            name = images.mask_path(place).name
            shown.append(draw(draw_classes(image, mask, names), name, f"{alt}: {name}", 2 * SIDE))
    return shown
