"""Data set of images with masks: reads, checks and transforms one sample at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import readable, stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.label_checks import MaskValues, refuse_other_size
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.data.segmentation.transforms import MaskedView
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import UnreadableError
from parcnet_train.sizes import Size


class MaskedImage(NamedTuple):
    """One sample of a `SegmentationBatch`; the fields are described there."""

    image: Tensor  # (C, H, W) uint8, in memory (H, W, C)
    mask: Tensor  # (H, W) uint8
    sample: int
    placement: Tensor  # (4,) float32
    original: Tensor | None  # (h, w) uint8, in evaluations


class MaskedImages(Dataset[MaskedImage | None]):
    """Images of a data set, each with a mask that holds a class index for every pixel.

    Args:
        images: Paths of the images, relative to the root.
        masks: Paths of the masks, in the same order.
        root: Folder of the data set.
        values: Meaning of the values of the masks.
        transform: Function that maps an image and its mask to the size given in the sample key.
        on_error: Handling of an unreadable image or mask: `stop` raises an error, `skip` leaves the
            sample out.
        keep_originals: Whether samples also contain the mask at its original size, as an evaluation
            needs it.
        max_pixels: Largest number of pixels of an image or mask; a file that declares more is
            unreadable.
        channels: Number of channels of the images, see `decode`.
    """

    def __init__(
        self,
        images: npt.NDArray[np.bytes_],
        masks: npt.NDArray[np.bytes_],
        root: AnyPath,
        values: MaskValues,
        transform: Callable[[MaskedView, SampleKey], MaskedView],
        on_error: Literal["stop", "skip"],
        keep_originals: bool = False,
        max_pixels: int = MAX_PIXELS,
        channels: int = RGB,
    ) -> None:
        self.images = images
        self.masks = masks
        self.root = root
        self.values = values
        self.transform = transform
        self.on_error = on_error
        self.keep_originals = keep_originals
        self.max_pixels = max_pixels
        self.channels = channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> MaskedImage | None:
        """Return an image with its mask.

        A padding key gives a black image whose pixels are all ignored. An unreadable image or mask
        gives None if `on_error` is `skip`.

        Raises:
            DataError: If the mask does not fit the image or the classes, or if a file is unreadable
                and `on_error` is `stop`.
        """
        if key.sample == PADDING:
            return empty_place(key.size, self.channels, self.keep_originals)
        try:
            original = self.read(key.sample)
        except UnreadableError:
            if self.on_error == "skip":
                return None
            raise
        view = self.transform(original, key)
        return MaskedImage(
            torch.from_numpy(view.image).permute(2, 0, 1),
            torch.from_numpy(view.mask),
            key.sample,
            torch.from_numpy(view.placement).float(),
            torch.from_numpy(original.mask) if self.keep_originals else None,
        )

    def read(self, sample: int) -> MaskedView:
        """Read an image and its mask at their original size.

        Raises:
            UnreadableError: If one of them cannot be read.
            DataError: If their sizes differ, or the mask contains an unknown class.
        """
        path, mask_path = self.path(sample), self.mask_path(sample)
        image = read_image(path, self.max_pixels, self.channels)
        mask = read_mask(mask_path, self.max_pixels)
        refuse_other_size(path, image, mask_path, mask)
        return MaskedView(image, self.values.classes_of(mask_path, mask))

    def look(self, sample: int) -> npt.NDArray[np.int64]:
        """Read a sample and count the pixels of each class.

        Returns:
            Number of pixels per class index, `(256,)`.

        Raises:
            DataError: If `read` raises it.
        """
        return np.bincount(self.read(sample).mask.ravel(), minlength=IGNORED + 1)

    def class_counts(
        self, num_classes: int, rank: int = 0, world_size: int = 1
    ) -> npt.NDArray[np.int64]:
        """Read masks, and return the number of pixels of every class, `(num_classes,)`.

        Args:
            num_classes: Number of classes.
            rank: Only masks `rank`, `rank + world_size` and so on are read.
            world_size: Number of processes that count.

        Raises:
            DataError: If a mask is unreadable and `on_error` is `stop`, or has an unknown class.
        """

        def count(sample: int) -> npt.NDArray[np.int64]:
            path = self.mask_path(sample)
            try:
                mask = self.values.classes_of(path, read_mask(path, self.max_pixels))
            except UnreadableError:
                if self.on_error == "skip":
                    return np.zeros(IGNORED + 1, np.int64)
                raise
            return np.bincount(mask.ravel(), minlength=IGNORED + 1)

        counts = np.zeros(IGNORED + 1, np.int64)
        with ThreadPoolExecutor(own_cores()) as pool:
            for each in pool.map(count, range(rank, len(self), world_size)):
                counts += each
        return counts[:num_classes]

    def original(self, sample: int) -> Image:
        """Return an image at its original size; raises the errors of `read`."""
        return self.read(sample).image

    def path(self, sample: int) -> AnyPath:
        """Return the path of an image."""
        return self.root / os.fsdecode(self.images[sample])

    def paths_of(self, sample: int) -> Sequence[AnyPath]:
        """Return the paths of the image and the mask of a sample."""
        return [self.path(sample), self.mask_path(sample)]

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the names of all images and masks, relative to the root."""
        return np.concatenate([self.images, self.masks])

    def labels_in_memory(self) -> Sequence[npt.NDArray[Any]]:
        """Return an empty list: the labels are in the mask files."""
        return []

    def mask_path(self, sample: int) -> AnyPath:
        """Return the path of a mask."""
        return self.root / os.fsdecode(self.masks[sample])


def empty_place(size: Size, channels: int, keep_original: bool) -> MaskedImage:
    """Return a padding sample: a black image whose pixels are all ignored."""
    return MaskedImage(
        torch.zeros(*size, channels, dtype=torch.uint8).permute(2, 0, 1),
        torch.full(size, IGNORED, dtype=torch.uint8),
        PADDING,
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
        torch.full((1, 1), IGNORED, dtype=torch.uint8) if keep_original else None,
    )


def collate(
    samples: Sequence[MaskedImage | None],
    fill: bool = False,
    alone: tuple[int, int, int] | None = None,
) -> SegmentationBatch:
    """Stack samples into a batch and count the unreadable ones.

    Args:
        samples: Samples of the batch, None for an unreadable one.
        fill: Whether an unreadable sample is replaced by another one of the batch; otherwise by a
            padding sample that does not count.
        alone: Channels, height and width of the padding sample that replaces an unreadable image in
            batches of one image.

    Raises:
        DataError: If no sample of the batch is readable.
    """
    if alone is not None and samples[0] is None:
        kept = [empty_place(alone[1:], alone[0], keep_original=True)]
    else:
        kept = readable(samples, fill)
    first = kept[0]
    channels, height, width = first.image.shape
    is_evaluation = first.original is not None
    kept += [empty_place((height, width), channels, is_evaluation)] * (len(samples) - len(kept))
    return SegmentationBatch(
        stack_images([each.image for each in kept]),
        torch.stack([each.mask for each in kept]),
        torch.tensor([each.sample for each in kept]),
        torch.stack([each.placement for each in kept]),
        [each.original for each in kept if each.original is not None],
        torch.tensor(samples.count(None)),
    )
