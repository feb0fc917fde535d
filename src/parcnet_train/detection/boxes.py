"""Boxes as tensors: their two formats, their overlap, and their encoding relative to anchors.

A box is given as `corners` (left, top, right, bottom: xyxy) or as `centers` (center x, center y,
width, height). The unit is arbitrary, but must be the same for all arguments of a function.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import box_convert

# Divisors of the offsets (arXiv 1512.02325, authors' Caffe code: "variance"; released values).
CENTER_VARIANCE = 0.1
SIZE_VARIANCE = 0.2
# Largest log of a decoded size relative to its anchor's, as in torchvision and Detectron: a box of
# 62 times the anchor is larger than the image, and exp() stays finite.
MAX_LOG_SIZE = math.log(1000 / 16)
LEAST_SIZE = 1e-6  # smallest size that is encoded, so that a flat box has finite offsets


def to_corners(boxes: Tensor) -> Tensor:
    """Convert centers and sizes to corners, `(..., 4)` each."""
    # Exported files contain this; torchvision's `box_convert` has twice as many operators.
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centers - halves, centers + halves), dim=-1)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Compute the intersection over union of every box with every other one.

    It is 0 if a box has no area, and never NaN. The release adds 1e-5 to the union, which lowers
    the overlap with the smallest anchor by a thousandth; this function is exact.

    Args:
        boxes: Corners `(..., A, 4)`.
        others: Corners `(..., N, 4)`; the leading dimensions broadcast.

    Returns:
        `(..., A, N)`, from 0 to 1.
    """
    # Computed per side and in place: these are the largest tensors of a detector's training.
    left, top, right, bottom = sides(boxes).unsqueeze(-1)
    others_left, others_top, others_right, others_bottom = sides(others).unsqueeze(-2)
    shared = torch.minimum(right, others_right).sub_(torch.maximum(left, others_left)).clamp_(min=0)
    height = torch.minimum(bottom, others_bottom).sub_(torch.maximum(top, others_top))
    shared.mul_(height.clamp_(min=0))
    areas = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    widths = (others_right - others_left).clamp(min=0)
    union = areas + widths * (others_bottom - others_top).clamp(min=0) - shared
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def sides(corners: Tensor) -> Tensor:
    """Split corners `(..., 4)` into left, top, right, bottom, `(4, ...)`, each contiguous."""
    return corners.movedim(-1, 0).contiguous()


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Encode boxes relative to anchors: the offsets that the network learns to predict.

    `(center - anchor's center) / anchor's size / 0.1` and `log(size / anchor's size) / 0.2`.

    Args:
        boxes: Corners `(..., A, 4)`.
        anchors: Centers and sizes `(A, 4)`.

    Returns:
        Finite offsets `(..., A, 4)`.
    """
    boxes = box_convert(boxes, "xyxy", "cxcywh")
    sizes = boxes[..., 2:].clamp(min=LEAST_SIZE)
    shift = (boxes[..., :2] - anchors[:, :2]) / anchors[:, 2:]
    return torch.cat((shift / CENTER_VARIANCE, (sizes / anchors[:, 2:]).log() / SIZE_VARIANCE), -1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Decode offsets from anchors to boxes: the inverse of `encode`.

    Args:
        offsets: Offsets `(..., A, 4)` as predicted by the network.
        anchors: Centers and sizes `(A, 4)`.

    Returns:
        Corners `(..., A, 4)`, not clipped; no size is more than 62.5 times the anchor's.
    """
    centers = anchors[:, :2] + offsets[..., :2] * CENTER_VARIANCE * anchors[:, 2:]
    sizes = anchors[:, 2:] * (offsets[..., 2:] * SIZE_VARIANCE).clamp(max=MAX_LOG_SIZE).exp()
    return to_corners(torch.cat((centers, sizes), dim=-1))
