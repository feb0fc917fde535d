"""Non-maximum suppression in plain PyTorch, for where torchvision's binary is absent."""

from __future__ import annotations

import torch
from torch import Tensor

from parcnet_train.detection.boxes import pairwise_iou

BLOCK = 512  # boxes that are compared with all others at once


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps boxes, best first, that overlap no better kept one; as `torchvision.ops.nms` does.

    Args:
        boxes: `(n, 4)` corners.
        scores: `(n,)`.
        iou_threshold: boxes that overlap more are one.

    Returns:
        Indices of the kept boxes, int64, by decreasing score, the first of equals first.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in torch.split(order, BLOCK):
        suppressed = pairwise_iou(boxes[kept], boxes[block]) > iou_threshold
        kept = torch.cat((kept, block[greedy(boxes[block], ~suppressed.any(dim=0), iou_threshold)]))
    return kept


def greedy(boxes: Tensor, alive: Tensor, iou_threshold: float) -> Tensor:
    """Which of some boxes, best first, are kept.

    Args:
        boxes: `(n, 4)` corners.
        alive: `(n,)`, which of them no better box has suppressed already.
        iou_threshold: boxes that overlap more are one.

    Returns:
        `(n,)` bool.
    """
    better = (pairwise_iou(boxes, boxes) > iou_threshold).triu(diagonal=1).float()
    kept, before = alive, torch.zeros_like(alive)
    # After i rounds, boxes with fewer than i better ones above each other are decided.
    while not torch.equal(kept, before):
        before = kept
        kept = alive & (before.float() @ better == 0)
    return kept
