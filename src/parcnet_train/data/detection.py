"""Images with boxes in COCO's layout: COCO itself, and anybody's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

from parcnet_train.data.base import TaskData
from parcnet_train.data.boxed_images import BoxedImages, collate
from parcnet_train.data.coco import CocoAnnotations, read_annotations
from parcnet_train.data.detection_transforms import (
    DetectionAugmentation,
    DetectionEvalTransform,
    DetectionTrainTransform,
)
from parcnet_train.data.samplers import MultiScale
from parcnet_train.errors import DataError


class CocoData(TaskData):
    """Training and validation images with a file of annotations each, in COCO's format.

    Args:
        root: holds the folders of images and the files of annotations.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        augmentation: of the training images.
        train_images: folder of the training images.
        val_images: folder of the validation images.
        train_annotations: file of their boxes.
        val_annotations: file of their boxes.
        num_classes: expected number of categories, the background not counted; None takes what is
            there.
        keep_aspect: fill the input's rest with grey, instead of scaling each side for itself.
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        on_error: `stop` at an unreadable image, or `skip` and count it.

    Raises:
        DataError: from `class_names` and `setup`, where the files are not as they should be.
    """

    task: ClassVar[str] = "detection"
    collate = staticmethod(collate)
    train_set: BoxedImages
    val_set: BoxedImages

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        augmentation: DetectionAugmentation,
        train_images: str = "train2017",
        val_images: str = "val2017",
        train_annotations: str = "annotations/instances_train2017.json",
        val_annotations: str = "annotations/instances_val2017.json",
        num_classes: int | None = None,
        keep_aspect: bool = False,
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: int = 8,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__(root, image_size, batch_size, multi_scale, seed, num_workers)
        self.train_images = self.root / train_images
        self.val_images = self.root / val_images
        self.train_annotations = self.root / train_annotations
        self.val_annotations = self.root / val_annotations
        self.expected_classes = num_classes
        self.augmentation = augmentation
        self.keep_aspect = keep_aspect
        self.on_error = on_error

    def find_classes(self) -> list[str]:
        """The background, and the names of the categories in the order of their ids.

        Read from the validation set, whose file is the smaller one; the training set must have the
        same.
        """
        return self.read(self.smaller_file()).class_names

    def smaller_file(self) -> Path:
        """The validation set's annotations; a training set alone can be timed."""
        has_val = self.val_annotations.exists() or not self.train_annotations.exists()
        return self.val_annotations if has_val else self.train_annotations

    @property
    def category_ids(self) -> list[int]:
        """Ids of the classes in the annotations, -1 for the background."""
        return self.read(self.smaller_file()).category_ids.tolist()

    def read(self, file: Path) -> CocoAnnotations:
        """Reads annotations, with the number of classes that is expected.

        Raises:
            DataError: where they are not as they should be.
        """
        annotations = read_annotations(file)
        categories = len(annotations.class_names) - 1
        if self.expected_classes not in (None, categories):
            raise DataError(
                f"data.num_classes={self.expected_classes}, but {file} has {categories} "
                "categories; data.num_classes=null counts them"
            )
        return annotations

    def check_files(self, action: str) -> None:
        """Looks whether the annotations of an action are well-formed, and their images there.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where they are not, or both sets have other categories.
        """
        if action != "benchmark":
            check_images(self.read(self.val_annotations), self.val_images)
        if action in ("fit", "benchmark"):
            check_images(self.read_training(), self.train_images)

    def read_training(self) -> CocoAnnotations:
        """Reads the training set's annotations.

        Raises:
            DataError: where they have other categories than the validation set's.
        """
        training = self.read(self.train_annotations)
        if self.val_annotations.exists():
            refuse_other_classes(
                (self.train_annotations, training),
                (self.val_annotations, self.read(self.val_annotations)),
            )
        return training

    def make_train_set(self) -> BoxedImages:
        """The training images that have annotations."""
        transform = DetectionTrainTransform(self.augmentation, self.seed, self.keep_aspect)
        annotations = self.read_training()
        return BoxedImages(
            annotations, self.train_images, transform, self.on_error, annotated_only=True
        )

    def make_val_set(self) -> BoxedImages:
        """All validation images."""
        transform = DetectionEvalTransform(self.keep_aspect)
        annotations = self.read(self.val_annotations)
        return BoxedImages(annotations, self.val_images, transform, self.on_error)


def refuse_other_classes(
    first: tuple[Path, CocoAnnotations], second: tuple[Path, CocoAnnotations]
) -> None:
    """Compares the categories of two files.

    Raises:
        DataError: where an id or a name is another one.
    """
    categories = [
        dict(zip(each.category_ids.tolist(), map(repr, each.class_names), strict=True))
        for _, each in (first, second)
    ]
    for category in sorted({*categories[0], *categories[1]}):
        mine, other = (each.get(category, "absent") for each in categories)
        if mine != other:
            raise DataError(
                f"{first[0]} and {second[0]} have other categories: id {category} is {mine} in the "
                f"first and {other} in the second; give both files the same categories"
            )


def check_images(annotations: CocoAnnotations, folder: Path) -> None:
    """Looks whether the images of annotations are in their folder.

    Raises:
        DataError: where one is not.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.root: {folder} does not exist; allowed is a folder of images; set data.root, "
            "data.train_images, data.val_images"
        )
    # Folders are listed: asking for each file would take minutes on a network's disk.
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
            f"{folder / absent[0]} does not exist, which the annotations list; "
            f"{len(absent)} of {len(annotations)} images are absent; fetch them, set data.root, or "
            "take them out of the annotations"
        )


def names_in(folder: Path) -> set[str]:
    """Names of what is in a folder, none where there is no such folder."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()
