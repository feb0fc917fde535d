"""Data module for a local Hugging Face data set; it needs the optional package `datasets`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from parcnet_train.bounds import Count, Pixels
from parcnet_train.data.base import SharedArguments, TaskData
from parcnet_train.data.channels import RGB
from parcnet_train.data.classification.dataset import ImageDataset
from parcnet_train.data.classification.huggingface_splits import (
    features_of,
    files_of_rows,
    import_datasets,
    is_there,
    paths_of_rows,
    rows_of,
)
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.data.decoding import Image, decode, read_image, unreadable
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.stores.paths import AnyPath, local_folder
from parcnet_train.errors import DataError, UnreadableError, shortened, unfit_name

log = logging.getLogger(__name__)


class HuggingFaceDataset(ImageDataset):
    """Images in the rows of a table.

    Args:
        rows: Table (`datasets.Dataset`) with the images as encoded bytes.
        image_column: Name of the column of images.
        label_column: Name of the column of class indices.
        transform: Function that maps an image to the size given in the sample key.
        on_error: Handling of an unreadable image: `stop` raises an error, `skip` leaves the image
            out.
        folder: Folder of the rows, for messages.
        max_pixels: Largest number of pixels of an image; one that declares more is unreadable.
        channels: Number of channels of the images, see `decode`.

    Raises:
        DataError: If a row has no class.
    """

    def __init__(
        self,
        rows: Any,
        image_column: str,
        label_column: str,
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
        folder: Path,
        max_pixels: int = MAX_PIXELS,
        channels: int = RGB,
    ) -> None:
        labels = np.asarray(rows.with_format("numpy")[label_column][:])
        if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise DataError(
                f"data.root: {folder} has rows without a class, as test sets often do; expected a "
                "class in every row. Fix: choose another split with data.train_dir, data.val_dir "
                "or data.test_dir"
            )
        super().__init__(labels, transform, on_error, channels)
        self.rows = rows.select_columns([image_column])
        self.image_column = image_column
        self.folder = folder
        self.max_pixels = max_pixels

    def look(self, sample: int) -> Image:
        """Decode the image of a row, given as bytes or as the path of a file.

        Raises:
            UnreadableError: If it cannot be read.
        """
        place = f"{self.folder} row {sample}"
        file = self.rows[sample][self.image_column]
        if file is None:
            raise unreadable(place, "it is empty")
        if not file["bytes"]:
            return read_image(Path(file["path"] or ""), self.max_pixels, self.channels)
        try:
            return decode(file["bytes"], self.max_pixels, self.channels)
        except UnreadableError as error:
            raise unreadable(place, error) from error

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the names of the table's files; the images in them have no names."""
        return np.array([os.fsencode(name) for name in files_of_rows(self.folder)])


