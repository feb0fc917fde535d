"""Data sets of images with classes: one image by its key, decoded and transformed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parcnet_train.data.batches import PADDING, UNLABELED, ClassificationBatch
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.folders import list_images
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import readable, stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import UnreadableError

Sample = tuple[Tensor, int] | None  # (3, H, W) uint8 and class index; None: unreadable, left out


class ImageDataset(Dataset[Sample]):
    """Images with classes, transformed; a subclass reads them.

    Args:
        labels: class index of every image.
        transform: maps an image to one of the size of its key.
        on_error: `stop` raises for an unreadable image, `skip` leaves it out.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
    ) -> None:
        self.labels = labels
        self.transform = transform
        self.on_error = on_error

    def look(self, sample: int) -> Image:
        """One image.

        Raises:
            UnreadableError: where it cannot be read.
        """
        raise NotImplementedError

    def files(self) -> npt.NDArray[np.bytes_]:
        """Names of the files, within their folder."""
        raise NotImplementedError

    def labels_in_memory(self) -> Sequence[npt.NDArray[np.int64]]:
        """The class indices."""
        return [self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The image as `(3, H, W)` uint8 RGB and its class index; black and -1 for padding.

        In memory, the image is `(H, W, 3)`, as it is decoded.

        Raises:
            DataError: for an unreadable image, where `on_error` is `stop`.
        """
        if key.sample == PADDING:
            black = torch.zeros(*key.size, 3, dtype=torch.uint8)
            return black.permute(2, 0, 1), UNLABELED
        try:
            image = self.look(key.sample)
        except UnreadableError:
            if self.on_error == "skip":
                return None
            raise
        pixels = torch.from_numpy(self.transform(image, key))
        return pixels.permute(2, 0, 1), int(self.labels[key.sample])

    def original(self, sample: int) -> Image:
        """One image, of its own size; raises as `look` does."""
        return self.look(sample)


class ImageFolderDataset(ImageDataset):
    """Images of class folders.

    Args:
        folder: holds one folder per class.
        class_names: in the order of the class indices.
        transform: maps an image to one of the size of its key.
        on_error: `stop` raises for an unreadable image, `skip` leaves it out.
        max_pixels: Most pixels of an image; one that declares more is unreadable.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.folder = folder
        self.max_pixels = max_pixels
        self.paths, labels, _ = list_images(folder, class_names)
        super().__init__(labels, transform, on_error)

    def look(self, sample: int) -> Image:
        """Decodes a file; raises `UnreadableError` where it cannot be read."""
        return read_image(self.path(sample), self.max_pixels)

    def path(self, sample: int) -> Path:
        """The path of the file."""
        return self.folder / os.fsdecode(self.paths[sample])

    def files(self) -> npt.NDArray[np.bytes_]:
        """Paths of the images, within the folder."""
        return self.paths


def collate(samples: Sequence[Sample], fill: bool = False) -> ClassificationBatch:
    """Makes a batch, and counts the unreadable images.

    Args:
        samples: None where an image was unreadable.
        fill: take others of the batch twice instead; else its place is one that does not count.

    Raises:
        DataError: where none is left.
    """
    kept = readable(samples, fill)
    empty = len(samples) - len(kept)
    kept += [(torch.zeros_like(kept[0][0]), UNLABELED)] * empty
    return ClassificationBatch(
        stack_images([image for image, _ in kept]),
        torch.tensor([label for _, label in kept]),
        torch.tensor(samples.count(None)),
    )
