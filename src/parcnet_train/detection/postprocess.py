"""From what a detector computes to a list of objects."""

from __future__ import annotations

import parcnet_train.compat  # noqa: F401  # defines torchvision::nms where there is no binary

import torch
from torch import Tensor

from parcnet_train.detection.boxes import decode
from parcnet_train.detection.types import BACKGROUND, DetectionOutputs, Detections


def detect(
    outputs: DetectionOutputs,
    score_threshold: float = 0.01,
    nms_iou: float = 0.5,
    candidates: int = 400,
    per_class: int = 200,
) -> list[Detections]:
    """Finds the objects of every image.

    Args:
        outputs: of the head.
        score_threshold: probability that an object has to exceed (ml-cvnets and torchvision: 0.01;
            the release evaluates with 0.05).
        nms_iou: boxes of a class that overlap more are one object (released value).
        candidates: best boxes of a class that are looked at (ml-cvnets, torchvision).
        per_class: most objects of a class (released value).

    Returns:
        For each image its objects, best first, in float32; boxes are corners within the image, as
        shares of it.
    """
    probabilities = outputs.class_logits.float().softmax(dim=-1)
    boxes = decode(outputs.box_offsets.float(), outputs.anchors).clamp(min=0, max=1)
    return [
        detect_in_image(*image, score_threshold, nms_iou, candidates, per_class)
        for image in zip(boxes, probabilities, strict=True)
    ]


def detect_in_image(
    boxes: Tensor,
    probabilities: Tensor,
    score_threshold: float,
    nms_iou: float,
    candidates: int,
    per_class: int,
) -> Detections:
    """The same for boxes `(A, 4)` and probabilities `(A, K)` of one image."""
    found = []
    best, anchors = probabilities.sort(dim=0, descending=True, stable=True)
    counts = (best[:candidates] > score_threshold).sum(dim=0).tolist()
    for label, count in enumerate(counts):
        if label == BACKGROUND or count == 0:
            continue
        scores, places = best[:count, label], anchors[:count, label]
        kept = torch.ops.torchvision.nms(boxes[places], scores, nms_iou)[:per_class]
        found.append((boxes[places[kept]], scores[kept], torch.full_like(kept, label)))
    if not found:
        return Detections(boxes[:0], probabilities[:0, 0], boxes.new_zeros(0, dtype=torch.int64))
    all_boxes, scores, labels = map(torch.cat, zip(*found, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return Detections(all_boxes[order], scores[order], labels[order])
