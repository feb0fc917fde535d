"""Checks of a COCO data set before a training: images exist, and there are objects to learn."""

from __future__ import annotations

import logging
import os

import numpy as np

from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.dataset import BoxedImages
from parcnet_train.data.file_checks import SHOWN
from parcnet_train.data.near_files import hint, names_in
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, shortened

log = logging.getLogger(__name__)


def check_images(annotations: CocoAnnotations, folder: AnyPath) -> None:
    """Check that all annotated images exist in their folder.

    Raises:
        DataError: If an image is missing.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.root: {folder} does not exist{hint(folder.parent, folder.name)}; expected a "
            "folder of images. Fix: set data.root, data.train_images, data.val_images or "
            "data.test_images"
        )
    # Each folder is listed once: a query per file would take minutes on a network drive.
    listed: dict[str, set[str]] = {}
    absent = []
    for file in map(os.fsdecode, annotations.files.tolist()):
        parent, name = os.path.split(file)
        if parent not in listed:
            listed[parent] = names_in(folder / parent)
        if name not in listed[parent]:
            absent.append(file)
    if absent:
        raise DataError(
            f"{shortened(folder / absent[0])} does not exist{hint(folder, absent[0])}; "
            f"{len(absent):,} of {len(annotations):,} images in the annotations are missing. "
            "Fix: fetch them, set data.root, or remove them from the annotations"
        )


def warn_of_nothing_to_find(annotations: CocoAnnotations, file: AnyPath) -> None:
    """Warn about a validation set without objects, for which no metric is defined.

    Args:
        annotations: Annotations of the data set.
        file: File of the annotations.
    """
    if annotations.is_crowd.all():
        log.warning(
            "%s has no object to detect in its %s images (crowds: %s); the metrics will be null",
            file,
            f"{len(annotations):,}",
            f"{len(annotations.boxes):,}",
        )


def warn_of_untrained(train_set: BoxedImages, file: AnyPath) -> None:
    """Warn about classes that have no box in the training set.

    Args:
        train_set: Training set.
        file: File of its annotations.
    """
    class_names = train_set.annotations.class_names
    labels = train_set.annotations.labels[train_set.is_object]
    counts = np.bincount(labels, minlength=len(class_names))[1:]
    names = [name for name, count in zip(class_names[1:], counts, strict=True) if not count]
    if names:
        log.warning(
            "%s: %s of its %s categories have no boxes to learn from, but remain classes: %s",
            file,
            f"{len(names):,}",
            f"{len(counts):,}",
            ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else ""),
        )
