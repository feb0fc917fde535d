"""The predictions of a classifier on a whole set, gathered from all processes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from parcnet_train.data.batches import UNLABELED

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Predictions(NamedTuple):
    """The predictions of all evaluated images, in the order of the data set."""

    samples: Integers  # (n,) positions in the data set, each once
    labels: Integers  # (n,) true class indices
    classes: Integers  # (n,) most probable class indices
    confidences: Floats  # (n,) probabilities of these classes
    of_truth: Floats  # (n,) probabilities of the true classes


class GatherPredictions(Metric):
    """The predictions of all processes, independent of how the images are split over them."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    samples: list[Tensor]
    labels: list[Tensor]
    classes: list[Tensor]
    confidences: list[Tensor]
    of_truth: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in Predictions._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, samples: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Add a batch.

        Args:
            samples: Positions in the data set, `(B,)` int64.
            labels: True class indices `(B,)`; `UNLABELED` does not count.
            logits: Logits `(B, K)`.
        """
        probabilities = logits.float().softmax(dim=1)
        confidences, classes = probabilities.max(dim=1)
        self.samples.append(samples)
        self.labels.append(labels)
        self.classes.append(classes)
        self.confidences.append(confidences)
        self.of_truth.append(probabilities.gather(1, labels.clamp(min=0)[:, None])[:, 0])

    def compute(self) -> Predictions:
        """Return the predictions of all labeled images."""
        columns = [dim_zero_cat(getattr(self, name)).cpu().numpy() for name in Predictions._fields]
        samples, labels = columns[:2]
        _, first = np.unique(samples, return_index=True)
        rows = first[labels[first] != UNLABELED]
        integers = [each[rows].astype(np.int64) for each in columns[:3]]
        return Predictions(*integers, *(each[rows].astype(np.float64) for each in columns[3:]))
