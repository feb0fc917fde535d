"""scikit-learn's handwritten digits, with one split for all demonstration data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

VAL_EVERY = 5  # every fifth image of a class is a validation image: 1,442 train, 355 val


class Digit(NamedTuple):
    """One of the 1,797 images of handwritten digits.

    Attributes:
        number: Number of the image, counted from 0.
        label: Digit that it shows.
        split: Split that it belongs to, `train` or `val`.
        pixels: Amount of ink from 0 to 1, `(8, 8)` float64.
    """

    number: int
    label: int
    split: str
    pixels: npt.NDArray[np.float64]


def read_digits() -> Iterator[Digit]:
    """Yield all digits in order, from the files that scikit-learn ships."""
    from sklearn.datasets import load_digits  # slow to import, and only needed once

    digits = load_digits()
    count = [0] * 10
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = "val" if count[label] % VAL_EVERY == VAL_EVERY - 1 else "train"
        count[label] += 1
        yield Digit(number, int(label), split, pixels / 16)  # stored values are 0 to 16
