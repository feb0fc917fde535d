"""From a decoded image and its mask to the network's input: both move together."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import albumentations
import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import IGNORED
from parcnet_train.data.decoding import Image
from parcnet_train.data.photometric import PhotometricDistortion
from parcnet_train.data.resizing import LETTERBOX_COLOUR, fit_image, fit_mask, place, placement_of
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.palette import Mask
from parcnet_train.sizes import Size

# In units of its short side: an image that is longer is cut before it is resized, since all of it
# might not fit into memory.
LONGEST = 16


@dataclass(frozen=True)
class SegmentationAugmentation:
    """What training draws for every image with its mask; the numbers are released ones.

    Attributes:
        short_side: smallest and largest short side of the resized image, aspect kept, in units of
            the short side of the network's input: 384 to 768 pixels of 512.
        pad: where a resized image is smaller than the input, fill up with grey that is ignored;
            else no short side is shorter than the input's long one, as released.
        flip: probability of mirroring left and right.
        photometric: distort contrast, brightness, saturation, hue and the order of the channels, as
            in detection; the release does not.
    """

    short_side: tuple[float, float] = (0.75, 1.5)
    pad: bool = True
    flip: float = 0.5
    photometric: bool = False


class MaskedView(NamedTuple):
    """An image with its mask, and where the original image lies in it."""

    image: Image  # (H, W, 3) uint8, RGB
    mask: Mask  # (H, W) uint8, class indices, or IGNORED
    # (4,): the original's (x, y) lies at (x * [0] + [2], y * [1] + [3]); not told of a training's
    placement: npt.NDArray[np.float64] = np.array([1.0, 1.0, 0.0, 0.0])


class SegmentationTrainTransform:
    """The augmentation of an image, drawn from (seed, epoch, sample, copy) and nothing else.

    Args:
        augmentation: what to draw.
        seed: of the run.
    """

    def __init__(self, augmentation: SegmentationAugmentation, seed: int) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.distort = PhotometricDistortion()
        self.operations: dict[Size, albumentations.Compose] = {}

    def __call__(self, view: MaskedView, key: SampleKey) -> MaskedView:
        """Maps an original image to one of `key.size`."""
        random = Random(f"{self.seed} {key.epoch} {key.sample} {key.copy}")  # hashed with SHA-512
        image, mask = cut(view, random)
        if self.augmentation.photometric:  # before anything is filled up
            image = self.distort(image, random)
        if key.size not in self.operations:
            self.operations[key.size] = compose(self.augmentation, key.size)
        operations = self.operations[key.size]
        operations.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
        moved = operations(image=image, mask=mask)
        return MaskedView(moved["image"], moved["mask"], np.full(4, np.nan))


def cut(view: MaskedView, random: Random) -> tuple[Image, Mask]:
    """Image and mask, of a very long one a part."""
    height, width = view.mask.shape
    most = LONGEST * min(height, width)
    top, left = random.randint(0, max(0, height - most)), random.randint(0, max(0, width - most))
    part = slice(top, top + most), slice(left, left + most)
    return view.image[part], view.mask[part]


def compose(augmentation: SegmentationAugmentation, size: Size) -> albumentations.Compose:
    """What moves image and mask, to an input of one size."""
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
                fill=LETTERBOX_COLOUR,
                fill_mask=IGNORED,
            ),
            albumentations.HorizontalFlip(p=augmentation.flip),
        ]
    )


def short_sides(augmentation: SegmentationAugmentation, size: Size) -> list[int]:
    """All short sides that may be drawn, in pixels; what is likelier is there more often."""
    smallest, largest = (max(1, round(min(size) * share)) for share in augmentation.short_side)
    least = 1 if augmentation.pad else max(size)
    return [max(length, least) for length in range(smallest, largest + 1)]


class SegmentationEvalTransform:
    """Resizes to the input size, the mask for the loss; metrics use the original one.

    Args:
        keep_aspect: let one side fit and fill the rest; else each side is scaled for itself.
    """

    def __init__(self, keep_aspect: bool) -> None:
        self.keep_aspect = keep_aspect

    def __call__(self, view: MaskedView, key: SampleKey) -> MaskedView:
        """Maps an original image to one of `key.size`; nothing is random."""
        original = view.mask.shape[0], view.mask.shape[1]
        placing = place(original, key.size, self.keep_aspect)
        return MaskedView(
            fit_image(view.image, key.size, placing),
            fit_mask(view.mask, key.size, placing, IGNORED),
            placement_of(original, placing),
        )


def unchanged(view: MaskedView, key: SampleKey) -> MaskedView:
    """The image at its own size, for an evaluation in windows."""
    return view
