"""Data sets of images with class labels: read and transform one sample at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parcnet_train.data.batches import PADDING, UNLABELED, ClassificationBatch
from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.folders import list_images
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import readable, stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import UnreadableError


class LabeledImage(NamedTuple):
    """One sample of a `ClassificationBatch`; the fields are described there."""

    image: Tensor  # (C, H, W) uint8, in memory (H, W, C)
    label: int
    sample: int


class ImageDataset(Dataset[LabeledImage | None]):
    """Base class of data sets of transformed images with class labels; a subclass reads the images.

    Args:
        labels: Class index of every image.
        transform: Function that maps an image to the size given in the sample key.
        on_error: Handling of an unreadable image: `stop` raises an error, `skip` leaves the image
            out.
        channels: Number of channels of the images, see `decode`.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
        channels: int = RGB,
    ) -> None:
        self.labels = labels
        self.transform = transform
        self.on_error = on_error
        self.channels = channels

    def look(self, sample: int) -> Image:
        """Read an image.

        Raises:
            UnreadableError: If it cannot be read.
        """
        raise NotImplementedError

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the file names, relative to their folder."""
        raise NotImplementedError

    def labels_in_memory(self) -> Sequence[npt.NDArray[np.int64]]:
        """Return the class indices."""
        return [self.labels]

    def class_counts(
        self, num_classes: int, rank: int = 0, world_size: int = 1
    ) -> npt.NDArray[np.int64]:
        """Return the number of images of every class, `(num_classes,)`, see `Counted`."""
        return np.bincount(self.labels[rank::world_size], minlength=num_classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: SampleKey) -> LabeledImage | None:
        """Return an image with its class index.

        A padding key gives a black image and the index -1. An unreadable image gives None if
        `on_error` is `skip`.

        Raises:
            DataError: If the image is unreadable and `on_error` is `stop`.
        """
        if key.sample == PADDING:
            black = torch.zeros(*key.size, self.channels, dtype=torch.uint8)
            return LabeledImage(black.permute(2, 0, 1), UNLABELED, PADDING)
        try:
            image = self.look(key.sample)
        except UnreadableError:
            if self.on_error == "skip":
                return None
            raise
        pixels = torch.from_numpy(self.transform(image, key))
        label = int(self.labels[key.sample])
        return LabeledImage(pixels.permute(2, 0, 1), label, key.sample)

    def original(self, sample: int) -> Image:
        """Return an image at its original size; raises the errors of `look`."""
        return self.look(sample)


class ImageFolderDataset(ImageDataset):
    """Images in class folders.

    Args:
        folder: Folder that contains one folder per class.
        label_of: Class index by name of the class folder; None: its images are left out.
        transform: Function that maps an image to the size given in the sample key.
        on_error: Handling of an unreadable image: `stop` raises an error, `skip` leaves the image
            out.
        max_pixels: Largest number of pixels of an image; a file that declares more is unreadable.
        channels: Number of channels of the images, see `decode`.
    """

    def __init__(
        self,
        folder: AnyPath,
        label_of: Mapping[str, int | None],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
        max_pixels: int = MAX_PIXELS,
        channels: int = RGB,
    ) -> None:
        self.folder = folder
        self.max_pixels = max_pixels
        self.paths, labels, _ = list_images(folder, label_of)
        super().__init__(labels, transform, on_error, channels)

    def look(self, sample: int) -> Image:
        """Decode an image file; raises `UnreadableError` if it cannot be read."""
        return read_image(self.path(sample), self.max_pixels, self.channels)

    def path(self, sample: int) -> AnyPath:
        """Return the path of an image."""
        return self.folder / os.fsdecode(self.paths[sample])

    def paths_of(self, sample: int) -> Sequence[AnyPath]:
        """Return the path of an image."""
        return [self.path(sample)]

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the paths of the images, relative to the folder."""
        return self.paths


def collate(samples: Sequence[LabeledImage | None], fill: bool = False) -> ClassificationBatch:
    """Stack samples into a batch and count the unreadable ones.

    Args:
        samples: Samples of the batch, None for an unreadable one.
        fill: Whether an unreadable sample is replaced by another one of the batch; otherwise by a
            padding sample that does not count.

    Raises:
        DataError: If no sample of the batch is readable.
    """
    kept = readable(samples, fill)
    empty = LabeledImage(torch.zeros_like(kept[0].image), UNLABELED, PADDING)
    kept += [empty] * (len(samples) - len(kept))
    return ClassificationBatch(
        stack_images([each.image for each in kept]),
        torch.tensor([each.label for each in kept]),
        torch.tensor([each.sample for each in kept]),
        torch.tensor(samples.count(None)),
    )
