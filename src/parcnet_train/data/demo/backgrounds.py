"""Textured backgrounds of drawn scenes: quiet patterns with a few faint shapes."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]  # (height, width, 3) RGB or (height, width), from 0 to 1
Rng = np.random.Generator


def make_background(height: int, width: int, rng: Rng) -> Pixels:
    """Draw a background in muted colors.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        rng: Random number generator.

    Returns:
        Image, `(height, width, 3)`.
    """
    hue, value = rng.uniform(), rng.uniform(0.4, 0.95)
    first = color(hue, rng.uniform(0.05, 0.4), value)
    second = color(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.05, 0.4), value * 0.8)
    share = _pattern(height, width, rng)[..., None]
    image = second + (first - second) * share
    for _ in range(rng.integers(0, 6)):
        _draw_shape(image, hue, rng)
    return image


def color(hue: float, saturation: float, value: float) -> Pixels:
    """Return red, green and blue, `(3,)`, of a color whose hue is a share of the full circle."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _smooth_noise(height: int, width: int, cells: int, rng: Rng) -> Pixels:
    """Return smooth random values around 0.5, `(height, width)`, from a `cells` x `cells` grid."""
    values = rng.random((cells, cells), dtype=np.float32)
    enlarged = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, np.float32)


def _pattern(height: int, width: int, rng: Rng) -> Pixels:
    """Return the share of the first of two colors at every pixel, `(height, width)`."""
    cloud = (
        _smooth_noise(height, width, 4, rng) + 0.5 * _smooth_noise(height, width, 16, rng) - 0.25
    )
    y, x = (side.astype(np.float32) for side in np.ogrid[:height, :width])
    angle, period = rng.uniform(0, np.pi), rng.uniform(9, 24)  # period in pixels
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    turns = np.float32(2 * np.pi / period)
    along, across = turns * (x * cos + y * sin), turns * (y * cos - x * sin)
    match rng.choice(["clouds", "wood", "stripes", "checks", "dots"]):
        case "clouds":
            wave = cloud * 2 - 1
        case "wood":
            wave = np.sin(along + 9 * cloud)
        case "stripes":
            wave = np.tanh(3 * np.sin(along))
        case "checks":
            wave = np.tanh(3 * np.sin(along) * np.sin(across))
        case _:
            wave = np.tanh(4 * (np.cos(along) + np.cos(across) - 1))
    share = 0.5 + np.float32(rng.uniform(0.15, 0.4)) * wave + 0.5 * (cloud - 0.5)
    return np.clip(share, 0, 1)


def _draw_shape(image: Pixels, hue: float, rng: Rng) -> None:
    """Draw a faint line, ellipse or rectangle at a random position."""
    height, width, _ = image.shape
    paint = color(hue + rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.45), rng.uniform(0.25, 0.9))
    layer, ink = image.copy(), tuple(map(float, paint))
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    a, b = (int(side) for side in rng.integers(8, 48, 2))
    angle = float(rng.uniform(0, 180))
    kind = rng.choice(["line", "ellipse", "rectangle"])
    if kind == "line":
        end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.line(layer, (x, y), end, ink, int(rng.integers(1, 5)), cv2.LINE_AA)
    elif kind == "ellipse":
        cv2.ellipse(layer, (x, y), (a, b), angle, 0, 360, ink, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints(((x, y), (2 * a, 2 * b), angle)).astype(np.int32)
        cv2.fillPoly(layer, [corners], ink, cv2.LINE_AA)
    image += (layer - image) * np.float32(rng.uniform(0.2, 0.6))
