"""Post-processing of a detector's outputs to lists of objects: thresholds and NMS."""

from __future__ import annotations

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision.nms

from parcnet_train.data.batches import BACKGROUND
from parcnet_train.detection.boxes import decode
from parcnet_train.detection.types import DetectionOutputs, Detections

EXAMINED = 4  # boxes to compare at first, per object that may be returned


def detect(
    outputs: DetectionOutputs,
    score_threshold: float = 0.01,
    nms_iou: float = 0.5,
    candidates: int = 400,
    per_image: int = 200,
) -> list[Detections]:
    """Find the objects of every image.

    Args:
        outputs: Outputs of the head.
        score_threshold: Probability that an object must exceed (ml-cvnets and torchvision: 0.01;
            the release evaluates with 0.05).
        nms_iou: IoU above which the worse of two boxes of a class is removed (released value).
        candidates: Number of best boxes per class that are considered (ml-cvnets, torchvision:
            400).
        per_image: Largest number of objects to return (ml-cvnets of 2023, torchvision: 200).

    Returns:
        The objects of each image, best first, in float32; boxes are corners within the image, as
        shares of it.
    """
    probabilities = outputs.class_logits.float().softmax(dim=-1).transpose(1, 2)
    boxes = decode(outputs.box_offsets.float(), outputs.anchors).clamp(min=0, max=1)
    scores, anchors = probabilities.topk(min(candidates, boxes.shape[1]), dim=2)
    possible = scores > score_threshold
    possible[:, BACKGROUND] = False
    found = []
    for image, of_image in enumerate(possible):
        labels, ranks = of_image.nonzero(as_tuple=True)
        best, order = scores[image][labels, ranks].sort(descending=True, stable=True)
        labels, ranks = labels[order], ranks[order]
        sorted_boxes = boxes[image][anchors[image][labels, ranks]]
        found.append(without_overlaps(Detections(sorted_boxes, best, labels), nms_iou, per_image))
    return found


def without_overlaps(objects: Detections, iou: float, most: int) -> Detections:
    """Apply NMS within each class of an image.

    NMS of the best boxes does not depend on the other boxes, of which an untrained detector has
    thousands. So the others are only compared if the best ones yield too few objects.

    Args:
        objects: Objects from the best to the worst, boxes from 0 to 1.
        iou: IoU above which the worse of two boxes of a class is removed.
        most: Largest number of objects to keep.
    """
    # Boxes of different classes are shifted apart, so that they do not overlap. Float32 would lose
    # digits in the shift, but Apple's GPUs have nothing wider.
    dtype = torch.float32 if objects.boxes.device.type == "mps" else torch.float64
    apart, scores = objects.boxes.to(dtype) + 2 * objects.labels.unsqueeze(1), objects.scores
    examined = EXAMINED * most
    while True:
        first = slice(examined)
        kept = torch.ops.torchvision.nms(apart[first], scores[first].to(dtype), iou)[:most]
        if len(kept) == most or examined >= len(scores):
            return Detections(*(each[kept] for each in objects))
        examined *= EXAMINED
