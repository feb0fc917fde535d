"""The photometric distortion of SSD, as the release draws it."""

from __future__ import annotations

from random import Random

import albumentations
import cv2
import numpy as np

from parcnet_train.data.decoding import Image

# Released values: factors from 1 - x to 1 + x, shifts from -x to x.
DISTORTION_PROBABILITY = 0.5  # of each
CONTRAST = 0.5
BRIGHTNESS = 0.2  # of the brightest
SATURATION = 0.5
HUE = 0.05 * 255  # in OpenCV's units, of which 180 make the circle


class PhotometricDistortion:
    """Random contrast, brightness, saturation, hue and order of channels, as released.

    One difference: the hue goes round its circle at both ends, where the release stops below red.
    """

    def __init__(self) -> None:
        # One operation for contrast and brightness, since only their sum is limited to 0 to 255.
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
        """Maps `(H, W, 3)` to the same shape."""
        draws = (random.random() < DISTORTION_PROBABILITY for _ in range(6))
        contrast, brightness, saturation, hue, late_contrast, shuffle = draws
        if contrast or brightness:
            image = apply(self.tones[contrast, brightness], image, random)
        if saturation:
            image = scale_saturation(image, random.uniform(1 - SATURATION, 1 + SATURATION))
        if hue:
            image = apply(self.hue, image, random)
        if late_contrast and not contrast:
            image = apply(self.tones[True, False], image, random)
        return apply(self.shuffle, image, random) if shuffle else image


def apply(operation: albumentations.ImageOnlyTransform, image: Image, random: Random) -> Image:
    """Does an operation of albumentations, which draws from `random`."""
    operation.set_random_state(np.random.default_rng(random.getrandbits(64)), random)
    return operation(image=image)["image"]


def scale_saturation(image: Image, factor: float) -> Image:
    """Multiplies the saturation of HSV, which albumentations can only shift."""
    table = (np.arange(256) * factor).clip(0, 255).astype(np.uint8)
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    colours[..., 1] = cv2.LUT(colours[..., 1], table)
    return cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
