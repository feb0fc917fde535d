"""Data module for images with boxes in COCO's format: COCO itself or your own data."""

from __future__ import annotations

from typing import ClassVar, Unpack

from parcnet_train.bounds import Count, Pixels
from parcnet_train.data.base import SharedArguments, TaskData
from parcnet_train.data.detection.box_checks import check_areas, check_boxes
from parcnet_train.data.detection.coco import CocoAnnotations, read_annotations
from parcnet_train.data.detection.coco_categories import (
    refuse_other_classes,
    spare_categories,
    used_categories,
    warn_of_spare,
    without_categories,
)
from parcnet_train.data.detection.coco_checks import (
    check_images,
    warn_of_nothing_to_find,
    warn_of_untrained,
)
from parcnet_train.data.detection.dataset import BoxedImages, collate
from parcnet_train.data.detection.transforms import (
    DetectionAugmentation,
    DetectionEvalTransform,
    DetectionTrainTransform,
)
from parcnet_train.data.file_checks import (
    Listed,
    faults_of_some,
    refuse,
    warn_of_repeats,
    warn_of_shared,
)
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError


class CocoData(TaskData):
    """Training, validation and test images, each set with a file in COCO's format.

    Args:
        root: Folder of the data set, with the folders of images and the annotation files.
        image_size: Height and width of the network's input in pixels; a single number for a square.
        batch_size: Images per step and device, in training and in evaluation.
        augmentation: Augmentation of the training images.
        train_images: Folder of the training images.
        val_images: Folder of the validation images.
        train_annotations: Annotation file of the training images.
        val_annotations: Annotation file of the validation images.
        test_images: Folder of the test images.
        test_annotations: Annotation file of the test images.
        num_classes: Expected number of categories without the background; None: as many as the
            annotations have, except supercategories without annotations. A number that includes
            these keeps them.
        keep_aspect: Whether the aspect ratio of images is kept and the rest of the input is padded
            with gray; otherwise each side is scaled independently.
        **shared: Arguments of `TaskData`.

    Raises:
        DataError: If files are missing or invalid; raised by `class_names` and `setup`.
    """

    task: ClassVar[str] = "detection"
    collate = staticmethod(collate)
    train_set: BoxedImages
    val_set: BoxedImages

    def __init__(
        self,
        root: str,
        image_size: Pixels,
        batch_size: Count,
        augmentation: DetectionAugmentation,
        train_images: str = "train2017",
        val_images: str = "val2017",
        train_annotations: str = "annotations/instances_train2017.json",
        val_annotations: str = "annotations/instances_val2017.json",
        test_images: str = "test2017",
        test_annotations: str = "annotations/instances_test2017.json",
        num_classes: Count | None = None,
        keep_aspect: bool = False,
        **shared: Unpack[SharedArguments],
    ) -> None:
        super().__init__(root, image_size, batch_size, **shared)
        is_test = self.split == "test"
        self.train_images = self.within(train_images)
        self.val_images = self.within(val_images)
        self.evaluated_images = self.within(test_images) if is_test else self.val_images
        self.train_annotations = self.within(train_annotations)
        self.val_annotations = self.within(val_annotations)
        tested = self.within(test_annotations)
        self.evaluated_annotations = tested if is_test else self.val_annotations
        self.expected_classes = num_classes
        self.augmentation = augmentation
        self.keep_aspect = keep_aspect

    def find_classes(self) -> list[str]:
        """Return the background and the category names in the order of their ids.

        They are read from the evaluated set, whose file is smaller; the training set must have the
        same categories.
        """
        return self.read(self.smaller_file()).class_names

    def smaller_file(self) -> AnyPath:
        """Return the evaluated annotations, or the training annotations if only they exist."""
        has_own = self.evaluated_annotations.exists() or not self.train_annotations.exists()
        return self.evaluated_annotations if has_own else self.train_annotations

    @property
    def category_ids(self) -> list[int]:
        """Ids of the classes in the annotations; -1 for the background."""
        return self.read(self.smaller_file()).category_ids.tolist()

    def read(self, file: AnyPath) -> CocoAnnotations:
        """Read an annotation file and check the number of its classes.

        Raises:
            DataError: If the file is invalid, or the number of classes is not the expected one.
        """
        annotations = without_categories(read_annotations(file), self.spare_categories(file), file)
        categories = len(annotations.class_names) - 1
        if self.expected_classes not in (None, categories):
            raise DataError(
                f"data.num_classes={self.expected_classes}: {file} has {categories} categories; "
                f"expected the same number. Fix: set data.num_classes={categories}, or "
                "data.num_classes=null to count them"
            )
        return annotations

    def spare_categories(self, file: AnyPath) -> dict[int, str]:
        """Return the ids of a file's categories that do not become classes, with the reason."""
        annotations = read_annotations(file)
        keep_parents = self.expected_classes == len(annotations.class_names) - 1
        used = used_categories(annotations)
        spare = spare_categories(annotations, used, keep_parents)
        # The other files may have annotations of them. The classes of a training do not depend on
        # the test set.
        others = {self.train_annotations, self.val_annotations, self.evaluated_annotations} - {file}
        for other in sorted(others, key=str) if spare else ():
            if not other.exists():
                continue
            used |= used_categories(read_annotations(other))
            spare = spare_categories(annotations, used, keep_parents)
        return spare

    def check_files(self, action: str) -> None:
        """Check that the annotations of an action fit their images, and open some of the images.

        Args:
            action: Action to check for. `benchmark` needs only the training set, `fit` both sets,
                all others only the set of `split`.

        Raises:
            DataError: If they do not fit, if the categories of the two sets differ, or if there is
                no object to learn from.
        """
        faults, listed = [], []
        may_skip = self.on_error == "skip"
        if action != "benchmark":
            file, folder = self.evaluated_annotations, self.evaluated_images
            annotations = self.read(file)
            listed.append(self.check_set(annotations, file, folder))
            check_areas(annotations, file)
            warn_of_nothing_to_find(annotations, file)
            val_set = self.make_val_set()
            faults += faults_of_some(val_set, len(val_set), may_skip)
        if action in ("fit", "benchmark"):
            file, folder = self.train_annotations, self.train_images
            listed.append(self.check_set(self.read_training(), file, folder))
            train_set = self.make_train_set()
            warn_of_untrained(train_set, file)
            faults += faults_of_some(train_set, len(train_set), may_skip)
        refuse(faults)
        file = listed[0].source
        warn_of_spare(read_annotations(file), self.spare_categories(file), file)
        if action == "fit":
            evaluated, training = listed
            warn_of_shared(training, evaluated)

    def check_set(self, annotations: CocoAnnotations, file: AnyPath, folder: AnyPath) -> Listed:
        """Check that annotated images exist, and compare their boxes with their sizes.

        Raises:
            DataError: If an image is missing, or no box can be used.
        """
        check_images(annotations, folder)
        check_boxes(annotations, file)
        listed = Listed(file, folder, annotations.files)
        warn_of_repeats(listed)
        return listed

    def read_training(self) -> CocoAnnotations:
        """Read the annotations of the training set.

        Raises:
            DataError: If their categories differ from those of the evaluated set.
        """
        training = self.read(self.train_annotations)
        if self.evaluated_annotations.exists():
            refuse_other_classes(
                (self.train_annotations, training),
                (self.evaluated_annotations, self.read(self.evaluated_annotations)),
            )
        return training

    def make_train_set(self) -> BoxedImages:
        """Create the training set: images that have annotations."""
        transform = DetectionTrainTransform(self.augmentation, self.seed, self.keep_aspect)
        annotations = self.read_training()
        return BoxedImages(
            annotations,
            self.train_images,
            transform,
            self.on_error,
            annotated_only=True,
            max_pixels=self.max_pixels,
            channels=self.channels,
        )

    def make_val_set(self) -> BoxedImages:
        """Create the evaluated set: all images."""
        transform = DetectionEvalTransform(self.keep_aspect)
        annotations = self.read(self.evaluated_annotations)
        return BoxedImages(
            annotations,
            self.evaluated_images,
            transform,
            self.on_error,
            max_pixels=self.max_pixels,
            channels=self.channels,
        )
