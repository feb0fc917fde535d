"""From a decoded image to one of the network's input size."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import albumentations
import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.samplers import SampleKey, Size

Image = npt.NDArray[Any]  # (H, W, 3) uint8, RGB

# Short side before the central crop, in units of the crop: 288 for 256 (released value).
RESIZE_RATIO = 288 / 256


@dataclass(frozen=True)
class Augmentation:
    """Random crop and flip of training images (paper, section 4.1; ranges as released).

    Attributes:
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height.
        flip: probability of mirroring left and right.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3333)
    flip: float = 0.5


class TrainTransform:
    """Random resized crop and flip, drawn from (seed, epoch, sample, copy) and nothing else.

    Args:
        augmentation: ranges to draw from.
        seed: of the run.
    """

    def __init__(self, augmentation: Augmentation, seed: int) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.compose = cache(self._compose)  # one per size

    def _compose(self, size: Size) -> Any:
        ranges = self.augmentation
        return albumentations.Compose(
            [
                albumentations.RandomResizedCrop(
                    size=size,
                    scale=tuple(ranges.crop_scale),
                    ratio=tuple(ranges.crop_ratio),
                    interpolation=cv2.INTER_LINEAR,
                ),
                albumentations.HorizontalFlip(p=ranges.flip),
            ]
        )

    def __call__(self, image: Image, key: SampleKey) -> Image:
        """Maps `(H, W, 3)` to `(*key.size, 3)`."""
        entropy = [self.seed, key.epoch, key.sample, key.copy]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        compose = self.compose(key.size)
        # Not `set_random_seed`, which starts every transform at the same number: the share of the
        # area would decide the flip.
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return compose(image=image)["image"]


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
