"""The sets of a data module, as an examination reads them: paths, labels, annotations, masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.base import TaskData
from parcnet_train.data.channels import RGB
from parcnet_train.data.classification.dataset import ImageDataset
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, printable

TITLES = {"train": "training", "val": "validation", "test": "test"}


@dataclass
class ImageSet:
    """One set of images.

    Attributes:
        split: `train`, or the split that is evaluated: `val` or `test`.
        folder: Folder to which `names` are relative.
        source: List, annotation file or folder that the set comes from.
        names: Names of the images, `(n,)` bytes; those of a table without files are row numbers.
        dataset: Data set, which reads an image by `original`; None if it cannot be created.
        labels: Class index of every image, `(n,)`; None for other tasks than classification.
        annotations: All boxes; None for other tasks than detection.
        masks: Names of the masks, relative to the folder; None for other tasks than segmentation.
        has_files: Whether each image is a file.
        channels: Number of channels of the images.
    """

    split: str
    folder: AnyPath
    source: AnyPath
    names: npt.NDArray[np.bytes_]
    dataset: Any
    labels: npt.NDArray[np.int64] | None = None
    annotations: CocoAnnotations | None = None
    masks: npt.NDArray[np.bytes_] | None = None
    has_files: bool = True
    channels: int = RGB

    def __len__(self) -> int:
        return len(self.names)

    @property
    def title(self) -> str:
        """Name of the set in a report."""
        return TITLES[self.split]

    def name(self, place: int) -> str:
        """Return the name of an image for a report."""
        return printable(os.fsdecode(self.names[place]))

    def path(self, place: int) -> AnyPath:
        """Return the path of an image."""
        return self.folder / os.fsdecode(self.names[place])

    def mask_path(self, place: int) -> AnyPath:
        """Return the path of a mask."""
        assert self.masks is not None
        return self.folder / os.fsdecode(self.masks[place])

    @cached_property
    def paths(self) -> list[AnyPath]:
        """Paths of all images."""
        return [self.path(place) for place in range(len(self))]


def sets_of(data: TaskData) -> tuple[list[ImageSet], list[DataError]]:
    """Return the sets of a data module that can be read, and the errors of those that cannot.

    Args:
        data: Data module, whose files need not be faultless.
    """
    found, errors = [], []
    for split in ("train", data.split):
        try:
            found.append(set_of(data, split))
        except DataError as error:
            errors.append(error)
    return found, errors


def set_of(data: TaskData, split: str) -> ImageSet:
    """Return one set of a data module.

    Raises:
        DataError: If it cannot be created.
    """
    if isinstance(data, CocoData):
        return boxed_set(data, split)
    dataset: Any = data.make_train_set() if split == "train" else data.make_val_set()
    if isinstance(data, VocData):
        source = data.train_list if split == "train" else data.evaluated_list
        return ImageSet(
            split,
            dataset.root,
            source,
            dataset.images,
            dataset,
            masks=dataset.masks,
            channels=data.channels,
        )
    labels = dataset.labels if isinstance(dataset, ImageDataset) else None
    folder = getattr(dataset, "folder", data.root)
    if hasattr(dataset, "path") and len(dataset.files()) == len(dataset):
        return ImageSet(
            split, folder, folder, dataset.files(), dataset, labels, channels=data.channels
        )
    rows = np.array([b"row %d" % row for row in range(len(dataset))])
    return ImageSet(
        split, folder, folder, rows, dataset, labels, has_files=False, channels=data.channels
    )


def boxed_set(data: CocoData, split: str) -> ImageSet:
    """Return one set of a COCO data set: all its images, also those without boxes.

    Raises:
        DataError: If its annotations cannot be read.
    """
    is_training = split == "train"
    file = data.train_annotations if is_training else data.evaluated_annotations
    folder = data.train_images if is_training else data.evaluated_images
    annotations = data.read_training() if is_training else data.read(file)
    try:
        dataset = data.make_train_set() if is_training else data.make_val_set()
    except DataError:  # `check_files` reports it
        dataset = None
    return ImageSet(
        split,
        folder,
        file,
        annotations.files,
        dataset,
        annotations=annotations,
        channels=data.channels,
    )
