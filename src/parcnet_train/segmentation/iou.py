"""Intersection over union and pixel accuracy, from a confusion matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from parcnet_train.data.batches import IGNORED

CHUNK = 2**22  # pixels that are counted at once: 32 MiB for each number of a pixel


class Confusion(Metric):
    """Pixels by true class and by predicted class, of all images and processes.

    Memory does not depend on the size of an image. That of torchmetrics' matrix does: several
    numbers a pixel, and as many as the matrix has where algorithms are to be deterministic.

    Args:
        num_classes: K.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    pixels: Tensor  # (K, K) int64

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("pixels", counts, dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Adds an image.

        Args:
            found: `(H, W)`, class indices of whole numbers of any type.
            truth: `(H, W)`, the same, or `IGNORED`.
        """
        pairs = self.num_classes**2
        for predicted, true in zip(
            torch.split(found.flatten(), CHUNK), torch.split(truth.flatten(), CHUNK), strict=True
        ):
            index = true.long() * self.num_classes + predicted
            index = index.where(true != IGNORED, pairs)  # one more, which is left out
            counts = index.bincount(minlength=pairs + 1)[:pairs]
            self.pixels += counts.view_as(self.pixels)

    def compute(self) -> Tensor:
        """The matrix, `(K, K)` int64."""
        return self.pixels


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
