"""A local copy of a data set of Hugging Face, read with `datasets`, an optional dependency."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

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
from parcnet_train.data.samplers import MultiScale, SampleKey
from parcnet_train.errors import DataError, UnreadableError

log = logging.getLogger(__name__)


class HuggingFaceDataset(ImageDataset):
    """Images in the rows of a table.

    Args:
        rows: a `datasets.Dataset`, its images as the bytes of their files.
        image_column: of the images.
        label_column: of the class indices.
        transform: maps an image to one of the size of its key.
        on_error: `stop` raises for an unreadable image, `skip` leaves it out.
        folder: where the rows come from, for messages.
        max_pixels: Most pixels of an image; one that declares more is unreadable.

    Raises:
        DataError: where a row has no class.
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
    ) -> None:
        labels = np.asarray(rows.with_format("numpy")[label_column][:])
        if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise DataError(
                f"data.root: {folder} has rows without a class, as sets for tests have; name "
                "another split: data.train_dir, data.val_dir"
            )
        super().__init__(labels, transform, on_error)
        self.rows = rows.select_columns([image_column])
        self.image_column = image_column
        self.folder = folder
        self.max_pixels = max_pixels

    def look(self, sample: int) -> Image:
        """Decodes the bytes of a row, or the file that it names.

        Raises:
            UnreadableError: where it cannot be read.
        """
        place = f"{self.folder} row {sample}"
        file = self.rows[sample][self.image_column]
        if file is None:
            raise unreadable(place, "it is empty")
        if not file["bytes"]:
            return read_image(Path(file["path"] or ""), self.max_pixels)
        try:
            return decode(file["bytes"], self.max_pixels)
        except UnreadableError as error:
            raise unreadable(place, error) from error

    def files(self) -> npt.NDArray[np.bytes_]:
        """Names of the files of the table; the images in them have none."""
        return np.array([os.fsencode(name) for name in files_of_rows(self.folder)])


class HuggingFaceData(ImageFolderData):
    """Training and validation images in a data set of Hugging Face that lies on this machine.

    `root` is what `DatasetDict.save_to_disk` wrote, with a folder per split, or a folder of Parquet
    files as the hub has them: `SPLIT-*.parquet`, `data/SPLIT-*.parquet` or `SPLIT/*.parquet`.
    `datasets` writes those into its own cache once, as tables that rows can be picked from. Nothing
    is asked from the network. Classes are those of the label column's `ClassLabel`.

    Args:
        root: the folder.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        augmentation: of the training images.
        train_dir: split of the training set.
        val_dir: split of the validation set.
        image_column: name of the column of the images.
        label_column: name of the column of the class indices.
        num_classes: expected number of classes; None takes what is there.
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        on_error: `stop` at an unreadable image, or `skip` and count it.
        max_pixels: Most pixels of an image; one that declares more is unreadable.

    Raises:
        ConfigError: where `datasets` is not installed.
        DataError: where splits, columns or classes are not as they should be.
    """

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        augmentation: Augmentation,
        train_dir: str = "train",
        val_dir: str = "validation",
        image_column: str = "image",
        label_column: str = "label",
        num_classes: int | None = None,
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: int = 8,
        on_error: Literal["stop", "skip"] = "stop",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(
            root,
            image_size,
            batch_size,
            augmentation,
            train_dir,
            val_dir,
            num_classes,
            multi_scale,
            seed,
            num_workers,
            on_error,
            max_pixels,
        )
        self.image_column = image_column
        self.label_column = label_column

    def find_classes(self) -> list[str]:
        """Names of the label column's classes."""
        # A validation set alone can be evaluated.
        has_train = is_there(self.train_folder) or not is_there(self.val_folder)
        return self.split_classes(self.train_folder if has_train else self.val_folder)

    def check_files(self, action: str) -> None:
        """Looks whether the splits of an action are there; opens no image.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where one is missing, or its classes are not those of the training set.
        """
        training = [self.train_folder] if action in ("fit", "benchmark") else []
        validation = [self.val_folder] if action != "benchmark" else []
        for folder in [*training, *validation]:
            if self.split_classes(folder) != self.class_names:
                raise DataError(
                    f"data.root: {folder} has other classes than the training set, or has them in "
                    "another order"
                )
        if action == "fit":
            paths = [list(map(os.path.realpath, paths_of_rows(f))) for f in training + validation]
            shared = sorted(set(paths[0]) & set(paths[1]))
            if shared:
                log.warning(
                    "data.train_dir=%s and data.val_dir=%s have the same rows, those of %s: the "
                    "metrics will be those of images that were trained on",
                    self.train_folder.name,
                    self.val_folder.name,
                    shared[0],
                )

    def split_classes(self, folder: Path) -> list[str]:
        """Names of the classes of a split, read from what describes it.

        Raises:
            DataError: where its columns are not as they should be.
        """
        datasets = import_datasets()
        features = features_of(folder)
        for key in ("image_column", "label_column"):
            column = getattr(self, key)
            if column not in features:
                raise DataError(
                    f"data.{key}={column}: {folder} has no such column; allowed are "
                    f"{', '.join(features)}"
                )
        images, labels = features[self.image_column], features[self.label_column]
        if not isinstance(images, datasets.Image):
            raise DataError(
                f"data.image_column={self.image_column}: {folder} has {type(images).__name__} "
                "there; allowed is a column of images (datasets.Image)"
            )
        if not isinstance(labels, datasets.ClassLabel):
            raise DataError(
                f"data.label_column={self.label_column}: {folder} has {type(labels).__name__} "
                "there, which names no classes; allowed is a ClassLabel: class_encode_column makes "
                "one"
            )
        return list(labels.names)

    def make_set(
        self, folder: Path, transform: Callable[[Image, SampleKey], Image]
    ) -> HuggingFaceDataset:
        """Reads the labels of a split.

        Raises:
            DataError: where they are not those of its classes.
        """
        names = self.split_classes(folder)
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
        )
        if (largest := dataset.labels.max()) >= len(names):
            raise DataError(
                f"data.label_column={self.label_column}: {folder} has class {largest} there, and "
                f"names {len(names)}; copy the data set again"
            )
        return dataset
