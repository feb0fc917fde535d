"""Images with masks in VOC's layout: PASCAL VOC itself, and anybody's."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch.utils.data import DataLoader

from parcnet_train.data.base import TaskData
from parcnet_train.data.file_checks import Listed, refuse, warn_of_repeats, warn_of_shared
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.near_files import hint
from parcnet_train.data.samplers import EvalBatches, MultiScale, SampleKey
from parcnet_train.data.segmentation.dataset import MaskedImages, collate
from parcnet_train.data.segmentation.label_checks import faults_of_all, faults_of_sample
from parcnet_train.data.segmentation.transforms import (
    MaskedView,
    SegmentationAugmentation,
    SegmentationEvalTransform,
    SegmentationTrainTransform,
    unchanged,
)
from parcnet_train.data.segmentation.voc_files import find_files, read_lines, refuse_repeats
from parcnet_train.errors import DataError
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

MAX_CLASSES = 255  # of masks of 8 bits, in which 255 is ignored

LISTS = Path("ImageSets") / "Segmentation"
CLASSES = "classes.txt"
LABELMAP = "labelmap.txt"  # of CVAT's export
IGNORE = "__ignore__"  # first of labelme's classes, whose masks have 255 there

Transform = Callable[[MaskedView, SampleKey], MaskedView]


class VocData(TaskData):
    """Training and validation images that two lists name, with a mask of class indices each.

    Args:
        root: holds the folders of images and masks, `ImageSets/Segmentation` with the lists, and
            `classes.txt`, where there is one: names of the classes, one a line, that of index 0
            first.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        augmentation: of the training images.
        train_list: name of the list of training images, without its ending `.txt`; see
            `find_files`.
        val_list: name of the list of validation images.
        images: folder of the images, JPEG or PNG, where lists have names.
        masks: folder of their masks, PNG.
        num_classes: expected number of classes, with the background where the set has one; None
            takes what is there.
        names: of the classes, for a set without `classes.txt`; None: their indices.
        evaluation: of images that are resized to the input, each side for itself (`stretch`) or
            with grey around (`keep_aspect`), or of images at their own size, of which the network
            sees windows of `image_size` (`windows`).
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        on_error: `stop` at an unreadable image or mask, or `skip` and count it.
        max_pixels: Most pixels of an image or mask; one that declares more is unreadable.

    Attributes:
        window: of an evaluation in windows, else None.

    Raises:
        DataError: from `class_names` and `setup`, where the files are not as they should be.
    """

    task: ClassVar[str] = "segmentation"
    collate = staticmethod(collate)
    train_set: MaskedImages
    val_set: MaskedImages

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        augmentation: SegmentationAugmentation,
        train_list: str = "train",
        val_list: str = "val",
        images: str = "JPEGImages",
        masks: str = "SegmentationClass",
        num_classes: int | None = None,
        names: list[str] | None = None,
        evaluation: Literal["stretch", "keep_aspect", "windows"] = "stretch",
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: int = 8,
        on_error: Literal["stop", "skip"] = "stop",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(root, image_size, batch_size, multi_scale, seed, num_workers)
        self.train_list = self.root / LISTS / Path(f"{train_list}.txt").expanduser()
        self.val_list = self.root / LISTS / Path(f"{val_list}.txt").expanduser()
        self.images = str(Path(images).expanduser())
        self.masks = str(Path(masks).expanduser())
        self.expected_classes = num_classes
        self.names = names
        self.augmentation = augmentation
        self.evaluation = evaluation
        self.window: Size | None = self.image_size if evaluation == "windows" else None
        self.on_error = on_error
        self.max_pixels = max_pixels

    def find_classes(self) -> list[str]:
        """Names of the classes, from `classes.txt`, else as given, else their indices.

        A first name `__ignore__` is labelme's for the pixels of 255; index 0 is the one after it.
        """
        if not self.root.is_dir():
            raise DataError(
                f"data.root: {self.root} does not exist{hint(self.root.parent, self.root.name)}; "
                "allowed is a folder in VOC's layout"
            )
        file = self.root / CLASSES
        if file.exists():
            names, source = read_lines(file), str(file)
        elif self.names is not None:
            names, source = self.names, "data.names"
        elif self.expected_classes is not None:
            names, source = list(map(str, range(self.expected_classes))), "data.num_classes"
        else:
            has_colours = (self.root / LABELMAP).exists()
            raise DataError(
                f"{file} does not exist, so nothing tells the classes; write one name a line, that "
                "of index 0 first, or give their names or number: data.names=[...], "
                "data.num_classes=N"
                + (
                    f". {LABELMAP} is CVAT's: its masks are colours; write into each pixel the "
                    "index of its colour, counted from 0 in the lines that name one"
                    if has_colours
                    else ""
                )
            )
        names = names[1:] if names[:1] == [IGNORE] else names
        refuse_names(names, source)
        if self.expected_classes not in (None, len(names)):
            raise DataError(
                f"data.num_classes={self.expected_classes}, but {source} has {len(names)} classes; "
                "data.num_classes=null takes as many"
            )
        return names

    def check_files(self, action: str) -> None:
        """Looks whether the files of an action are there, and at some of the masks.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where they are not, or a mask is wrong; a line for each fault.
        """
        faults = []
        may_skip = self.on_error == "skip"
        needed = []
        if action != "benchmark":
            needed.append((self.make_val_set(), self.val_list))
        if action in ("fit", "benchmark"):
            needed.append((self.make_train_set(), self.train_list))
        for masked_images, file in needed:
            faults += faults_of_sample(masked_images, file, may_skip)
        refuse(faults)
        listed = [Listed(file, self.root, masked_images.images) for masked_images, file in needed]
        for each in listed:
            warn_of_repeats(each)
        if action == "fit":
            validation, training = listed
            warn_of_shared(training, validation)

    def faults_of_files(self) -> list[str]:
        """One line for every fault of an image or a mask; tells of classes that no mask has."""
        return [
            *faults_of_all(self.make_train_set(), self.train_list, self.class_names),
            *faults_of_all(self.make_val_set(), self.val_list),
        ]

    def make_train_set(self) -> MaskedImages:
        """The images of the training list."""
        transform = SegmentationTrainTransform(self.augmentation, self.seed)
        return self.make_set(self.train_list, transform)

    def make_val_set(self) -> MaskedImages:
        """The images of the validation list, with the masks of their original size.

        Raises:
            DataError: where `make_set` does, or the list names one twice.
        """
        keep_aspect = self.evaluation == "keep_aspect"
        resize = SegmentationEvalTransform(keep_aspect) if self.window is None else unchanged
        val_set = self.make_set(self.val_list, resize, keep_originals=True)
        refuse_repeats(self.val_list, val_set.images)
        return val_set

    def make_set(
        self, file: Path, transform: Transform, keep_originals: bool = False
    ) -> MaskedImages:
        """The images of a list.

        Raises:
            DataError: where the list, or a file that it names, is not there.
        """
        num_classes = len(self.class_names)
        images, masks = find_files(file, self.root, self.images, self.masks)
        return MaskedImages(
            images,
            masks,
            self.root,
            num_classes,
            transform,
            self.on_error,
            keep_originals,
            self.max_pixels,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation set, each image once; alone where it keeps its size."""
        if self.window is None:
            return super().val_dataloader()
        batches = EvalBatches(len(self.val_set), 1, self.image_size, *self._place())
        return self._loader(
            self.val_set, batches, functools.partial(self.collate, alone=self.window)
        )


def refuse_names(names: Sequence[str], source: str) -> None:
    """Looks whether these can be classes.

    Raises:
        DataError: where there are too few or too many, or one of them twice.
    """
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{source} has the class {twice[0]!r} twice; give each its own name")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{source}: allowed are 2 to {MAX_CLASSES} classes, the background included where the "
            f"set has one, not {len(names)}"
        )
