"""Predictions for one image, one type per task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 5  # objects or classes that a line of text lists


@dataclass(frozen=True)
class Classified:
    """The most probable classes of an image, best first.

    Attributes:
        names: Names of the classes.
        labels: Indices of the classes.
        probabilities: Probabilities of the classes, in [0, 1].
    """

    names: list[str]
    labels: list[int]
    probabilities: list[float]

    def in_words(self) -> str:
        """Return the prediction as one line of text."""
        pairs = zip(self.names, self.probabilities, strict=True)
        return ", ".join(f"{name} {probability:.3f}" for name, probability in pairs)


@dataclass(frozen=True)
class Detected:
    """The objects of an image, best first.

    Attributes:
        names: Names of their classes.
        labels: Class indices from 1, `(n,)` int64.
        scores: Probabilities, `(n,)` float32.
        boxes: Boxes as left, top, right, bottom in pixels of the original image, `(n, 4)` float32.
        size: Height and width of the original image.
    """

    names: list[str]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    size: tuple[int, int]

    def captions(self) -> list[str]:
        """Return name and score of every object."""
        pairs = zip(self.names, self.scores.tolist(), strict=True)
        return [f"{name} {score:.2f}" for name, score in pairs]

    def in_words(self) -> str:
        """Return the prediction as one line of text."""
        count = len(self.names)
        more = ", ..." if count > SHOWN else ""
        objects = f"{count} object{'' if count == 1 else 's'}"
        return f"{objects}{': ' if count else ''}{', '.join(self.captions()[:SHOWN])}{more}"


@dataclass(frozen=True)
class Segmented:
    """The class of every pixel of an image.

    Attributes:
        mask: Class indices, `(h, w)` uint8, at the size of the original image.
        class_names: Names of the classes, in the order of the indices.
    """

    mask: npt.NDArray[np.uint8]
    class_names: list[str]

    def shares(self) -> dict[str, float]:
        """Return the classes in the image with their shares of its pixels, the largest first."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.class_names))
        order = np.argsort(-counts, kind="stable")
        size = self.mask.size
        return {self.class_names[k]: int(counts[k]) / size for k in order if counts[k]}

    def in_words(self) -> str:
        """Return the prediction as one line of text."""
        shares = self.shares()
        more = ", ..." if len(shares) > SHOWN else ""
        return ", ".join(f"{k} {100 * v:.1f} %" for k, v in [*shares.items()][:SHOWN]) + more


Prediction = Classified | Detected | Segmented
