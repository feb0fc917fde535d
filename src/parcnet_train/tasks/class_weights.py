"""Weights of the classes in a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from parcnet_train.config.sections import ClassWeights
from parcnet_train.errors import ConfigError


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


def weights_of(weights: ClassWeights, num_classes: int, data: Any, like: Tensor) -> Tensor | None:
    """Return the weight of every class, `(K,)`, or None without weights.

    Args:
        weights: Weights, or `balanced`.
        num_classes: Number of classes K.
        data: Data module, whose training set counts its labels for `balanced`.
        like: Tensor that gives the device.
    """
    if weights is None:
        return None
    if weights == "balanced":
        weights = balanced_weights(data.train_set.class_counts(num_classes)).tolist()
    return torch.tensor(weights, dtype=torch.float32, device=like.device)


def weights_of_labels(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of every image, `(B,)`.

    Args:
        labels: Class indices `(B,)`, or shares of the classes `(B, K)`.
        weights: Weights of the classes `(K,)`.
    """
    return weights[labels] if labels.dim() == 1 else labels.to(weights.dtype) @ weights
