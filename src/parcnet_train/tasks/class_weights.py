"""Weights of the classes in a loss, and the base of the tasks that have them."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from parcnet_train.config.sections import ClassWeights
from parcnet_train.errors import ConfigError
from parcnet_train.models.model import Model
from parcnet_train.tasks.base import Task, TaskArguments


class WeightedTask(Task):
    """Base of the tasks whose training loss may weight the classes.

    Args:
        model: Backbone and head.
        num_classes: Number of classes K.
        class_weights: Weights of the classes, or `balanced`; None: all equal.
        **shared: Arguments of `Task`.

    Raises:
        ConfigError: If there is not one weight per class.
    """

    def __init__(
        self,
        model: Model,
        num_classes: int,
        class_weights: ClassWeights,
        **shared: Unpack[TaskArguments],
    ) -> None:
        super().__init__(model, **shared)
        refuse_wrong_length(class_weights, num_classes)
        self.num_classes = num_classes
        self.class_weights = class_weights
        self.weights: Tensor | None = None  # (K,), on the device of the training

    def on_fit_start(self) -> None:
        """Compute the weights of the classes."""
        super().on_fit_start()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.weights = weights_of(self.class_weights, self.num_classes, data, self.device)


def refuse_wrong_length(weights: ClassWeights, num_classes: int) -> None:
    """Check that there is a weight for every class.

    Raises:
        ConfigError: If there are fewer or more.
    """
    if weights is not None and weights != "balanced" and len(weights) != num_classes:
        raise ConfigError(
            f"recipe.class_weights: the list has {len(weights)} weights; expected "
            f"{num_classes}, one per class in the order of the classes",
            "recipe.class_weights",
        )


def balanced_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return weights under which all classes together count equally, 1 on average.

    Args:
        counts: Number of images, or pixels, of every class, `(K,)`.

    Returns:
        `(K,)`: n / (k * n_c) for the n labels of k classes, n_c of them of class c; 1 for a class
        without labels.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, weights, 1.0)


def weights_of(
    weights: ClassWeights, num_classes: int, data: Any, device: torch.device
) -> Tensor | None:
    """Return the weight of every class, `(K,)`, or None without weights.

    Args:
        weights: Weights, or `balanced`.
        num_classes: Number of classes K.
        data: Data module, whose training set counts its labels for `balanced`.
        device: Device of the weights.
    """
    if weights is None:
        return None
    if weights == "balanced":
        weights = balanced_weights(data.class_counts(num_classes)).tolist()
    return torch.tensor(weights, dtype=torch.get_default_dtype(), device=device)


def weights_of_labels(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of every image, `(B,)`.

    Args:
        labels: Class indices `(B,)`, or shares of the classes `(B, K)`.
        weights: Weights of the classes `(K,)`.
    """
    return weights[labels] if labels.dim() == 1 else labels.to(weights.dtype) @ weights
