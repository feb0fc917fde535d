"""Boxes as tensors: their two forms, their overlap, and their code relative to anchors.

A box is `corners` (left, top, right, bottom: xyxy) or `centers` (centre x, centre y, width,
height), in any unit that both sides of a computation share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Offsets are divided by these (arXiv 1512.02325, authors' Caffe code: "variance"; released values).
CENTER_VARIANCE = 0.1
SIZE_VARIANCE = 0.2
# The largest logarithm of a decoded size over its anchor's, as torchvision and Detectron have it:
# a box of 62 times the anchor is larger than the image, and exp() stays finite.
MAX_LOG_SIZE = math.log(1000 / 16)
LEAST_SIZE = 1e-6  # of an encoded box: a flat one has finite offsets


def to_corners(boxes: Tensor) -> Tensor:
    """Centres and sizes to corners, `(..., 4)` each."""
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centers - halves, centers + halves), dim=-1)


def to_centers(boxes: Tensor) -> Tensor:
    """Corners to centres and sizes, `(..., 4)` each."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((first + last) / 2, last - first), dim=-1)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other one.

    It is 0 where a box has no area, and never NaN. The release adds 1e-5 to the union, which lowers
    the overlap with the smallest anchor by a thousandth; this here is exact.

    Args:
        boxes: `(..., A, 4)` corners.
        others: `(..., N, 4)` corners; the leading dimensions broadcast.

    Returns:
        `(..., A, N)`, from 0 to 1.
    """
    # Side by side, and in place: these are the largest tensors of a detector's training.
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
    """Left, top, right and bottom, `(4, ...)` of `(..., 4)`, each in one piece of memory."""
    return corners.movedim(-1, 0).contiguous()


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Where boxes lie relative to anchors: what the network learns to tell.

    `(centre - anchor's centre) / anchor's size / 0.1` and `log(size / anchor's size) / 0.2`.

    Args:
        boxes: `(..., A, 4)` corners.
        anchors: `(A, 4)` centres and sizes.

    Returns:
        `(..., A, 4)` offsets, finite.
    """
    boxes = to_centers(boxes)
    sizes = boxes[..., 2:].clamp(min=LEAST_SIZE)
    shift = (boxes[..., :2] - anchors[:, :2]) / anchors[:, 2:]
    return torch.cat((shift / CENTER_VARIANCE, (sizes / anchors[:, 2:]).log() / SIZE_VARIANCE), -1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The boxes that offsets from anchors mean: the inverse of `encode`.

    Args:
        offsets: `(..., A, 4)`, as the network tells them.
        anchors: `(A, 4)` centres and sizes.

    Returns:
        `(..., A, 4)` corners, not clipped; no size is more than 62.5 times the anchor's.
    """
    centers = anchors[:, :2] + offsets[..., :2] * CENTER_VARIANCE * anchors[:, 2:]
    sizes = anchors[:, 2:] * (offsets[..., 2:] * SIZE_VARIANCE).clamp(max=MAX_LOG_SIZE).exp()
    return to_corners(torch.cat((centers, sizes), dim=-1))
