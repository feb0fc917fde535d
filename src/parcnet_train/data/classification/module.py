"""Images in one folder per class: ImageNet's own layout, and anybody's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from parcnet_train.data.base import TaskData
from parcnet_train.data.classification.dataset import ImageDataset, ImageFolderDataset, collate
from parcnet_train.data.classification.transforms import Augmentation, EvalTransform, TrainTransform
from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import Listed, warn_of_repeats, warn_of_shared
from parcnet_train.data.folders import class_folders, list_images, warn_of_left_out
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.samplers import MultiScale, SampleKey
from parcnet_train.errors import DataError


class ImageFolderData(TaskData):
    """Training and validation images in one folder per class.

    Args:
        root: holds `train_dir` and `val_dir`, each with one folder of images per class.
        train_dir: name of the training set's folder.
        val_dir: name of the validation set's folder.
        num_classes: expected number of classes; None takes what is there.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        augmentation: of the training images.
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        on_error: `stop` at an unreadable image, or `skip` and count it.
        max_pixels: Most pixels of an image; one that declares more is unreadable.

    Raises:
        DataError: from `class_names` and `setup`, where the folders are not as they should be.
    """

    task: ClassVar[str] = "classification"
    collate = staticmethod(collate)

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        augmentation: Augmentation,
        train_dir: str = "train",
        val_dir: str = "val",
        num_classes: int | None = None,
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: int = 8,
        on_error: Literal["stop", "skip"] = "stop",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(
            root, image_size, batch_size, multi_scale, seed, num_workers, augmentation.repeats
        )
        self.train_folder = self.within(train_dir)
        self.val_folder = self.within(val_dir)
        self.expected_classes = num_classes
        self.augmentation = augmentation
        self.on_error = on_error
        self.max_pixels = max_pixels

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their indices."""
        names = self.find_classes()
        if self.expected_classes not in (None, len(names)):
            raise DataError(
                f"data.num_classes={self.expected_classes}, but {self.root} has {len(names)} "
                "classes; data.num_classes=null counts them"
            )
        if len(names) < 2:
            raise DataError(f"data.root: {self.root} has one class, a classifier needs two or more")
        return names

    def find_classes(self) -> list[str]:
        """Names of the classes, as the data set has them."""
        # A validation set alone can be evaluated.
        has_train = self.train_folder.is_dir() or not self.val_folder.is_dir()
        return class_folders(self.train_folder if has_train else self.val_folder)

    def check_files(self, action: str) -> None:
        """Lists the images of an action as it does, and warns of repeats and of what is left out.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where a class folder is missing, holds no image, or is none of the training
                set.
        """
        training = [self.train_folder] if action in ("fit", "benchmark") else []
        validation = [self.val_folder] if action != "benchmark" else []
        listed = []
        for folder in [*training, *validation]:
            images = list_images(folder, self.class_names)
            warn_of_left_out(folder, images.left_out)
            listed.append(Listed(folder, folder, images.paths))
        for each in listed:
            warn_of_repeats(each)
        if action == "fit":
            warn_of_shared(*listed)

    def make_train_set(self) -> ImageDataset:
        """Lists the training images."""
        transform = TrainTransform(self.augmentation, self.seed)
        return self.make_set(self.train_folder, transform)

    def make_val_set(self) -> ImageDataset:
        """Lists the validation images."""
        return self.make_set(self.val_folder, EvalTransform())

    def make_set(
        self, folder: Path, transform: Callable[[Image, SampleKey], Image]
    ) -> ImageDataset:
        """Lists the images of a folder."""
        return ImageFolderDataset(
            folder, self.class_names, transform, self.on_error, self.max_pixels
        )
