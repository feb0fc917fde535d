"""What a detector gives, before and after post-processing."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DetectionOutputs(NamedTuple):
    """What a detection head returns: A anchors, K classes with the background as the first."""

    class_logits: Tensor  # (B, A, K)
    box_offsets: Tensor  # (B, A, 4), of the boxes from the anchors, see `boxes.encode`
    anchors: Tensor  # (A, 4) float32, centre x, centre y, width, height, as shares of the image


class Detections(NamedTuple):
    """Objects found in one image, best first."""

    boxes: Tensor  # (n, 4) float32, xyxy
    scores: Tensor  # (n,) float32, probabilities
    labels: Tensor  # (n,) int64, class indices, never the background
