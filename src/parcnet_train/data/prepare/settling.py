"""A consistent set from what a reader returns: sizes, pixels, classes, boxes within images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from parcnet_train.data.batches import BACKGROUND_NAME, IGNORED
from parcnet_train.data.prepare.annotated import (
    BACKGROUNDS,
    IGNORE,
    SPECIAL,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    Palette,
    Task,
)
from parcnet_train.data.prepare.faults import Faults
from parcnet_train.data.prepare.files import (
    Measured,
    in_parallel,
    measure,
    read_content,
    read_embedded,
)
from parcnet_train.data.prepare.shapes import TURNS, clipped, compressed, scaled, turned
from parcnet_train.errors import DataError, first_line, reason_of
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

Crowds = Literal["crowd", "object"]


def content_of(image: AnnotatedImage) -> bytes:
    """Return the content of an image file, which its annotation file may contain.

    Raises:
        DataError: If it cannot be read.
    """
    if image.file is not None:
        return read_content(image.file)
    assert image.annotation is not None
    return read_embedded(image.annotation)


def set_apart_special(found: AnnotatedSet, task: Task, where: str) -> None:
    """Remove the names of the background and of ignored regions from the classes.

    Drawn into masks, they remain. Boxes cannot stand for them, so these are left out.

    Args:
        found: Set without masks, which is changed.
        task: Task that it is for, `detection` or `segmentation`.
        where: Beginning of messages, `prepare.input=PATH`.

    Raises:
        DataError: If no object has another class.
    """
    found.classes = [name for name in found.classes if name not in SPECIAL]
    names = {shape.name for image in found.images for shape in image.objects}
    if not names.intersection(found.classes):
        raise DataError(
            f"{where}: no object has a class beside the background and {IGNORE}; expected at "
            "least one. Fix: annotate objects of a class"
        )
    notes = Faults(where)
    for image in found.images:
        if task == "segmentation":
            image.objects = [renamed(shape) for shape in image.objects]
            continue
        for shape in image.objects:
            if shape.name in SPECIAL:
                notes.add(
                    f"objects with the label {shape.name!r} are left out",
                    "expected the names of classes (prepare.task=detection)",
                    image.name,
                )
        image.objects = [shape for shape in image.objects if shape.name not in SPECIAL]
    notes.warn()


def renamed(shape: AnnotatedObject) -> AnnotatedObject:
    """Return an object as masks show it: background by its usual name, ignored regions as crowd."""
    if shape.name in BACKGROUNDS:
        return replace(shape, name=BACKGROUND_NAME)
    return replace(shape, is_crowd=True) if shape.name == IGNORE else shape


def settle(found: AnnotatedSet, where: str, crowds: Crowds) -> None:
    """Bring all coordinates into pixels of the images as shown, and clip the boxes.

    A size that an annotation file declares may be that of the stored image; its objects are then
    turned as the EXIF orientation says.

    Args:
        found: Set, which is changed.
        where: Beginning of messages, `prepare.input=PATH`.
        crowds: Treatment of objects that the source marks as difficult or crowd.

    Raises:
        DataError: If an image cannot be read, or has another size than declared.
    """
    faults, notes = Faults(where), Faults(where)
    sizes = in_parallel(lambda image: measure(content_of(image)), found.images, "measured")
    for image, measured in zip(found.images, sizes, strict=True):
        if isinstance(measured, DataError):
            faults.add(
                "images that cannot be read",
                "expected images that OpenCV decodes. Fix: repair or remove them",
                f"{image.name} ({reason_of(measured)})",
            )
            continue
        place(image, measured, faults)
        trim(image, crowds, notes)
    faults.refuse()
    notes.warn()
    objects = [each for image in found.images for each in image.objects]
    if objects and all(each.is_crowd for each in objects):
        raise DataError(
            f"{where}: all {len(objects):,} objects are marked as crowd or difficult, so there is "
            "nothing to learn; CVAT marks every mask drawn with its brush. Fix: "
            "prepare.crowds=object"
        )


def place(image: AnnotatedImage, measured: Measured, faults: Faults) -> None:
    """Give an image its size as shown, and its objects their place in it."""
    declared, image.size = image.size, measured.shown
    if image.is_relative:
        image.objects = [scaled(each, measured.shown) for each in image.objects]
        image.is_relative = False
        return
    if declared in (None, measured.shown):
        refuse_runs(image, measured.shown, faults)
        return
    if declared == measured.stored and measured.orientation in TURNS:
        turn = partial(turned, stored=measured.stored, orientation=measured.orientation)
        if refuse_runs(image, measured.stored, faults):
            image.objects = [turn(each) for each in image.objects]
        return
    height, width = measured.shown
    faults.add(
        "images whose size differs from that in their annotations",
        "expected the images that were annotated. Fix: fetch the originals, or correct the sizes",
        f"{image.name}: {width}x{height}, annotated {declared[1]}x{declared[0]}",
    )


def refuse_runs(image: AnnotatedImage, size: Size, faults: Faults) -> bool:
    """Report run lengths that are invalid or belong to an image of another size.

    Returns:
        Whether all of the image's are valid.
    """
    is_valid = True
    for shape in image.objects:
        if shape.runs is None:
            continue
        try:
            if tuple(shape.runs["size"]) != size:
                height, width = shape.runs["size"]
                raise ValueError(f"its mask has {width}x{height} pixels")
            compressed(shape.runs)
        except (ValueError, OverflowError, TypeError) as error:
            is_valid = False
            faults.add(
                "objects whose run lengths do not fit their image",
                "expected size [height, width] of the image, and counts that add up to its pixels",
                f"{image.name}: {shape.name} ({first_line(error)})",
            )
    return is_valid


def trim(image: AnnotatedImage, crowds: Crowds, notes: Faults) -> None:
    """Clip objects to their image, and leave out those of which nothing remains."""
    assert image.size is not None
    kept = []
    for shape in image.objects:
        inside = clipped(shape, image.size)
        if inside is None:
            notes.add(
                "objects without an area in their image are left out",
                "expected boxes within the image",
                f"{image.name}: {shape.name} {tuple(round(edge, 2) for edge in shape.box)}",
            )
            continue
        if shape.name == IGNORE:
            pass  # no class: there is nothing to train on
        elif shape.is_crowd and crowds == "object":
            inside = replace(inside, is_crowd=False)
        elif shape.is_crowd:
            notes.add(
                "objects marked as crowd or difficult stay so: they are not trained on",
                "prepare.crowds=object trains on them",
                f"{image.name}: {shape.name}",
            )
        kept.append(inside)
    image.objects = kept


def apply_classes(found: AnnotatedSet, given: Sequence[str] | None, faults: Faults) -> None:
    """Set the classes and their order to given ones.

    Args:
        found: Set, which is changed.
        given: Names of all classes in order; None: those of the source.
        faults: Collects classes that are not given.
    """
    if given is None:
        return
    if found.palette is not None:
        arrange(found, found.palette, given, faults)
        return
    for image in found.images:
        names = {each.name for each in image.objects} - {*SPECIAL} | {image.label} - {None}
        for name in names:
            if name not in given:
                faults.add(
                    f"images with the class {name!r}, which prepare.classes lacks",
                    f"expected one of {', '.join(given)}. Fix: add it to prepare.classes",
                    image.name,
                )
    found.classes = list(given)


def arrange(found: AnnotatedSet, palette: Palette, given: Sequence[str], faults: Faults) -> None:
    """Set the classes of a set with masks, whose pixels get the indices of the given order."""
    names = [
        BACKGROUND_NAME if name in BACKGROUNDS and name not in found.classes else name
        for name in given
        if name != IGNORE
    ]
    lacking = [name for name in found.classes if name not in names]
    for name in lacking:
        faults.add(
            "classes of the masks that prepare.classes lacks",
            f"expected all of {', '.join(found.classes)}, in any order. Fix: add it",
            name,
        )
    if not lacking:
        moved = {index: names.index(name) for index, name in enumerate(found.classes)}
        indices = {value: moved.get(index, IGNORED) for value, index in palette.indices.items()}
        found.classes, found.palette = names, replace(palette, indices=indices)


def read_classes(given: str | Sequence[str] | None, read: Sequence[str]) -> list[str] | None:
    """Return the names of `prepare.classes`: a list, or the lines of a file.

    Args:
        given: Names, or the path of a file with one name per line.
        read: Lines of that file.

    Raises:
        DataError: If a name occurs twice or there is none.
    """
    if given is None:
        return None
    names = list(read) if isinstance(given, str) else list(given)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        problem = f"the class {twice[0]!r} occurs twice" if twice else "there is no class"
        raise DataError(f"prepare.classes={given}: {problem}; expected different names")
    return names


def refuse_repeats(found: AnnotatedSet, faults: Faults) -> None:
    """Report image files that the source lists more than once."""
    first: dict[Path, AnnotatedImage] = {}
    for image in found.images:
        if image.file is None:
            continue
        known = first.setdefault(image.file, image)
        if known is not image:
            what = "twice" if known.split == image.split else "in several sets"
            faults.add(
                f"images that the source lists {what}",
                "expected each image once. Fix: correct its lists",
                image.name,
            )
