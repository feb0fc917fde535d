"""From what a detector computes to lists of objects."""

from __future__ import annotations

from parcnet_train.compat import HAS_BINARY  # defines torchvision::nms where there is none

import itertools

import torch
from torch import Tensor

from parcnet_train.detection.boxes import decode
from parcnet_train.detection.suppression import as_mask, keep_best, overlap_bits
from parcnet_train.detection.types import BACKGROUND, DetectionOutputs, Detections

# On a GPU, where starting a call takes longer than running it, one call is given as many classes as
# have together so many boxes (torchvision's limit for the same); elsewhere each class has its own.
BOXES_PER_CALL = {"cuda": 25_000}


def detect(
    outputs: DetectionOutputs,
    score_threshold: float = 0.01,
    nms_iou: float = 0.5,
    candidates: int = 400,
    per_image: int = 200,
) -> list[Detections]:
    """Finds the objects of every image.

    Args:
        outputs: of the head.
        score_threshold: probability that an object has to exceed (ml-cvnets and torchvision: 0.01;
            the release evaluates with 0.05).
        nms_iou: of two boxes of a class that overlap more, the worse one goes (released value).
        candidates: best boxes of a class that are looked at (ml-cvnets, torchvision: 400).
        per_image: most objects that are given back (ml-cvnets of 2023, torchvision: 200).

    Returns:
        For each image its objects, best first, in float32; boxes are corners within the image, as
        shares of it.
    """
    suppress = by_operator if HAS_BINARY else by_shared_overlaps
    probabilities = outputs.class_logits.float().softmax(dim=-1).transpose(1, 2)
    boxes = decode(outputs.box_offsets.float(), outputs.anchors).clamp(min=0, max=1)
    scores, anchors = probabilities.topk(min(candidates, boxes.shape[1]), dim=2)
    possible = scores > score_threshold
    possible[:, BACKGROUND] = False
    found = []
    for image in zip(boxes, scores, anchors, possible, strict=True):
        objects = gathered(*image[:3], suppress(*image, nms_iou))
        found.append(Detections(*(each[:per_image] for each in objects)))
    return found


def gathered(boxes: Tensor, scores: Tensor, anchors: Tensor, keep: Tensor) -> Detections:
    """The kept objects of an image, best first; the arguments are those of `by_operator`."""
    labels, ranks = keep.nonzero(as_tuple=True)
    best, order = scores[labels, ranks].sort(descending=True, stable=True)
    return Detections(boxes[anchors[labels, ranks][order]], best, labels[order])


def by_operator(
    boxes: Tensor, scores: Tensor, anchors: Tensor, possible: Tensor, iou: float
) -> Tensor:
    """Non-maximum suppression within each class of an image, by torchvision's operator.

    Args:
        boxes: `(A, 4)` corners, from 0 to 1.
        scores: `(K, n)`, of the best boxes of each class, best first.
        anchors: `(K, n)`, which boxes these are.
        possible: `(K, n)`, which of them can be objects at all.
        iou: of two boxes that overlap more, the worse one goes.

    Returns:
        `(K, n)`, which of them are kept.
    """
    keep = torch.zeros_like(possible)
    at_once = max(1, BOXES_PER_CALL.get(boxes.device.type, 0) // scores.shape[1])
    if at_once > 1:
        boxes, scores = boxes.double(), scores.double()
    for first in range(0, len(scores), at_once):
        group = slice(first, first + at_once)
        labels, ranks = possible[group].nonzero(as_tuple=True)
        if len(labels):
            # Moved apart, boxes of two classes do not overlap; float32 would lose digits by that.
            apart = boxes[anchors[group][labels, ranks]] + 2 * labels.unsqueeze(1)
            kept = torch.ops.torchvision.nms(apart, scores[group][labels, ranks], iou)
            keep[group][labels[kept], ranks[kept]] = True
    return keep


def by_shared_overlaps(
    boxes: Tensor, scores: Tensor, anchors: Tensor, possible: Tensor, iou: float
) -> Tensor:
    """The same in plain PyTorch: all classes have the same boxes, so that one comparison is enough.

    Arguments and result are those of `by_operator`.
    """
    places = anchors[possible]
    used = torch.zeros_like(boxes[:, 0], dtype=torch.bool)
    used[places] = True
    overlaps = overlap_bits(boxes[used], iou)
    numbers = (used.cumsum(dim=0) - 1)[places].tolist()  # of the boxes among the used ones
    ends = possible.sum(dim=1).cumsum(dim=0).tolist()
    classes = itertools.pairwise([0, *ends])
    kept = b"".join(keep_best(numbers[start:end], overlaps) for start, end in classes)
    keep = torch.zeros_like(possible)
    keep[possible] = as_mask(kept, boxes.device)
    return keep
