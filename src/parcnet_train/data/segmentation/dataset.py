"""Data sets of images with masks: one image by its key, decoded and transformed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import readable, stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.label_checks import refuse_other_size, refuse_unknown_classes
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.data.segmentation.transforms import MaskedView
from parcnet_train.errors import UnreadableError
from parcnet_train.sizes import Size


class MaskedImage(NamedTuple):
    """One place of a `SegmentationBatch`, whose fields say more."""

    image: Tensor  # (3, H, W) uint8, RGB, in memory (H, W, 3)
    mask: Tensor  # (H, W) uint8
    sample: int
    placement: Tensor  # (4,) float32
    original: Tensor | None  # (h, w) uint8, in evaluations


class MaskedImages(Dataset[MaskedImage | None]):
    """Images of a folder with the class of each of their pixels.

    Args:
        images: paths of the images within the root.
        masks: paths of their masks, in the same order.
        root: of the set.
        num_classes: that masks may have.
        transform: maps an image with its mask to one of the size of its key.
        on_error: `stop` raises for an unreadable image or mask, `skip` leaves it out.
        keep_originals: give the masks of the original images too, for an evaluation.
        max_pixels: Most pixels of an image or mask; one that declares more is unreadable.
    """

    def __init__(
        self,
        images: npt.NDArray[np.bytes_],
        masks: npt.NDArray[np.bytes_],
        root: Path,
        num_classes: int,
        transform: Callable[[MaskedView, SampleKey], MaskedView],
        on_error: Literal["stop", "skip"],
        keep_originals: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.images = images
        self.masks = masks
        self.root = root
        self.num_classes = num_classes
        self.transform = transform
        self.on_error = on_error
        self.keep_originals = keep_originals
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> MaskedImage | None:
        """The image with its mask, black and ignored for padding; None: unreadable.

        Raises:
            DataError: for a mask that is none of this image or of these classes, and for an
                unreadable file, where `on_error` is `stop`.
        """
        if key.sample == PADDING:
            return empty_place(key.size, self.keep_originals)
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
        """The original image and its mask.

        Raises:
            UnreadableError: where one of them cannot be read.
            DataError: where they do not belong together, or the mask has a class that there is not.
        """
        path, mask_path = self.path(sample), self.mask_path(sample)
        image = read_image(path, self.max_pixels)
        mask = read_mask(mask_path, self.max_pixels)
        refuse_other_size(path, image, mask_path, mask)
        refuse_unknown_classes(mask_path, mask, self.num_classes)
        return MaskedView(image, mask)

    def look(self, sample: int) -> npt.NDArray[np.int64]:
        """Reads a sample.

        Returns:
            `(256,)`, pixels of every class.

        Raises:
            DataError: where `read` does.
        """
        return np.bincount(self.read(sample).mask.ravel(), minlength=IGNORED + 1)

    def original(self, sample: int) -> Image:
        """One image, of its own size; raises as `read` does."""
        return self.read(sample).image

    def path(self, sample: int) -> Path:
        """Where an image lies."""
        return self.root / os.fsdecode(self.images[sample])

    def files(self) -> npt.NDArray[np.bytes_]:
        """Names of the images and of their masks, each within its folder."""
        return np.concatenate([self.images, self.masks])

    def labels_in_memory(self) -> Sequence[npt.NDArray[Any]]:
        """None: they are in the masks."""
        return []

    def mask_path(self, sample: int) -> Path:
        """Where its mask lies."""
        return self.root / os.fsdecode(self.masks[sample])


def empty_place(size: Size, keep_original: bool) -> MaskedImage:
    """A black image of which no pixel counts."""
    return MaskedImage(
        torch.zeros(*size, 3, dtype=torch.uint8).permute(2, 0, 1),
        torch.full(size, IGNORED, dtype=torch.uint8),
        PADDING,
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
        torch.full((1, 1), IGNORED, dtype=torch.uint8) if keep_original else None,
    )


def collate(
    samples: Sequence[MaskedImage | None], fill: bool = False, alone: Size | None = None
) -> SegmentationBatch:
    """Makes a batch, and counts the unreadable images.

    Args:
        samples: None where an image was unreadable.
        fill: take others of the batch twice instead; else its place is one that does not count.
        alone: of batches of one image, the size of the place of one that was unreadable.

    Raises:
        DataError: where none is left.
    """
    if alone is not None and samples[0] is None:
        kept = [empty_place(alone, keep_original=True)]
    else:
        kept = readable(samples, fill)
    first = kept[0]
    size, is_evaluation = (first.mask.shape[0], first.mask.shape[1]), first.original is not None
    kept += [empty_place(size, is_evaluation)] * (len(samples) - len(kept))
    return SegmentationBatch(
        stack_images([each.image for each in kept]),
        torch.stack([each.mask for each in kept]),
        torch.tensor([each.sample for each in kept]),
        torch.stack([each.placement for each in kept]),
        [each.original for each in kept if each.original is not None],
        torch.tensor(samples.count(None)),
    )
