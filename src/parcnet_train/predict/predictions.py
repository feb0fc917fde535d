"""What networks say of an image, a type per task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 5  # objects or classes that a line names


@dataclass(frozen=True)
class Classified:
    """The likeliest classes of an image, best first.

    Attributes:
        names: of the classes.
        labels: their indices.
        probabilities: theirs, 0 to 1.
    """

    names: list[str]
    labels: list[int]
    probabilities: list[float]

    def in_words(self) -> str:
        """One line."""
        pairs = zip(self.names, self.probabilities, strict=True)
        return ", ".join(f"{name} {probability:.3f}" for name, probability in pairs)


@dataclass(frozen=True)
class Detected:
    """Objects of an image, best first.

    Attributes:
        names: of their classes.
        labels: `(n,)` int64, class indices from 1.
        scores: `(n,)` float32, probabilities.
        boxes: `(n, 4)` float32, left, top, right, bottom, in pixels of the image as it was read.
        size: its height and width.
    """

    names: list[str]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    size: tuple[int, int]

    def captions(self) -> list[str]:
        """Name and score of every object."""
        pairs = zip(self.names, self.scores.tolist(), strict=True)
        return [f"{name} {score:.2f}" for name, score in pairs]

    def in_words(self) -> str:
        """One line."""
        count = len(self.names)
        more = ", ..." if count > SHOWN else ""
        objects = f"{count} object{'' if count == 1 else 's'}"
        return f"{objects}{': ' if count else ''}{', '.join(self.captions()[:SHOWN])}{more}"


@dataclass(frozen=True)
class Segmented:
    """The class of every pixel.

    Attributes:
        mask: `(h, w)` uint8, class indices, of the size of the image as it was read.
        class_names: in the order of the indices.
    """

    mask: npt.NDArray[np.uint8]
    class_names: list[str]

    def shares(self) -> dict[str, float]:
        """Classes of the image with their shares of its pixels, the largest first."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.class_names))
        order = np.argsort(-counts, kind="stable")
        size = self.mask.size
        return {self.class_names[k]: int(counts[k]) / size for k in order if counts[k]}

    def in_words(self) -> str:
        """One line."""
        shares = self.shares()
        more = ", ..." if len(shares) > SHOWN else ""
        return ", ".join(f"{k} {100 * v:.1f} %" for k, v in [*shares.items()][:SHOWN]) + more


Prediction = Classified | Detected | Segmented
