"""Intersection over union and pixel accuracy, from a confusion matrix."""

from __future__ import annotations

from torch import Tensor


def intersection_over_union(confusion: Tensor) -> Tensor:
    """IoU of every class (PASCAL VOC's measure).

    Args:
        confusion: `(K, K)` pixels, by true class and by predicted class.

    Returns:
        `(K,)` float64; not a number for a class that neither the labels nor the predictions have.
    """
    confusion = confusion.double()
    intersection = confusion.diagonal()
    return intersection / (confusion.sum(dim=0) + confusion.sum(dim=1) - intersection)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """Share of the labelled pixels whose class was found, a scalar float64."""
    return confusion.diagonal().sum().double() / confusion.sum()
