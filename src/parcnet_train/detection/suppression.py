"""Non-maximum suppression in plain PyTorch, for where torchvision's binary is absent.

Which boxes overlap is computed for all pairs at once; what remains is to go through the boxes from
the best to the worst, and takes one operation on a row of bits for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from parcnet_train.detection.boxes import sides

PAIRS = 2**18  # that are compared at a time: some megabytes, which a cache holds


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps boxes, best first, that overlap no better kept one; as `torchvision.ops.nms` does.

    Args:
        boxes: `(n, 4)` corners.
        scores: `(n,)`.
        iou_threshold: of two boxes that overlap more, the worse one goes.

    Returns:
        Indices of the kept boxes, int64, by decreasing score, the first of equals first.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = keep_best(range(len(order)), overlap_bits(boxes[order], iou_threshold))
    return order[as_mask(kept, order.device)]


def keep_best(boxes: Sequence[int], overlaps: Sequence[int]) -> bytearray:
    """For each of some boxes a byte: 1 where it overlaps no kept one.

    Args:
        boxes: their numbers, from the best to the worst.
        overlaps: for each number, the boxes that it overlaps, as bits.
    """
    kept, removed = bytearray(len(boxes)), 0
    for place, box in enumerate(boxes):
        if not removed >> box & 1:
            kept[place] = 1
            removed |= overlaps[box]
    return kept


def as_mask(flags: bytes | bytearray, device: torch.device) -> Tensor:
    """Bytes of 0 and 1 as a tensor of bool."""
    return torch.tensor(np.frombuffer(flags, dtype=bool), device=device)


def overlap_bits(boxes: Tensor, iou_threshold: float) -> list[int]:
    """For each of `(n, 4)` boxes a number, whose bit i tells whether it overlaps box i too much."""
    bits = []
    for rows in torch.split(boxes, max(1, PAIRS // max(1, len(boxes)))):
        matrix = overlap(rows, boxes, iou_threshold).cpu().numpy()
        packed = np.packbits(matrix, axis=1, bitorder="little")
        bits += [int.from_bytes(row.tobytes(), "little") for row in packed]
    return bits


def overlap(boxes: Tensor, others: Tensor, iou_threshold: float) -> Tensor:
    """Whether IoUs of `(n, 4)` and `(m, 4)` boxes exceed a threshold, `(n, m)` bool.

    With few passes over the pairs: shared / (area + other - shared) > threshold is the same as
    (1 + threshold) * shared - threshold * area > threshold * other.
    """
    left, top, right, bottom = sides(boxes).unsqueeze(2)
    others_left, others_top, others_right, others_bottom = sides(others).unsqueeze(1)
    width = torch.minimum(right, others_right).sub_(torch.maximum(left, others_left)).clamp_(min=0)
    height = torch.minimum(bottom, others_bottom).sub_(torch.maximum(top, others_top))
    area = (right - left) * (bottom - top) * iou_threshold
    other = (others_right - others_left) * (others_bottom - others_top) * iou_threshold
    difference = torch.addcmul(-area, width, height, value=1 + iou_threshold)
    return difference.gt_(other).bool()  # four times as fast as > on a CPU
