"""Data set of images with boxes: reads, checks and transforms one sample at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parcnet_train.data.batches import PADDING, UNLABELED, DetectionBatch
from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.data.detection.transforms import View
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import readable, stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.sizes import Size


class BoxedImage(NamedTuple):
    """One sample of a `DetectionBatch`; the fields are described there."""

    image: Tensor  # (C, H, W) uint8, in memory (H, W, C)
    boxes: Tensor  # (n, 4) float32, xyxy, pixels of `image`
    labels: Tensor  # (n,) int64
    sample: int
    placement: Tensor  # (4,) float32


class BoxedImages(Dataset[BoxedImage | None]):
    """Images of a folder with the boxes to be detected in them.

    The boxes to be detected are all annotated boxes except crowds, clipped to the image, if an area
    remains. `annotations` keeps all boxes, for evaluations.

    Args:
        annotations: Annotations of the images.
        folder: Folder of the image files.
        transform: Function that maps an image and its boxes to the size given in the sample key.
        on_error: Handling of an unreadable image: `stop` raises an error, `skip` leaves the image
            out.
        annotated_only: Whether images without annotations are left out, as released for training.
            Images that only have crowds stay.
        max_pixels: Largest number of pixels of an image; a file that declares more is unreadable.
        channels: Number of channels of the images, see `decode`.

    Raises:
        DataError: If no image is left, or if `annotated_only` is set and there is no box to detect.
    """

    def __init__(
        self,
        annotations: CocoAnnotations,
        folder: AnyPath,
        transform: Callable[[View, SampleKey], View],
        on_error: Literal["stop", "skip"],
        annotated_only: bool = False,
        max_pixels: int = MAX_PIXELS,
        channels: int = RGB,
    ) -> None:
        self.annotations = annotations
        self.folder = folder
        self.transform = transform
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.channels = channels
        counts = np.diff(annotations.starts)
        self.images = np.flatnonzero(counts >= int(annotated_only))  # positions in the annotations
        if not len(self.images):
            raise DataError(
                f"{folder}: the annotations have no image with a box; expected at least one"
            )
        self.boxes, self.is_object = visible_boxes(annotations)
        if annotated_only and not self.is_object.any():
            crowds = int(annotations.is_crowd.sum())
            raise DataError(
                f"{folder}: the annotations have no object to learn from: of {len(self.boxes):,} "
                f"boxes, {crowds:,} are crowds and {len(self.boxes) - crowds:,} have no area in "
                "their image. Fix: set data.train_annotations"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> BoxedImage | None:
        """Return an image with its boxes.

        A padding key gives a black image without boxes. An unreadable image gives None if
        `on_error` is `skip`.

        Raises:
            DataError: If the size of the image differs from the annotations, or if the image is
                unreadable and `on_error` is `stop`.
        """
        if key.sample == PADDING:
            return empty_place(key.size, self.channels)
        number = int(self.images[key.sample])
        try:
            image = self.look(key.sample)
        except UnreadableError:
            if self.on_error == "skip":
                return None
            raise
        rows = self.annotations.of(number)
        rows_of_objects = np.flatnonzero(self.is_object[rows]) + rows.start
        labels = self.annotations.labels[rows_of_objects]
        view = self.transform(View(image, self.boxes[rows_of_objects], labels), key)
        return BoxedImage(
            torch.from_numpy(view.image).permute(2, 0, 1),
            torch.from_numpy(view.boxes).float(),
            torch.from_numpy(view.labels),
            key.sample,
            torch.from_numpy(view.placement).float(),
        )

    def look(self, sample: int) -> Image:
        """Read an image.

        Raises:
            UnreadableError: If it cannot be read.
            DataError: If its size differs from the annotations.
        """
        number = int(self.images[sample])
        image = read_image(self.path(number), self.max_pixels, self.channels)
        self.check_size(number, image)
        return image

    def original(self, sample: int) -> Image:
        """Return an image at its original size; raises the errors of `look`."""
        return self.look(sample)

    def path(self, number: int) -> AnyPath:
        """Return the path of an image, given its position in the annotations."""
        return self.folder / os.fsdecode(self.annotations.files[number])

    def paths_of(self, sample: int) -> Sequence[AnyPath]:
        """Return the path of the image of a sample."""
        return [self.path(int(self.images[sample]))]

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the names of the images, relative to the folder."""
        return self.annotations.files[self.images]

    def images_by_class(self) -> list[int]:
        """Return the numbers of images with a box to detect of each class but the background."""
        known = self.annotations
        pairs = np.stack([known.owners, known.labels], axis=1)[self.is_object]
        labels = np.unique(pairs, axis=0)[:, 1]
        return np.bincount(labels, minlength=len(known.class_names))[1:].tolist()

    def labels_in_memory(self) -> Sequence[npt.NDArray[Any]]:
        """Return all annotated boxes, with their images and categories."""
        known = self.annotations
        return [known.image_ids, known.starts, known.boxes, known.labels, known.is_crowd]

    def check_size(self, number: int, image: Image) -> None:
        """Compare the size of an image with its annotations; otherwise boxes would be misplaced.

        The image is compared after its EXIF orientation is applied. This is how OpenCV reads images
        in the release, and how people see them when they draw boxes.

        Raises:
            DataError: If the sizes differ.
        """
        height, width = self.annotations.sizes[number].tolist()
        if image.shape[:2] != (height, width):
            way_out = (
                "if the boxes were drawn on the upright photo, swap height and width in the "
                "annotations; otherwise remove the orientation from the image's header (EXIF)"
                if image.shape[:2] == (width, height)
                else "correct one of them"
            )
            raise DataError(
                f"{self.path(number)} has {image.shape[1]}x{image.shape[0]} pixels (EXIF "
                f"orientation applied), but image id {self.annotations.image_ids[number]} of the "
                f"annotations has {width}x{height}, so its boxes would be misplaced. Fix: {way_out}"
            )


