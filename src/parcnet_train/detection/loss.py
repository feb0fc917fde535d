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

NEGATIVES = 3  # anchors without an object that count, per anchor with one (paper; released value)


class MultiboxLoss(NamedTuple):
    """Sums of each image, float32 at least; a batch's loss is their sum over all its positives."""

    boxes: Tensor  # (B,), smooth L1 of the offsets
    classes: Tensor  # (B,), cross entropy
    positives: Tensor  # (B,) int64, anchors that have an object to find


def multibox_loss(
    outputs: DetectionOutputs, boxes: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> MultiboxLoss:
    """Matches, mines and sums up, for a whole batch on its device, without waiting for it.

    Offsets count smooth L1 (beta 1) on the positives, summed over the four; classes count cross
    entropy on the positives and on the negatives of `mine`. It is computed in float32 at least,
    whatever the network's precision. An image without objects counts nothing: 3 times 0 negatives.

    Args:
        outputs: of the head.
        boxes: `(B, N, 4)` corners, as shares of the image.
        labels: `(B, N)` class indices from 1; `UNLABELED`: padding.
        label_smoothing: share of the target that all classes divide, the background too (the paper
            says that it smooths, not how much; the release does not). Negatives are ranked without.

    Returns:
        Sums of each image, not divided by anything.
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
    """Cross entropy `(B, A)` of `(B, A, K)` to `(B, A)`, with smoothed labels."""
    flat = log_probabilities.flatten(0, 1)
    of_labels = functional.nll_loss(flat, labels.flatten(), reduction="none").view_as(labels)
    if not smoothing:
        return of_labels
    return (1 - smoothing) * of_labels - smoothing * log_probabilities.mean(dim=-1)


def mine(background_losses: Tensor, positive: Tensor) -> Tensor:
    """The anchors without an object that are least like background, 3 for each one with an object.

    Args:
        background_losses: `(B, A)`, -log of the background's probability.
        positive: `(B, A)`, which anchors have an object.

    Returns:
        `(B, A)`, which negatives count; the first of equals, in the order of the anchors.
    """
    ranked = background_losses.masked_fill(positive, -torch.inf)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    counted = torch.arange(order.shape[1], device=order.device) < NEGATIVES * positive.sum(
        dim=1, keepdim=True
    )
    return torch.zeros_like(positive).scatter(1, order, counted) & ~positive
