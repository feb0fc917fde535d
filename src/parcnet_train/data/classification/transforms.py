"""From a decoded image to one of the network's input size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import albumentations
import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from parcnet_train.data.decoding import Image
from parcnet_train.data.samplers import SampleKey
from parcnet_train.sizes import Size

Range = tuple[float, float]
Box = tuple[int, int, int, int]  # top, left, height, width, in pixels

# Short side before the central crop, in units of the crop: 288 for 256 (released value).
RESIZE_RATIO = 288 / 256

# Of the rectangle that random erasing fills with noise (arXiv 1708.04896, section 4.2).
ERASED_SHARE = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)


@dataclass(frozen=True)
class Augmentation:
    """What training draws for every image: a crop and a flip in the paper, the rest on request.

    The ranges of the crop are the released ones (paper, section 4.1).

    Attributes:
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height.
        flip: probability of mirroring left and right.
        randaugment: how many `operations` an image gets, and their `magnitude` from 0 to 30 (arXiv
            1909.13719: 2 and 9 for ResNet-50 on ImageNet); None: off.
        color_jitter: how far the factors of `brightness`, `contrast` and `saturation` may be from
            1, and how far `hue` may turn, in turns; None: off.
        random_erasing: probability that a rectangle becomes noise (arXiv 1708.04896).
        repeats: times that an epoch shows an image, each augmented anew, while it shows that many
            times fewer images (arXiv 1901.09335).
    """

    crop_scale: Range = (0.08, 1.0)
    crop_ratio: Range = (0.75, 1.3333)
    flip: float = 0.5
    randaugment: Mapping[str, int] | None = None
    color_jitter: Mapping[str, float] | None = None
    random_erasing: float = 0.0
    repeats: int = 1


def random_box(size: Size, scale: Range, ratio: Range, random: Random) -> Box | None:
    """Draws a rectangle inside an image: uniform area, log-uniform ratio, uniform position.

    As torchvision's RandomResizedCrop and RandomErasing do.

    Args:
        size: of the image.
        scale: smallest and largest share of its area.
        ratio: smallest and largest width / height.
        random: to draw from.

    Returns:
        None where ten draws were all higher or wider than the image.
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
    """The largest rectangle in the middle of an image whose width / height is in a range."""
    height = min(size[0], max(1, round(size[1] / ratio[0])))
    width = min(size[1], max(1, round(size[0] * ratio[1])))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


class RandAugment:
    """Operations drawn from fourteen, all of one strength (arXiv 1909.13719), as in torchvision.

    Args:
        operations: per image.
        magnitude: from 0 to 30.
    """

    def __init__(self, operations: int, magnitude: int) -> None:
        self.augment = v2.RandAugment(operations, magnitude)

    def __call__(self, image: Image, random: Random) -> Image:
        """Maps `(H, W, 3)` to the same shape."""
        with torch.random.fork_rng(devices=[]):
            # Not `torch.manual_seed`, which would seed the devices of the main process too.
            torch.default_generator.manual_seed(random.getrandbits(63))
            pixels = self.augment(torch.from_numpy(image).permute(2, 0, 1))
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in random order.

    Args:
        brightness: the factor is drawn from 1 - brightness to 1 + brightness.
        contrast: the same.
        saturation: the same.
        hue: the turn is drawn from -hue to hue.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        self.jitter = albumentations.ColorJitter(brightness, contrast, saturation, hue, p=1.0)

    def __call__(self, image: Image, random: Random) -> Image:
        """Maps `(H, W, 3)` to the same shape."""
        self.jitter.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
        return self.jitter(image=image)["image"]


class RandomErasing:
    """Fills a rectangle with noise (arXiv 1708.04896).

    Args:
        probability: of doing so.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image, random: Random) -> Image:
        """Changes `(H, W, 3)` in place."""
        if random.random() < self.probability:
            box = random_box(image.shape[:2], ERASED_SHARE, ERASED_RATIO, random)
            if box is not None:
                top, left, height, width = box
                hole = image[top : top + height, left : left + width]
                hole[:] = np.frombuffer(random.randbytes(hole.size), np.uint8).reshape(hole.shape)
        return image


class TrainTransform:
    """The augmentation of an image, drawn from (seed, epoch, sample, copy) and nothing else.

    Args:
        augmentation: ranges to draw from.
        seed: of the run.
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

    def __call__(self, image: Image, key: SampleKey) -> Image:
        """Maps `(H, W, 3)` to `(*key.size, 3)`."""
        random = Random(f"{self.seed} {key.epoch} {key.sample} {key.copy}")  # hashed with SHA-512
        scale, ratio = self.augmentation.crop_scale, self.augmentation.crop_ratio
        size = image.shape[:2]
        top, left, height, width = random_box(size, scale, ratio, random) or central_box(
            size, ratio
        )
        crop = image[top : top + height, left : left + width]
        # Not antialiased, as released.
        image = cv2.resize(crop, key.size[::-1], interpolation=cv2.INTER_LINEAR)
        if random.random() < self.augmentation.flip:
            image = cv2.flip(image, 1)
        for option in self.options:
            image = option(image, random)
        return image


class EvalTransform:
    """Resizes until the image covers 9/8 of the input, aspect kept, and crops its centre."""

    def __call__(self, image: Image, key: SampleKey) -> Image:
        """Maps `(H, W, 3)` to `(*key.size, 3)`; nothing is random."""
        height, width = key.size
        cover_height, cover_width = (round(length * RESIZE_RATIO) for length in key.size)
        scale = max(cover_height / image.shape[0], cover_width / image.shape[1])
        # The slack keeps a side that fits exactly from losing a pixel to rounding.
        resized = [math.floor(length * scale + 1e-6) for length in image.shape[:2]]
        covering: Image = cv2.resize(image, resized[::-1], interpolation=cv2.INTER_LINEAR)
        top, left = (resized[0] - height) // 2, (resized[1] - width) // 2
        return covering[top : top + height, left : left + width]
