"""The whole examination of a data module: one pass over its files, then all findings."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parcnet_train.data.base import TaskData
from parcnet_train.data.channels import RGB
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.detection.dataset import BoxedImages
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.file_checks import look_at
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.stores.paths import AnyPath, absolute
from parcnet_train.doctor.anchors import Anchors, anchor_findings
from parcnet_train.doctor.boxes import box_findings
from parcnet_train.doctor.classes import Tally, category_findings, class_findings
from parcnet_train.doctor.duplicates import duplicate_findings
from parcnet_train.doctor.findings import Finding, refused, worst_first
from parcnet_train.doctor.images import Limits, Read, files_of, image_findings
from parcnet_train.doctor.masks import by_index, mask_findings, pixels_of
from parcnet_train.doctor.published import published_findings
from parcnet_train.doctor.reading.facts import Facts, facts_of_file, facts_of_pixels
from parcnet_train.doctor.reading.mask_facts import MaskFacts, facts_of_mask
from parcnet_train.doctor.reading.scan import FactsTable, Pace, cache_file, scan
from parcnet_train.doctor.sets import ImageSet, sets_of
from parcnet_train.errors import DataError, UnreadableError


@dataclass(frozen=True)
class Order:
    """What to examine.

    Attributes:
        decodes: Whether pixels are read; otherwise only headers.
        choice: Choice of `data`, whose published counts are compared; None: no published data.
        anchors: Settings of the anchors; None if the head has none.
        cache: Folder for the facts that a later check need not read again; None: nothing is kept.
    """

    decodes: bool = True
    choice: str | None = None
    anchors: Anchors | None = None
    cache: Path | None = None


@dataclass
class Examination:
    """Result of an examination.

    Attributes:
        findings: All findings, worst first.
        images: Number of images by split.
        boxes: Number of boxes by split; empty for other tasks than detection.
        files: Number of files that were read, masks included.
        seconds: Time of the whole examination.
        reading_seconds: Time of the pass over the files.
        known: Number of files whose facts an earlier check had kept.
        decodes: Whether pixels were read; otherwise only headers.
    """

    findings: list[Finding] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    files: int = 0
    seconds: float = 0.0
    reading_seconds: float = 0.0
    known: int = 0
    decodes: bool = True


def examine(data: TaskData, order: Order) -> Examination:
    """Examine all files of a data module.

    Args:
        data: Data module whose files are prepared; they may be faulty.
        order: Choice of the checks and their settings.
    """
    begun = time.monotonic()
    done = Examination(decodes=order.decodes)
    found = done.findings
    errors: list[DataError] = []
    try:
        data.check_files("fit")
    except DataError as error:
        errors.append(error)
    sets, others = sets_of(data)
    errors += others
    limits = Limits(data.image_size, data.max_pixels, data.on_error == "skip", data.task)
    started = time.monotonic()
    pace = Pace()
    reads = read_all(sets, data.max_pixels, order, pace)
    masks = read_masks(data, sets, order, pace)
    done.reading_seconds = time.monotonic() - started
    done.files, done.known = pace.files, pace.known
    for read in reads:
        done.images[read.images.split] = len(read.images)
        if read.images.annotations is not None:
            done.boxes[read.images.split] = len(read.images.annotations.boxes)
        found += image_findings(read, limits)
    if order.decodes:
        found += duplicate_findings(reads, limits)
    found += published_findings(sets, order.choice)
    if isinstance(data, CocoData):
        found += of_boxes(data, reads, limits, order)
    for read in reads:
        if read.images.split in masks:
            found += mask_findings(read, masks[read.images.split], data.class_names, limits)
    tally = tally_of(data, sets, masks)
    if tally is not None:
        found += class_findings(tally)
    # What a training refuses, but no finding has said in its own words.
    told = {line for finding in found for line in finding.lines}
    for problem in errors:
        lines = [line for line in str(problem).splitlines() if not is_told(line, told)]
        if lines:
            found.insert(0, refused(DataError("\n".join(lines))))
            told.update(lines)
    done.findings = worst_first(found)
    done.seconds = time.monotonic() - begun
    return done


def is_told(line: str, told: set[str]) -> bool:
    """Return whether a message is known already, or only counts others."""
    return line in told or (bool(told) and line.endswith("more files have faults"))


def read_all(sets: Sequence[ImageSet], max_pixels: int, order: Order, pace: Pace) -> list[Read]:
    """Read the facts about all images; a file that is in both sets is read once."""
    places: dict[AnyPath, list[tuple[FactsTable, int]]] = {}
    reads = [Read(images, FactsTable(len(images))) for images in sets]
    for images, facts in reads:
        if images.has_files:
            for place, path in enumerate(images.paths):
                places.setdefault(path, []).append((facts, place))
        elif order.decodes:
            for seen in look_at(images.dataset, range(len(images)), images.title):
                facts.put(seen.sample, facts_of_sample(seen.result, seen.error))
    paths = list(places)
    settings = {
        "max_pixels": max_pixels,
        "decodes": order.decodes,
        "channels": sets[0].channels if sets else RGB,
    }
    read = functools.partial(facts_of_file, **settings)  # type: ignore[arg-type]
    cache = order.cache and cache_file(order.cache, root_of(sets), settings)
    for number, values in scan(paths, read, cache, "images", pace):
        known = Facts(*values)
        for facts, place in places[paths[number]]:
            facts.put(place, known)
    return reads


def facts_of_sample(image: Any, error: DataError | None) -> Facts:
    """Return the facts about an image that is in no file of its own."""
    if isinstance(error, UnreadableError):
        return Facts("unreadable", str(error))
    return Facts() if error is not None else facts_of_pixels(image)


def root_of(sets: Sequence[ImageSet]) -> str:
    """Return the folders of some sets, which name their cache."""
    return ":".join(absolute(images.folder) for images in sets)


def read_masks(
    data: TaskData, sets: Sequence[ImageSet], order: Order, pace: Pace
) -> dict[str, list[MaskFacts]]:
    """Read the facts about all masks, by split; none if only headers are wanted."""
    masks: dict[str, list[MaskFacts]] = {}
    if not isinstance(data, VocData) or not order.decodes:
        return masks
    keep_aspect = data.evaluation == "keep_aspect"
    size = None if data.evaluation == "windows" else data.image_size
    settings = {"size": size, "keep_aspect": keep_aspect, "max_pixels": data.max_pixels}
    for images in sets:
        paths = [images.mask_path(place) for place in range(len(images))]
        read = functools.partial(facts_of_mask, **settings)  # type: ignore[arg-type]
        cache = order.cache and cache_file(order.cache, absolute(images.folder), settings)
        found: list[MaskFacts] = [MaskFacts()] * len(paths)
        for place, values in scan(paths, read, cache, f"{images.title} masks", pace):
            found[place] = MaskFacts(*values)
        masks[images.split] = found
    return masks


def of_boxes(
    data: CocoData, reads: Sequence[Read], limits: Limits, order: Order
) -> Iterator[Finding]:
    """Yield the findings about boxes, sizes, categories and anchors."""
    for read in reads:
        yield from other_sizes(read)
        yield from box_findings(read, limits, data.keep_aspect)
    if reads:
        yield from category_findings(read_annotations(reads[0].images.source))
        if order.anchors is not None:
            yield from anchor_findings(reads[0].images, order.anchors, data.keep_aspect)


def other_sizes(read: Read) -> Iterator[Finding]:
    """Yield images whose size differs from that in the annotations, which a training refuses."""
    images, facts = read
    assert images.annotations is not None
    sizes = np.stack([facts["height"], facts["width"]], axis=1)
    marks = (sizes != images.annotations.sizes).any(axis=1) & (sizes > 0).all(axis=1)
    if not marks.any() or not isinstance(images.dataset, BoxedImages):
        return
    lines = []
    for place in np.flatnonzero(marks).tolist():
        try:
            # Only the shape is compared; this array takes no memory.
            images.dataset.check_size(place, np.broadcast_to(np.uint8(0), (*sizes[place], 3)))
        except DataError as error:
            lines.append(str(error))
    yield Finding(
        "annotated-size",
        "error",
        "Images of another size than annotated",
        len(lines),
        "images",
        f"A training on the {images.title} set stops at the first one: {lines[0]}",
        "Correct the images or the annotations.",
        files_of(read, marks, lambda n: f"{sizes[n][1]}x{sizes[n][0]}"),
        lines=lines,
    )


def tally_of(
    data: TaskData, sets: Sequence[ImageSet], masks: Mapping[str, Sequence[MaskFacts]]
) -> Tally | None:
    """Count images, boxes or pixels per class; None if there is nothing to count."""
    try:
        names = list(data.class_names)
    except DataError:  # `check_files` has reported it
        return None
    counts = {}
    unit = "images"
    for images in sets:
        if images.labels is not None:
            counts[images.split] = np.bincount(images.labels, minlength=len(names))
        elif images.annotations is not None:
            known = images.annotations
            labels = known.labels[~known.is_crowd]
            unit = "boxes"
            counts[images.split] = np.bincount(labels, minlength=len(names))[1:]
        elif images.split in masks:
            unit = "pixels"
            indexed = [by_index(mask, images.dataset.values) for mask in masks[images.split]]
            counts[images.split] = pixels_of(indexed)[: len(names)]
    return Tally(names[1:] if unit == "boxes" else names, unit, counts) if counts else None
