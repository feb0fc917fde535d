"""The loss of SSD (arXiv 1512.02325, section 2.2): boxes, and classes with mined negatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from parcnet_train.data.batches import BACKGROUND
from parcnet_train.detection.boxes import encode
from parcnet_train.detection.matching import match
from parcnet_train.detection.types import DetectionOutputs
from parcnet_train.precision import at_least_float32

NEGATIVES = 3  # negatives per positive anchor (paper; released value)


class MultiboxLoss(NamedTuple):
    """Sums per image, in float32 or wider; the loss of a batch is their sum per positive anchor."""

    boxes: Tensor  # (B,), smooth L1 of the offsets
    classes: Tensor  # (B,), cross entropy
    positives: Tensor  # (B,) int64, number of anchors with an object


def multibox_loss(
    outputs: DetectionOutputs, boxes: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> MultiboxLoss:
    """Compute the loss of every image of a batch on its device, without waiting for the device.

    Boxes contribute the smooth L1 loss (beta 1) of the positives' offsets, summed over the four
    offsets. Classes contribute the cross entropy of the positives and of the negatives chosen by
    `mine`. Both are computed in float32 or wider, whatever the precision of the network. An image
    without objects contributes nothing: it has 3 times 0 negatives.

    Args:
        outputs: Outputs of the head.
        boxes: Corners `(B, N, 4)`, as shares of the image.
        labels: Class indices `(B, N)` from 1; `UNLABELED` is padding.
        label_smoothing: Share of the target that is spread over all classes, including the
            background. The paper smooths without saying how much; the release does not smooth.
            Negatives are ranked without smoothing.

    Returns:
        Sums per image, not divided by anything.
    """
    anchors, class_logits = outputs.anchors, at_least_float32(outputs.class_logits)
    matches = match(anchors, boxes, labels)
    positive = matches.labels != BACKGROUND
    targets = encode(matches.boxes, anchors)
    offsets = at_least_float32(outputs.box_offsets)
    distances = functional.smooth_l1_loss(offsets, targets, reduction="none")
    log_probabilities = class_logits.log_softmax(dim=-1)
    counted = positive | mine(-log_probabilities[..., BACKGROUND].detach(), positive)
    entropies = cross_entropy(log_probabilities, matches.labels, label_smoothing)
    return MultiboxLoss(
        distances.sum(dim=-1).where(positive, 0).sum(dim=1),
        entropies.where(counted, 0).sum(dim=1),
        positive.sum(dim=1),
    )


def cross_entropy(log_probabilities: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Compute the cross entropy `(B, A)` of `(B, A, K)` with smoothed labels `(B, A)`."""
    flat = log_probabilities.flatten(0, 1)
    of_labels = functional.nll_loss(flat, labels.flatten(), reduction="none").view_as(labels)
    if not smoothing:
        return of_labels
    return (1 - smoothing) * of_labels - smoothing * log_probabilities.mean(dim=-1)


def mine(background_losses: Tensor, positive: Tensor) -> Tensor:
    """Select the negatives that look least like background, 3 for each anchor with an object.

    Args:
        background_losses: Negative log probability of the background, `(B, A)`.
        positive: Whether each anchor has an object, `(B, A)`.

    Returns:
        `(B, A)`: whether each anchor is a negative that counts; among equals, the first anchors
        count.
    """
    ranked = background_losses.masked_fill(positive, -torch.inf)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    counted = torch.arange(order.shape[1], device=order.device) < NEGATIVES * positive.sum(
        dim=1, keepdim=True
    )
    return torch.zeros_like(positive).scatter(1, order, counted) & ~positive
