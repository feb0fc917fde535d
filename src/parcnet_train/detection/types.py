"""The outputs of a detector, before and after post-processing."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DetectionOutputs(NamedTuple):
    """Outputs of a detection head: A anchors, K classes, of which the first is the background."""

    class_logits: Tensor  # (B, A, K)
    box_offsets: Tensor  # (B, A, 4), offsets of the boxes from the anchors, see `boxes.encode`
    anchors: Tensor  # (A, 4) float32, center x, center y, width, height, as shares of the image


class Detections(NamedTuple):
    """Objects found in one image, best first."""

    boxes: Tensor  # (n, 4) float32, xyxy
    scores: Tensor  # (n,) float32, probabilities
    labels: Tensor  # (n,) int64, class indices, never the background
