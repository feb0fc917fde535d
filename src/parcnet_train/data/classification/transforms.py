"""Transforms from a decoded image to the network's input size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

import albumentations
import numpy as np
import torch
from annotated_types import Ge, Le
from torchvision.transforms import v2
from typing_extensions import TypedDict  # pydantic reads this one on Python 3.11 as well

from parcnet_train.bounds import (
    Count,
    NotNegative,
    PositiveRange,
    Probability,
    ShareRange,
)
from parcnet_train.data.decoding import Image
from parcnet_train.data.extra import ExtraTransforms, Transform
from parcnet_train.data.resizing import mirrored, resized
from parcnet_train.data.samplers import SampleKey
from parcnet_train.sizes import Size

Range = tuple[float, float]
Box = tuple[int, int, int, int]  # top, left, height, width, in pixels

# Short side before the center crop, in units of the crop: 288 for 256 (released value).
RESIZE_RATIO = 288 / 256

# Area and aspect ratio of the rectangle in random erasing (arXiv 1708.04896, section 4.2).
ERASED_SHARE = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)


class RandAugmentOptions(TypedDict):
    """Options of RandAugment.

    Attributes:
        operations: Number of operations per image.
        magnitude: Magnitude of the operations, from 0 to 30.
    """

    operations: Count
    magnitude: Annotated[int, Ge(0), Le(30)]


class ColorJitterOptions(TypedDict):
    """Options of color jitter.

    Attributes:
        brightness: Largest deviation of the factor from 1.
        contrast: Largest deviation of the factor from 1.
        saturation: Largest deviation of the factor from 1.
        hue: Largest shift, as a share of the full circle.
    """

    brightness: NotNegative
    contrast: NotNegative
    saturation: NotNegative
    hue: Annotated[float, Ge(0), Le(0.5)]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images: crop and flip, as in the paper; everything else is optional.

    The ranges of the crop are the released ones (paper, section 4.1).

    Attributes:
        crop_scale: Smallest and largest area of the crop, as a share of the image's area.
        crop_ratio: Smallest and largest width / height of the crop.
        flip: Probability of a horizontal flip.
        randaugment: Number of `operations` per image and their `magnitude` from 0 to 30 (arXiv
            1909.13719: 2 and 9 for ResNet-50 on ImageNet); None: off.
        color_jitter: Largest deviation of the factors of `brightness`, `contrast` and `saturation`
            from 1, and largest shift of `hue` as a share of the full circle; None: off.
        random_erasing: Probability that a rectangle is replaced by noise (arXiv 1708.04896).
        repeats: Number of times that an epoch shows an image, each with another augmentation; it
            then shows that many times fewer images (arXiv 1902.05509).
        extra: Your own transforms of albumentations, applied last, at the size of the network's
            input.
    """

    crop_scale: ShareRange = (0.08, 1.0)
    crop_ratio: PositiveRange = (0.75, 1.3333)
    flip: Probability = 0.5
    randaugment: RandAugmentOptions | None = None
    color_jitter: ColorJitterOptions | None = None
    random_erasing: Probability = 0.0
    repeats: Count = 1
    extra: Sequence[Transform] = ()


def random_box(size: Size, scale: Range, ratio: Range, random: Random) -> Box | None:
    """Draw a rectangle within an image: uniform area, log-uniform ratio, uniform position.

    The algorithm is that of torchvision's RandomResizedCrop and RandomErasing.

    Args:
        size: Height and width of the image.
        scale: Smallest and largest area, as a share of the image's area.
        ratio: Smallest and largest width / height.
        random: Random number generator.

    Returns:
        Rectangle, or None if ten draws were all taller or wider than the image.
    """
    for _ in range(10):
        area = size[0] * size[1] * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < height <= size[0] and 0 < width <= size[1]:
            top, left = random.randint(0, size[0] - height), random.randint(0, size[1] - width)
            return top, left, height, width
    return None


def central_box(size: Size, ratio: Range) -> Box:
    """Return the largest rectangle at the center of an image whose width / height is in a range."""
    height = min(size[0], max(1, round(size[1] / ratio[0])))
    width = min(size[1], max(1, round(size[0] * ratio[1])))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


