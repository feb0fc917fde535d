"""SSD's photometric distortion, with the values of the release."""

from __future__ import annotations

from random import Random

import albumentations
import cv2
import numpy as np

from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image

# Released values. Factors are drawn from 1 - x to 1 + x, shifts from -x to x.
DISTORTION_PROBABILITY = 0.5  # of each distortion
CONTRAST = 0.5
BRIGHTNESS = 0.2  # in units of the largest pixel value
SATURATION = 0.5
HUE = 0.05 * 255  # in OpenCV's units, 180 for the full circle


class PhotometricDistortion:
    """Random contrast, brightness, saturation, hue and channel order, as released.

    One difference: the hue wraps around at both ends of its circle, while the release stops below
    red. Images other than RGB get only contrast and brightness.
    """

    def __init__(self) -> None:
        # Contrast and brightness are one operation because only their combined result is clipped.
        self.tones = {
            (contrast, brightness): albumentations.RandomBrightnessContrast(
                BRIGHTNESS * brightness, CONTRAST * contrast, p=1.0
            )
            for contrast in (False, True)
            for brightness in (False, True)
        }
        self.hue = albumentations.HueSaturationValue(HUE, 0, 0, p=1.0)
        self.shuffle = albumentations.ChannelShuffle(p=1.0)

    def __call__(self, image: Image, random: Random) -> Image:
        """Distort an image, `(H, W, C)`; the shape stays."""
        draws = (random.random() < DISTORTION_PROBABILITY for _ in range(6))
        contrast, brightness, saturation, hue, late_contrast, shuffle = draws
        if contrast or brightness:
            image = apply(self.tones[contrast, brightness], image, random)
        has_colors = image.shape[2] == RGB
        if saturation and has_colors:
            image = scale_saturation(image, random.uniform(1 - SATURATION, 1 + SATURATION))
        if hue and has_colors:
            image = apply(self.hue, image, random)
        if late_contrast and not contrast:
            image = apply(self.tones[True, False], image, random)
        return apply(self.shuffle, image, random) if shuffle and has_colors else image


def apply(operation: albumentations.ImageOnlyTransform, image: Image, random: Random) -> Image:
    """Apply an albumentations transform with `random` as its random number generator."""
    operation.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
    return operation(image=image)["image"]


def scale_saturation(image: Image, factor: float) -> Image:
    """Multiply the saturation (HSV); albumentations can only shift it."""
    table = (np.arange(256) * factor).clip(0, 255).astype(np.uint8)
    colors = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    colors[..., 1] = cv2.LUT(colors[..., 1], table)
    return cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)
