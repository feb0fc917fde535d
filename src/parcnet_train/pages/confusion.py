"""Confusion matrices on a page, which all tasks have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from parcnet_train.pages.figures import MOST_CLASSES, matrix
from parcnet_train.pages.parts import Drawing

Integers = npt.NDArray[np.int64]


def most_wrong(confusion: Integers) -> list[int]:
    """Return the classes with the most errors, at most `MOST_CLASSES`, in their order."""
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())


def confusion_drawings(
    confusion: Integers, shown: Sequence[int], labels: Sequence[str], unit: str | None, alt: str
) -> list[Drawing]:
    """Draw the counts of a confusion matrix, and their shares of the true classes.

    Args:
        confusion: Counts `(K, K)` by true and by predicted class.
        shown: Classes to draw.
        labels: Their names.
        unit: Title of the counts: what is counted; None: only the shares are drawn.
        alt: Description of both.
    """
    part = confusion[np.ix_(shown, shown)]
    shares = 100 * part / np.maximum(confusion[shown].sum(axis=1, keepdims=True), 1)
    return [
        Drawing(
            f"confusion_{key}",
            matrix(title, values, labels, "predicted", "true"),
            f"Confusion matrix, {key}. {alt}",
        )
        for key, title, values in (
            ("counts", unit, part),
            ("normalized", "Share of the true class, %", shares),
        )
        if title is not None
    ]
