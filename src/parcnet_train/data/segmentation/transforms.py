"""Transforms from a decoded image and its mask to the network's input; both move together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import albumentations
import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.bounds import Probability, Range10
from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.data.extra import ExtraTransforms, Transform
from parcnet_train.data.photometric import PhotometricDistortion
from parcnet_train.data.resizing import LETTERBOX_COLOR, fit_image, fit_mask, place, placement_of
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.palette import Mask
from parcnet_train.sizes import Size

# Longest allowed side, in units of the short side. A longer image is cropped before it is resized,
# since the resized image might not fit into memory.
LONGEST = 16


@dataclass(frozen=True)
class SegmentationAugmentation:
    """Augmentation of training images and their masks; the defaults are released values.

    Attributes:
        short_side: Smallest and largest short side of the resized image, in units of the short side
            of the network's input; the aspect ratio is kept. The default is 384 to 768 pixels for
            an input of 512.
        pad: Whether a resized image that is smaller than the input is padded with gray pixels,
            which are ignored. Otherwise the short side is never shorter than the input's long side,
            as released.
        flip: Probability of a horizontal flip.
        photometric: Whether contrast, brightness, saturation, hue and channel order are distorted
            as in detection; the release does not do this.
        extra: Your own transforms of albumentations, applied last, at the size of the network's
            input.
    """

    short_side: Range10 = (0.75, 1.5)
    pad: bool = True
    flip: Probability = 0.5
    photometric: bool = False
    extra: Sequence[Transform] = ()


class MaskedView(NamedTuple):
    """An image with its mask, and the position of the original image within it."""

    image: Image  # (H, W, C) uint8
    mask: Mask  # (H, W) uint8, class indices, or IGNORED
    # (4,): the original's (x, y) lies at (x * [0] + [2], y * [1] + [3]); NaN in training
    placement: npt.NDArray[np.float64] = np.array([1.0, 1.0, 0.0, 0.0])


class SegmentationTrainTransform:
    """Random augmentation that depends only on (seed, epoch, sample, copy).

    Args:
        augmentation: Augmentation to draw from.
        seed: Seed of the run.
    """

    def __init__(self, augmentation: SegmentationAugmentation, seed: int) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.distort = PhotometricDistortion()
        self.extra = ExtraTransforms(augmentation.extra)
        self.operations: dict[Size, albumentations.Compose] = {}

    def __call__(self, view: MaskedView, key: SampleKey) -> MaskedView:
        """Map an original image with its mask to an augmented one of `key.size`."""
        random = Random(f"{self.seed} {key.epoch} {key.sample} {key.copy}")  # hashed with SHA-512
        image, mask = cut(view, random)
        if self.augmentation.photometric:  # before padding
            image = self.distort(image, random)
        if key.size not in self.operations:
            self.operations[key.size] = compose(self.augmentation, key.size)
        operations = self.operations[key.size]
        operations.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
        moved = operations(image=image, mask=mask)
        image, mask = moved["image"], moved["mask"]
        if self.augmentation.extra:
            image, mask = self.extra.with_mask(image, mask, random)
        return MaskedView(image, mask, np.full(4, np.nan))


def cut(view: MaskedView, random: Random) -> tuple[Image, Mask]:
    """Return image and mask, cropped at random if the image is very long."""
    height, width = view.mask.shape
    most = LONGEST * min(height, width)
    top, left = random.randint(0, max(0, height - most)), random.randint(0, max(0, width - most))
    part = slice(top, top + most), slice(left, left + most)
    return view.image[part], view.mask[part]


def compose(augmentation: SegmentationAugmentation, size: Size) -> albumentations.Compose:
    """Create the geometric augmentation for one input size."""
    return albumentations.Compose(
        [
            albumentations.SmallestMaxSize(
                short_sides(augmentation, size),
                interpolation=cv2.INTER_LINEAR,  # not antialiased, as released
                mask_interpolation=cv2.INTER_NEAREST_EXACT,
            ),
            albumentations.RandomCrop(
                *size,
                pad_if_needed=True,
                pad_position="random",
                fill=LETTERBOX_COLOR,
                fill_mask=IGNORED,
            ),
            albumentations.HorizontalFlip(p=augmentation.flip),
        ]
    )


def short_sides(augmentation: SegmentationAugmentation, size: Size) -> list[int]:
    """Return the short sides to draw from, in pixels; a more likely one occurs more often."""
    smallest, largest = (max(1, round(min(size) * share)) for share in augmentation.short_side)
    least = 1 if augmentation.pad else max(size)
    return [max(length, least) for length in range(smallest, largest + 1)]


class SegmentationEvalTransform:
    """Resizing to the input size; the loss uses the resized mask, metrics the original one.

    Args:
        keep_aspect: Whether the aspect ratio is kept and the rest is padded; otherwise each side is
            scaled independently.
    """

    def __init__(self, keep_aspect: bool) -> None:
        self.keep_aspect = keep_aspect

    def __call__(self, view: MaskedView, key: SampleKey) -> MaskedView:
        """Map an original image with its mask to `key.size`, without randomness."""
        original = view.mask.shape[0], view.mask.shape[1]
        placing = place(original, key.size, self.keep_aspect)
        return MaskedView(
            fit_image(view.image, key.size, placing),
            fit_mask(view.mask, key.size, placing, IGNORED),
            placement_of(original, placing),
        )


def unchanged(view: MaskedView, key: SampleKey) -> MaskedView:
    """Return the image at its own size, for an evaluation in windows."""
    return view
