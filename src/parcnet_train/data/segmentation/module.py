"""Data module for images with masks in PASCAL VOC's layout: VOC itself or your own data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Unpack

from annotated_types import Ge, Le
from torch.utils.data import DataLoader

from parcnet_train.bounds import Count, Keywords, Pixels
from parcnet_train.data.base import SharedArguments, TaskData
from parcnet_train.data.batches import MAX_CLASSES
from parcnet_train.data.file_checks import Listed, refuse, warn_of_repeats, warn_of_shared
from parcnet_train.data.near_files import hint
from parcnet_train.data.samplers import EvalBatches, SampleKey
from parcnet_train.data.segmentation.dataset import MaskedImages, collate
from parcnet_train.data.segmentation.label_checks import (
    MaskValues,
    faults_of_all,
    faults_of_sample,
)
from parcnet_train.data.segmentation.transforms import (
    MaskedView,
    SegmentationAugmentation,
    SegmentationEvalTransform,
    SegmentationTrainTransform,
    unchanged,
)
from parcnet_train.data.segmentation.voc_files import find_files, read_lines, refuse_repeats
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

LISTS = Path("ImageSets") / "Segmentation"
CLASSES = "classes.txt"
LABELMAP = "labelmap.txt"  # written by CVAT's export
IGNORE = "__ignore__"  # labelme's first class; its masks have 255 at these pixels

MaskLabel = Annotated[int, Ge(0), Le(254)]
MaskLabels = Annotated[Sequence[MaskLabel], Keywords(uniqueItems=True)]

Transform = Callable[[MaskedView, SampleKey], MaskedView]


class VocData(TaskData):
    """Images given by a list per split, each image with a mask of class indices.

    Args:
        root: Folder of the data set. It contains the folders of images and masks, the lists in
            `ImageSets/Segmentation`, and optionally `classes.txt` with one class name per line,
            index 0 first.
        image_size: Height and width of the network's input in pixels; a single number for a square.
        batch_size: Images per step and device, in training and in evaluation.
        augmentation: Augmentation of the training images.
        train_list: Name of the list of training images, without `.txt`; see `find_files` for its
            format.
        val_list: Name of the list of validation images.
        test_list: Name of the list of test images.
        images: Folder of the images (JPEG or PNG), used if the lists contain names.
        masks: Folder of the masks (PNG).
        num_classes: Expected number of classes, including the background if the data set has one;
            None: as many as the data set has.
        ignored_labels: Values of the masks that do not count, beside 255.
        first_label: Value of the first class in the masks; the others follow it.
        names: Class names for a data set without `classes.txt`; None: the class indices.
        evaluation: Size at which images are evaluated. They are resized to the input, each side
            independently (`stretch`) or with gray borders (`keep_aspect`), or keep their own size
            and the network sees windows of `image_size` (`windows`).
        **shared: Arguments of `TaskData`.

    Attributes:
        window: Size of the windows of an evaluation in windows, else None.

    Raises:
        DataError: If files are missing or invalid; raised by `class_names` and `setup`.
    """

    task: ClassVar[str] = "segmentation"
    collate = staticmethod(collate)
    train_set: MaskedImages
    val_set: MaskedImages

    def __init__(
        self,
        root: str,
        image_size: Pixels,
        batch_size: Count,
        augmentation: SegmentationAugmentation,
        train_list: str = "train",
        val_list: str = "val",
        test_list: str = "test",
        images: str = "JPEGImages",
        masks: str = "SegmentationClass",
        num_classes: Count | None = None,
        names: list[str] | None = None,
        ignored_labels: MaskLabels = (),
        first_label: MaskLabel = 0,
        evaluation: Literal["stretch", "keep_aspect", "windows"] = "stretch",
        **shared: Unpack[SharedArguments],
    ) -> None:
        super().__init__(root, image_size, batch_size, **shared)
        self.train_list = self.root / LISTS / Path(f"{train_list}.txt").expanduser()
        evaluated = test_list if self.split == "test" else val_list
        self.evaluated_list = self.root / LISTS / Path(f"{evaluated}.txt").expanduser()
        self.images = str(Path(images).expanduser())
        self.masks = str(Path(masks).expanduser())
        self.expected_classes = num_classes
        self.names = names
        self.ignored_labels = ignored_labels
        self.first_label = first_label
        self.augmentation = augmentation
        self.evaluation = evaluation
        self.window: Size | None = self.image_size if evaluation == "windows" else None

    def find_classes(self) -> list[str]:
        """Return the class names from `classes.txt`, else from `names`, else the class indices.

        A first name `__ignore__` is labelme's name for pixels with the value 255; the name after it
        has index 0.
        """
        if not self.root.is_dir():
            raise DataError(
                f"data.root: {self.root} does not exist{hint(self.root.parent, self.root.name)}; "
                "expected a folder in VOC's layout"
            )
        file = self.root / CLASSES
        if file.exists():
            names, source = read_lines(file), str(file)
        elif self.names is not None:
            names, source = self.names, "data.names"
        elif self.expected_classes is not None:
            names, source = list(map(str, range(self.expected_classes))), "data.num_classes"
        else:
            has_colors = (self.root / LABELMAP).exists()
            raise DataError(
                f"{file} does not exist, so the classes are unknown; expected one class name per "
                "line, index 0 first. Fix: write the file, or set data.names=[...] or "
                "data.num_classes=N"
                + (
                    f". {LABELMAP} is from CVAT, whose masks contain colors: replace each color by "
                    "its index, counted from 0 in the lines of that file that define a color"
                    if has_colors
                    else ""
                )
            )
        names = names[1:] if names[:1] == [IGNORE] else names
        refuse_names(names, source)
        if self.first_label + len(names) > MAX_CLASSES:
            raise DataError(
                f"data.first_label={self.first_label}: the last of {len(names)} classes would have "
                f"the value {self.first_label + len(names) - 1} in the masks; expected at most "
                f"{MAX_CLASSES - 1}"
            )
        if self.expected_classes not in (None, len(names)):
            raise DataError(
                f"data.num_classes={self.expected_classes}: {source} has {len(names)} classes; "
                f"expected the same number. Fix: set data.num_classes={len(names)}, or "
                "data.num_classes=null to count them"
            )
        return names

    def check_files(self, action: str) -> None:
        """Check that the files of an action exist, and check some of the masks.

        Args:
            action: Action to check for. `benchmark` needs only the training set, `fit` both sets,
                all others only the set of `split`.

        Raises:
            DataError: If a file is missing or a mask is wrong; one line per fault.
        """
        faults = []
        may_skip = self.on_error == "skip"
        needed = []
        if action != "benchmark":
            needed.append((self.make_val_set(), self.evaluated_list))
        if action in ("fit", "benchmark"):
            needed.append((self.make_train_set(), self.train_list))
        for masked_images, file in needed:
            faults += faults_of_sample(masked_images, file, may_skip)
        refuse(faults)
        listed = [Listed(file, self.root, masked_images.images) for masked_images, file in needed]
        for each in listed:
            warn_of_repeats(each)
        if action == "fit":
            evaluated, training = listed
            warn_of_shared(training, evaluated)

    def faults_of_files(self) -> list[str]:
        """Return one line per faulty image or mask, and warn about classes without pixels."""
        return [
            *faults_of_all(self.make_train_set(), self.train_list, self.class_names),
            *faults_of_all(self.make_val_set(), self.evaluated_list),
        ]

    def make_train_set(self) -> MaskedImages:
        """Create the data set of the training list."""
        transform = SegmentationTrainTransform(self.augmentation, self.seed)
        return self.make_set(self.train_list, transform)

    def make_val_set(self) -> MaskedImages:
        """Create the data set of the evaluated list, with masks at their original size.

        Raises:
            DataError: If `make_set` raises it, or the list contains an image more than once.
        """
        keep_aspect = self.evaluation == "keep_aspect"
        resize = SegmentationEvalTransform(keep_aspect) if self.window is None else unchanged
        val_set = self.make_set(self.evaluated_list, resize, keep_originals=True)
        refuse_repeats(self.evaluated_list, val_set.images)
        return val_set

    def make_set(
        self, file: AnyPath, transform: Transform, keep_originals: bool = False
    ) -> MaskedImages:
        """Create the data set of a list.

        Raises:
            DataError: If the list, or a file that it names, does not exist.
        """
        values = MaskValues(len(self.class_names), self.first_label, self.ignored_labels)
        images, masks = find_files(file, self.root, self.images, self.masks)
        return MaskedImages(
            images,
            masks,
            self.root,
            values,
            transform,
            self.on_error,
            keep_originals,
            self.max_pixels,
            self.channels,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of the evaluated set, each image once; one per batch for `windows`."""
        if self.window is None:
            return super().val_dataloader()
        batches = EvalBatches(len(self.val_set), 1, self.image_size, *self._place())
        return self._loader(
            self.val_set,
            batches,
            functools.partial(self.collate, alone=(self.channels, *self.window)),
        )


def refuse_names(names: Sequence[str], source: str) -> None:
    """Check class names.

    Raises:
        DataError: If there are too few or too many of them, or one occurs twice.
    """
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{source} has the class {twice[0]!r} twice; expected different names")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{source}: the number of classes is {len(names)}; expected 2 to {MAX_CLASSES}, "
            "including the background if the data set has one"
        )
