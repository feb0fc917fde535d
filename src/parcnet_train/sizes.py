"""Sizes of images and numbers of channels."""

from __future__ import annotations

Size = tuple[int, int]  # height and width, in pixels


def make_divisible(value: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor`, at least 90 % of `value` (MobileNetV2's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
