"""Drawn scenes for the demonstration data: handwritten digits on colored stickers.

The same scenes are used for the detection and the segmentation data. Annotations are computed by
NumPy only, from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.data.demo.backgrounds import Pixels, Rng, color, make_background
from parcnet_train.data.demo.digits import Digit, read_digits

SEED = 2203
COUNTS = {"train": 960, "val": 120}  # scenes per split
SIZES = ((192, 192), (176, 208), (208, 176))  # height and width, in pixels
STICKERS = (1, 4)  # fewest and most per scene
DIAMETER = (0.3, 0.5)  # smallest and largest, as a share of the image's shorter side
# Smallest visible share of a plate and of its inner part; digits hidden further are hard to read.
MIN_VISIBLE = 0.6
INNER = 0.3  # distance from a plate's edge to its inner part, in radii
TILT = 0.2  # largest angle in either direction, in radians
RIM = 0.08  # width of a plate's rim, in radii
QUALITY = 90  # JPEG quality
SHADOW = np.array([[1, 0, 1.5], [0, 1, 2.0]])  # offset to the right and down, in pixels

Window = tuple[slice, slice]  # rows and columns


class Sticker(NamedTuple):
    """Digit on a plate.

    Attributes:
        digit: Digit that it shows.
        x: Horizontal position of the center in pixels; the center of the first pixel is 0.
        y: Vertical position of the center in pixels.
        radius: Radius of a circle, or half a side of a square, in pixels.
        angle: Clockwise rotation in radians.
        is_round: Whether the plate is a circle or a square.
    """

    digit: Digit
    x: float
    y: float
    radius: float
    angle: float
    is_round: bool

    def window(self, height: int, width: int) -> Window:
        """Return the rows and columns of an image that the sticker and its shadow may cover."""
        reach = 1.3 * self.radius + 10  # a tilted square's corners, and the shadow
        top, left = (max(0, int(center - reach)) for center in (self.y, self.x))
        bottom, right = (int(center + reach) + 1 for center in (self.y, self.x))
        return slice(top, min(bottom, height)), slice(left, min(right, width))

    def turned(self, window: Window) -> tuple[Pixels, Pixels]:
        """Return the offsets of pixels from the center, along the axes of the rotated plate."""
        y, x = (side.astype(np.float32) for side in np.ogrid[window])
        right, down = x - np.float32(self.x), y - np.float32(self.y)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return right * cos + down * sin, down * cos - right * sin

    def depth(self, window: Window) -> Pixels:
        """Return the distances in pixels from the plate's edge; negative outside the plate."""
        right, down = self.turned(window)
        radius = np.float32(self.radius)
        if self.is_round:
            return radius - np.hypot(right, down)
        corner = radius / 4  # radius of a rounded corner
        right, down = (np.abs(side) - (radius - corner) for side in (right, down))
        outside = np.hypot(np.maximum(right, 0), np.maximum(down, 0))
        return corner - outside - np.minimum(np.maximum(right, down), 0)


@dataclass(frozen=True)
class Scene:
    """Image with its stickers.

    Attributes:
        image: Image, `(height, width, 3)` uint8, RGB.
        stickers: Stickers from bottom to top.
        owners: Sticker visible at each pixel, counted from 1; 0: background. `(height, width)`
            uint8.
    """

    image: npt.NDArray[np.uint8]
    stickers: list[Sticker]
    owners: npt.NDArray[np.uint8]


def draw_scenes(split: str) -> Iterator[tuple[int, Scene]]:
    """Draw all scenes of a split, the same ones in every call.

    Args:
        split: Split of the scenes and of their digits, `train` or `val`.

    Yields:
        Number of the scene, counted from 1 through both splits, and the scene.
    """
    half = list(COUNTS).index(split)
    digits = [digit for digit in read_digits() if digit.split == split]
    # Every digit is shown once before any is shown again.
    order = cycle(np.random.default_rng([SEED, half]).permutation(len(digits)))
    before = sum(list(COUNTS.values())[:half])
    for number in range(1, COUNTS[split] + 1):
        rng = np.random.default_rng([SEED, half, number])
        count = rng.integers(*STICKERS, endpoint=True)
        yield before + number, draw_scene([digits[next(order)] for _ in range(count)], rng)


def draw_scene(digits: list[Digit], rng: Rng) -> Scene:
    """Draw a scene of the given digits, the last one on top.

    Args:
        digits: Digits to show, one per sticker.
        rng: Random number generator.
    """
    height, width = SIZES[rng.integers(len(SIZES))]
    stickers, owners = _place(digits, height, width, rng)
    image = make_background(height, width, rng)
    for sticker in stickers:
        paste(image, sticker, rng)
    return Scene(_photograph(image, rng), stickers, owners)


