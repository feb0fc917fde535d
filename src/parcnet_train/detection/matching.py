"""Matching of anchors to objects (SSD, arXiv 1512.02325, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from parcnet_train.data.batches import BACKGROUND, UNLABELED
from parcnet_train.detection.boxes import pairwise_iou, to_corners

IOU = 0.5  # smallest IoU of a match (paper; released value)


class Matches(NamedTuple):
    """The target of every anchor."""

    labels: Tensor  # (B, A) int64, class indices, or the background
    boxes: Tensor  # (B, A, 4), corners; arbitrary if the label is the background


def match(anchors: Tensor, boxes: Tensor, labels: Tensor) -> Matches:
    """Match objects to anchors for a whole batch on its device, without waiting for the device.

    An anchor is matched to the object that it overlaps most (the first of equals) if the IoU is at
    least 0.5. In addition, every object is matched to the anchor that overlaps it most, whatever
    the IoU; if several objects claim one anchor, the last of them gets it, as in the release. An
    object that overlaps no anchor at all (it has no area, or is far outside the image) is not
    matched; the release would match it to the first anchor.

    Memory: at most four tensors with a number per image, anchor and object exist at a time. For 128
    images, 3232 anchors and 100 objects, each takes 165 MB.

    Args:
        anchors: Centers and sizes `(A, 4)`, as shares of the image.
        boxes: Corners `(B, N, 4)`, as shares of the image.
        labels: Class indices `(B, N)` from 1; `UNLABELED` is padding, which matches nothing.

    Returns:
        Labels and boxes of all anchors.
    """
    if labels.shape[1] == 0:
        shape = (len(labels), len(anchors))
        return Matches(labels.new_full(shape, BACKGROUND), boxes.new_zeros(*shape, 4))
    # Padding without an area overlaps nothing.
    real = boxes.where(labels.unsqueeze(-1) != UNLABELED, 0)
    iou = pairwise_iou(real, to_corners(anchors))
    overlap, chosen = iou.max(dim=1)
    forced = forced_objects(iou)
    chosen = torch.where(forced >= 0, forced, chosen)
    has_object = (overlap >= IOU) | (forced >= 0)
    return Matches(
        torch.where(has_object, labels.gather(1, chosen), BACKGROUND),
        boxes.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4)),
    )


def forced_objects(iou: Tensor) -> Tensor:
    """Return the object that each anchor must take because no anchor overlaps it more.

    Args:
        iou: IoU `(B, N, A)`; objects without an IoU above 0 are not forced.

    Returns:
        Indices of objects `(B, A)`; -1 if there is none.
    """
    best, anchors = iou.max(dim=2)
    objects = torch.arange(iou.shape[1], device=iou.device).where(best > 0, -1)
    forced = objects.new_full((iou.shape[0], iou.shape[2]), -1)
    # The largest index wins, in whatever order a GPU writes.
    return forced.scatter_reduce(1, anchors, objects, "amax")
