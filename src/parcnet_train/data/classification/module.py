"""Data module for images in one folder per class: ImageNet's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, Unpack

from parcnet_train.bounds import Count, Pixels
from parcnet_train.data.base import SharedArguments, TaskData
from parcnet_train.data.classification.dataset import ImageDataset, ImageFolderDataset, collate
from parcnet_train.data.classification.evaluated import evaluated_labels
from parcnet_train.data.classification.transforms import Augmentation, EvalTransform, TrainTransform
from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import Listed, warn_of_repeats, warn_of_shared
from parcnet_train.data.folders import class_folders, labels_of, list_images, warn_of_left_out
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError


class ImageFolderData(TaskData):
    """Training, validation and test images in one folder per class.

    Args:
        root: Folder that contains `train_dir`, `val_dir` and, if there is a test set, `test_dir`,
            each with one folder of images per class.
        train_dir: Name of the folder of the training set.
        val_dir: Name of the folder of the validation set.
        test_dir: Name of the folder of the test set.
        num_classes: Expected number of classes; None: as many as the data set has.
        image_size: Height and width of the network's input in pixels; a single number for a square.
        batch_size: Images per step and device, in training and in evaluation.
        augmentation: Augmentation of the training images.
        sampler: Order of the training images: `balanced`: every class comes equally often; None:
            every image once per epoch.
        **shared: Arguments of `TaskData`.

    Raises:
        DataError: If folders are missing or invalid; raised by `class_names` and `setup`.
    """

    task: ClassVar[str] = "classification"
    collate = staticmethod(collate)

    def __init__(
        self,
        root: str,
        image_size: Pixels,
        batch_size: Count,
        augmentation: Augmentation,
        train_dir: str = "train",
        val_dir: str = "val",
        test_dir: str = "test",
        num_classes: Count | None = None,
        sampler: Literal["balanced"] | None = None,
        **shared: Unpack[SharedArguments],
    ) -> None:
        super().__init__(
            root, image_size, batch_size, repeats=augmentation.repeats, sampler=sampler, **shared
        )
        self.train_folder = self.within(train_dir)
        self.val_folder = self.within(val_dir)
        self.test_folder = self.within(test_dir)
        self.evaluated_folder = self.test_folder if self.split == "test" else self.val_folder
        self.expected_classes = num_classes
        self.augmentation = augmentation
        self.evaluated_labels: Mapping[str, int | None] | None = None

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their indices."""
        names = self.find_classes()
        if self.expected_classes not in (None, len(names)):
            raise DataError(
                f"data.num_classes={self.expected_classes}: {self.root} has {len(names)} classes; "
                f"expected the same number. Fix: set data.num_classes={len(names)}, or "
                "data.num_classes=null to count them"
            )
        if len(names) < 2:
            raise DataError(f"data.root: {self.root} has only one class; expected two or more")
        return names

    def find_classes(self) -> list[str]:
        """Return the class names of the data set."""
        # An evaluation needs no training set.
        folders = (self.train_folder, self.val_folder, self.evaluated_folder)
        existing = (folder for folder in folders if folder.is_dir())
        return class_folders(next(existing, self.train_folder))

    def evaluate_classes(self, wanted: str | Sequence[str], class_names: Sequence[str]) -> None:
        """Evaluate a network on some of its classes, or on class folders with other names.

        Args:
            wanted: Value of `task.evaluated_classes`.
            class_names: Names of the network's classes, which become those of this module.

        Raises:
            DataError: If a class or a class folder does not exist.
        """
        self.class_names = list(class_names)
        self.evaluated_labels = evaluated_labels(wanted, class_names, self.evaluated_folder)
        labels = set(self.evaluated_labels.values())
        self.evaluated_classes = sorted(label for label in labels if label is not None)

    def labels_in(self, folder: AnyPath) -> Mapping[str, int | None]:
        """Return the class index of every class folder of a set; None: it is not evaluated."""
        if self.evaluated_labels is not None and folder == self.evaluated_folder:
            return self.evaluated_labels
        return labels_of(self.class_names)

    def check_files(self, action: str) -> None:
        """List the images of an action; warn about repeated images and files that are left out.

        Args:
            action: Action to check for. `benchmark` needs only the training set, `fit` both sets,
                all others only the set of `split`.

        Raises:
            DataError: If a class folder is missing, contains no image, or is not a class of the
                training set.
        """
        training = [self.train_folder] if action in ("fit", "benchmark") else []
        evaluated = [self.evaluated_folder] if action != "benchmark" else []
        listed = []
        for folder in [*training, *evaluated]:
            images = list_images(folder, self.labels_in(folder))
            warn_of_left_out(folder, images.left_out)
            listed.append(Listed(folder, folder, images.paths))
        for each in listed:
            warn_of_repeats(each)
        if action == "fit":
            warn_of_shared(*listed)

    def make_train_set(self) -> ImageDataset:
        """Create the training set; lists its images."""
        transform = TrainTransform(self.augmentation, self.seed)
        return self.make_set(self.train_folder, transform)

    def make_val_set(self) -> ImageDataset:
        """Create the evaluated set; lists its images."""
        return self.make_set(self.evaluated_folder, EvalTransform())

    def make_set(
        self, folder: AnyPath, transform: Callable[[Image, SampleKey], Image]
    ) -> ImageDataset:
        """Create the data set of a folder; lists its images."""
        return ImageFolderDataset(
            folder, self.labels_in(folder), transform, self.on_error, self.max_pixels, self.channels
        )