class HuggingFaceData(ImageFolderData):
    """Training and validation images of a Hugging Face data set stored on this machine.

    `root` is either the output of `DatasetDict.save_to_disk`, with one folder per split, or a
    folder of Parquet files as on the hub: `SPLIT-*.parquet`, `data/SPLIT-*.parquet` or
    `SPLIT/*.parquet`. On first use, `datasets` converts Parquet files into tables with random
    access in its own cache. The network is never used. The classes are those of the label column's
    `ClassLabel`.

    Args:
        root: Folder of the data set.
        image_size: Height and width of the network's input in pixels; a single number for a square.
        batch_size: Images per step and device, in training and in evaluation.
        augmentation: Augmentation of the training images.
        train_dir: Name of the training split.
        val_dir: Name of the validation split.
        test_dir: Name of the test split.
        image_column: Name of the column of images.
        label_column: Name of the column of class indices.
        num_classes: Expected number of classes; None: as many as the data set has.
        sampler: Order of the training images: `balanced`: every class comes equally often; None:
            every image once per epoch.
        **shared: Arguments of `TaskData`.

    Raises:
        ConfigError: If `datasets` is not installed.
        DataError: If splits, columns or classes are missing or invalid.
    """

    def __init__(
        self,
        root: str,
        image_size: Pixels,
        batch_size: Count,
        augmentation: Augmentation,
        train_dir: str = "train",
        val_dir: str = "validation",
        test_dir: str = "test",
        image_column: str = "image",
        label_column: str = "label",
        num_classes: Count | None = None,
        sampler: Literal["balanced"] | None = None,
        **shared: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            root,
            image_size,
            batch_size,
            augmentation,
            train_dir,
            val_dir,
            test_dir,
            num_classes,
            sampler,
            **shared,
        )
        self.image_column = image_column
        self.label_column = label_column

    def local(self, folder: AnyPath) -> Path:
        """Return the folder of a split; raises `DataError` if it is not one of this machine."""
        return local_folder(folder, type(self).__name__)

    evaluate_classes = TaskData.evaluate_classes  # the classes are in a column, not in folders

    def find_classes(self) -> list[str]:
        """Return the class names of the label column."""
        # An evaluation needs no training set.
        folders = (self.train_folder, self.val_folder, self.evaluated_folder)
        found = (f for f in folders if is_there(self.local(f)))
        return self.split_classes(next(found, self.train_folder))

    def check_files(self, action: str) -> None:
        """Check that the splits of an action exist, without opening an image.

        Args:
            action: Action to check for. `benchmark` needs only the training set, `fit` both sets,
                all others only the set of `split`.

        Raises:
            DataError: If a split is missing, or its classes differ from those of the training set.
        """
        training = [self.train_folder] if action in ("fit", "benchmark") else []
        evaluated = [self.evaluated_folder] if action != "benchmark" else []
        for folder in [*training, *evaluated]:
            if self.split_classes(folder) != self.class_names:
                raise DataError(
                    f"data.root: {folder} does not have the classes of the training set; expected "
                    "the same classes in the same order"
                )
        if action == "fit":
            paths = [
                list(map(os.path.realpath, paths_of_rows(self.local(f))))
                for f in training + evaluated
            ]
            shared = sorted(set(paths[0]) & set(paths[1]))
            if shared:
                log.warning(
                    "data.train_dir=%s and data.%s_dir=%s contain the same rows, from the file "
                    "%s; the metrics will include images that were used for training",
                    self.train_folder.name,
                    self.split,
                    self.evaluated_folder.name,
                    shared[0],
                )

    def split_classes(self, folder: AnyPath) -> list[str]:
        """Read the class names of a split from its metadata.

        Raises:
            DataError: If a column is missing or has the wrong type.
        """
        datasets = import_datasets()
        features = features_of(self.local(folder))
        for key in ("image_column", "label_column"):
            column = getattr(self, key)
            if column not in features:
                raise DataError(
                    f"data.{key}={column}: {folder} has no such column; expected "
                    f"one of {', '.join(features)}"
                )
        images, labels = features[self.image_column], features[self.label_column]
        if not isinstance(images, datasets.Image):
            raise DataError(
                f"data.image_column={self.image_column}: this column of {folder} has the type "
                f"{type(images).__name__}; expected images (datasets.Image)"
            )
        if not isinstance(labels, datasets.ClassLabel):
            raise DataError(
                f"data.label_column={self.label_column}: this column of {folder} has the type "
                f"{type(labels).__name__}, which has no class names; expected a ClassLabel. Fix: "
                "create one with class_encode_column"
            )
        names = list(labels.names)
        for name in names:
            reason = "is not a text" if not isinstance(name, str) else unfit_name(name)
            if reason is not None:
                raise DataError(
                    f"data.label_column={self.label_column}: a class name of {folder} {reason} "
                    f"({shortened(repr(name))}); expected printable text. Fix: rename the class"
                )
        return names

    def make_set(
        self, folder: AnyPath, transform: Callable[[Image, SampleKey], Image]
    ) -> HuggingFaceDataset:
        """Create the data set of a split; reads the labels only.

        Raises:
            DataError: If a label is not one of the classes.
        """
        names = self.split_classes(folder)
        folder = self.local(folder)
        rows = rows_of(folder, [self.image_column, self.label_column])
        rows = rows.cast_column(self.image_column, import_datasets().Image(decode=False))
        dataset = HuggingFaceDataset(
            rows,
            self.image_column,
            self.label_column,
            transform,
            self.on_error,
            folder,
            self.max_pixels,
            self.channels,
        )
        if (largest := dataset.labels.max()) >= len(names):
            raise DataError(
                f"data.label_column={self.label_column}: this column of {folder} contains the "
                f"class index {largest}, but has names of only {len(names)} classes. Fix: copy the "
                "data set again"
            )
        return dataset