class RandAugment:
    """Random operations from a set of fourteen, all of the same magnitude (arXiv 1909.13719).

    The implementation is torchvision's.

    Args:
        operations: Number of operations per image.
        magnitude: Magnitude of the operations, from 0 to 30.
    """

    def __init__(self, operations: int, magnitude: int) -> None:
        self.augment = v2.RandAugment(operations, magnitude)

    def __call__(self, image: Image, random: Random) -> Image:
        """Augment an image, `(H, W, C)`; the shape stays."""
        with torch.random.fork_rng(devices=[]):
            # `torch.manual_seed` would also seed the devices of the main process.
            torch.default_generator.manual_seed(random.getrandbits(63))
            pixels = self.augment(torch.from_numpy(image).permute(2, 0, 1))
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in random order.

    Args:
        brightness: Largest deviation from 1; the factor is drawn from 1 - brightness to 1 +
            brightness.
        contrast: Largest deviation from 1 of the contrast's factor.
        saturation: Largest deviation from 1 of the saturation's factor.
        hue: Largest shift, as a share of the full circle; drawn from -hue to hue.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        self.jitter = albumentations.ColorJitter(brightness, contrast, saturation, hue, p=1.0)

    def __call__(self, image: Image, random: Random) -> Image:
        """Augment an image, `(H, W, C)`; the shape stays."""
        self.jitter.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
        return self.jitter(image=image)["image"]


class RandomErasing:
    """Replacement of a random rectangle by noise (arXiv 1708.04896).

    Args:
        probability: Probability that an image is changed.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image, random: Random) -> Image:
        """Augment an image, `(H, W, C)`, in place."""
        if random.random() < self.probability:
            box = random_box(image.shape[:2], ERASED_SHARE, ERASED_RATIO, random)
            if box is not None:
                top, left, height, width = box
                hole = image[top : top + height, left : left + width]
                hole[:] = np.frombuffer(random.randbytes(hole.size), np.uint8).reshape(hole.shape)
        return image


class TrainTransform:
    """Random augmentation that depends only on (seed, epoch, sample, copy).

    Args:
        augmentation: Augmentation to draw from.
        seed: Seed of the run.
    """

    def __init__(self, augmentation: Augmentation, seed: int) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.options = list(self._options())

    def _options(self) -> Iterator[Callable[[Image, Random], Image]]:
        wanted = self.augmentation
        if wanted.randaugment is not None:
            yield RandAugment(**wanted.randaugment)
        if wanted.color_jitter is not None:
            yield ColorJitter(**wanted.color_jitter)
        if wanted.random_erasing:
            yield RandomErasing(wanted.random_erasing)
        if wanted.extra:
            yield ExtraTransforms(wanted.extra).image

    def __call__(self, image: Image, key: SampleKey) -> Image:
        """Map an image, `(H, W, C)`, to `(*key.size, C)`."""
        random = Random(f"{self.seed} {key.epoch} {key.sample} {key.copy}")  # hashed with SHA-512
        scale, ratio = self.augmentation.crop_scale, self.augmentation.crop_ratio
        size = image.shape[:2]
        top, left, height, width = random_box(size, scale, ratio, random) or central_box(
            size, ratio
        )
        crop = image[top : top + height, left : left + width]
        image = resized(crop, key.size)
        if random.random() < self.augmentation.flip:
            image = mirrored(image)
        for option in self.options:
            image = option(image, random)
        return image


class EvalTransform:
    """Resizing to cover 9/8 of the input size, with the aspect ratio kept, then a center crop."""

    @staticmethod
    def cover(size: Size) -> Size:
        """Return the height and width that an image is resized to cover, in pixels."""
        return round(size[0] * RESIZE_RATIO), round(size[1] * RESIZE_RATIO)

    def __call__(self, image: Image, key: SampleKey) -> Image:
        """Map an image, `(H, W, C)`, to `(*key.size, C)`, without randomness."""
        height, width = key.size
        cover_height, cover_width = self.cover(key.size)
        scale = max(cover_height / image.shape[0], cover_width / image.shape[1])
        # Without the tolerance, rounding could remove a pixel from a side that fits exactly.
        rows, columns = (math.floor(length * scale + 1e-6) for length in image.shape[:2])
        covering = resized(image, (rows, columns))
        top, left = (rows - height) // 2, (columns - width) // 2
        return covering[top : top + height, left : left + width]