def visible_boxes(
    annotations: CocoAnnotations,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return all boxes as xyxy, clipped to their images, and which of them are to be detected.

    Crowds are not to be detected, nor are boxes without area within the image (released).
    """
    begins, lengths = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    edges = annotations.sizes[annotations.owners, ::-1]
    with np.errstate(over="ignore"):  # boxes of absurd size
        boxes = np.concatenate([begins, begins + lengths], axis=1).clip(0, np.tile(edges, 2))
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes, has_area & ~annotations.is_crowd


def empty_place(size: Size, channels: int) -> BoxedImage:
    """Return a padding sample: a black image without boxes."""
    return BoxedImage(
        torch.zeros(*size, channels, dtype=torch.uint8).permute(2, 0, 1),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        PADDING,
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
    )


def collate(samples: Sequence[BoxedImage | None], fill: bool = False) -> DetectionBatch:
    """Stack samples into a batch and count the unreadable ones.

    Args:
        samples: Samples of the batch, None for an unreadable one.
        fill: Whether an unreadable sample is replaced by another one of the batch; otherwise by a
            padding sample that does not count.

    Raises:
        DataError: If no sample of the batch is readable.
    """
    kept = readable(samples, fill)
    channels, height, width = kept[0].image.shape
    kept += [empty_place((height, width), channels)] * (len(samples) - len(kept))
    most = max(1, *(len(each.labels) for each in kept))
    boxes = torch.zeros(len(kept), most, 4)
    labels = torch.full((len(kept), most), UNLABELED)
    for place, each in enumerate(kept):
        boxes[place, : len(each.labels)] = each.boxes
        labels[place, : len(each.labels)] = each.labels
    return DetectionBatch(
        stack_images([each.image for each in kept]),
        boxes,
        labels,
        torch.tensor([each.sample for each in kept]),
        torch.stack([each.placement for each in kept]),
        torch.tensor(samples.count(None)),
    )
