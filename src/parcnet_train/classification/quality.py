"""Quality of a classifier: confusion, precision, recall and F1 per class, calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 15  # bins of the confidence (arXiv 1706.04599, section 2)


class Scores(NamedTuple):
    """Precision, recall and F1 of every class, `(K,)` each.

    NaN where the denominator is zero: no prediction, no sample, or neither.
    """

    precision: Floats
    recall: Floats
    f1: Floats


class Calibration(NamedTuple):
    """How well probabilities fit the share of correct predictions, in bins of equal width."""

    counts: Integers  # (B,) predictions in each bin
    confidences: Floats  # (B,) mean confidence; NaN in empty bins
    accuracies: Floats  # (B,) share of correct predictions; NaN in empty bins
    error: float  # expected calibration error (ECE); NaN without a prediction


def confusion_matrix(truth: Integers, found: Integers, classes: int) -> Integers:
    """Count predictions by true and by predicted class.

    Args:
        truth: True class indices `(n,)`.
        found: Predicted class indices `(n,)`.
        classes: Number of classes K.

    Returns:
        `(K, K)`; the rows are the true classes.
    """
    counts = np.bincount(truth * classes + found, minlength=classes**2)
    return counts.reshape(classes, classes)


def scores_of(confusion: Integers) -> Scores:
    """Compute precision, recall and F1 of every class.

    Args:
        confusion: Counts `(K, K)` by true class and by predicted class.
    """
    hits = confusion.diagonal().astype(np.float64)
    found, objects = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return Scores(hits / found, hits / objects, 2 * hits / (found + objects))


def calibrate(confidences: Floats, hits: npt.NDArray[np.bool_], bins: int = BINS) -> Calibration:
    """Compare confidences with the share of correct predictions (arXiv 1706.04599, eq. 3).

    Args:
        confidences: Probabilities of the predicted classes `(n,)`, in [0, 1].
        hits: Whether the prediction is correct, `(n,)`.
        bins: Number of bins B; a bin includes its upper edge, the first one also 0.
    """
    index = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(index, confidences, bins) / counts
        shares = np.bincount(index, hits, bins) / counts
    gaps = np.nan_to_num(np.abs(means - shares)) * counts
    error = float(gaps.sum() / len(hits)) if len(hits) else float("nan")
    return Calibration(counts, means, shares, error)


def most_confused(confusion: Integers, count: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions: true class, predicted class and number, most first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = (divmod(int(each), len(wrong)) for each in order)
    return [(true, found, int(wrong[true, found])) for true, found in pairs if wrong[true, found]]