def _place(
    digits: list[Digit], height: int, width: int, rng: Rng
) -> tuple[list[Sticker], npt.NDArray[np.uint8]]:
    """Draw positions until enough of every sticker is visible."""
    while True:
        stickers = [_draw_sticker(digit, height, width, rng) for digit in digits]
        owners = np.zeros((height, width), np.uint8)
        for number, sticker in enumerate(stickers, 1):
            window = sticker.window(height, width)
            owners[window][sticker.depth(window) >= 0] = number
        if all(_is_seen(sticker, owners == n) for n, sticker in enumerate(stickers, 1)):
            return stickers, owners


def _is_seen(sticker: Sticker, visible: npt.NDArray[np.bool_]) -> bool:
    window = sticker.window(*visible.shape)
    depth = sticker.depth(window)
    parts = (depth >= 0, depth >= INNER * sticker.radius)
    return all(visible[window][part].mean() >= MIN_VISIBLE for part in parts)


def _draw_sticker(digit: Digit, height: int, width: int, rng: Rng) -> Sticker:
    radius = rng.uniform(*DIAMETER) * min(height, width) / 2
    # The center keeps such a distance from the image's edge that most of the plate is inside.
    margin = 0.8 * radius
    return Sticker(
        digit,
        x=rng.uniform(margin, width - margin),
        y=rng.uniform(margin, height - margin),
        radius=radius,
        angle=rng.uniform(-TILT, TILT),
        is_round=bool(rng.integers(2)),
    )


def paste(image: Pixels, sticker: Sticker, rng: Rng) -> None:
    """Draw a sticker and its shadow into an image.

    Args:
        image: Image, `(height, width, 3)`, changed in place.
        sticker: Sticker to draw.
        rng: Random number generator, used for the colors.
    """
    window = sticker.window(*image.shape[:2])
    part, depth = image[window], sticker.depth(window)
    plate, rim, ink = _colors(rng)
    shadow = cv2.GaussianBlur(_cover(depth), (0, 0), 2.5)
    shadow = cv2.warpAffine(shadow, SHADOW, shadow.shape[::-1])
    _blend(part, np.zeros(3, np.float32), np.float32(0.4) * shadow)
    _blend(part, rim, _cover(depth))
    _blend(part, plate, _cover(depth - np.float32(RIM * sticker.radius)))
    _blend(part, ink, _strokes(sticker, window))


def _cover(depth: Pixels) -> Pixels:
    """Return the share of each pixel inside a shape, given the pixels' distances from its edge."""
    return np.clip(depth + 0.5, 0, 1)


def _blend(image: Pixels, paint: Pixels, share: Pixels) -> None:
    image += (paint - image) * share[..., None]


def _colors(rng: Rng) -> tuple[Pixels, Pixels, Pixels]:
    """Return the colors of plate, rim and ink: dark ink on light plates."""
    hue, ink_hue = rng.uniform(), rng.uniform()
    saturation = rng.uniform(0.15, 0.6)
    ink = color(ink_hue, 0.7, rng.uniform(0.05, 0.25))
    rim = color(0, 0, 0.95) if rng.integers(2) else color(hue, saturation, 0.6)
    return color(hue, saturation, 1.0), rim, ink


def _strokes(sticker: Sticker, window: Window) -> Pixels:
    """Return the share of each pixel that ink covers: upsampled 8x8 pixels with sharpened edges."""
    pixels = np.pad(sticker.digit.pixels.astype(np.float32), 1)
    fine = cv2.resize(pixels, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(fine, (0, 0), 1.5)
    # Open narrow holes.
    fine = cv2.addWeighted(fine, 1.6, cv2.GaussianBlur(fine, (0, 0), 8), -0.6, 0)
    side = (1.5 if sticker.is_round else 1.65) * sticker.radius  # fills most of the plate
    scale = np.float32(64 / side)
    right, down = (distance * scale + np.float32(39.5) for distance in sticker.turned(window))
    ink = cv2.remap(fine, right, down, cv2.INTER_LINEAR)
    return np.clip((ink - 0.35) / 0.35, 0, 1)


def _photograph(image: Pixels, rng: Rng) -> npt.NDArray[np.uint8]:
    """Add light from one side and camera noise."""
    height, width, _ = image.shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    direction = rng.uniform(0, 2 * np.pi)
    light = 0.95 + 0.1 * (x * np.cos(direction) + y * np.sin(direction))
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0.01, 0.025))
    lit = image * light.astype(np.float32)[..., None] + noise[..., None]
    return np.clip(lit * 255, 0, 255).round().astype(np.uint8)
