"""COCO's evaluation: gathering detections of all processes, scoring them, writing them.

The metrics equal those of pycocotools on the annotation file and the written detections, with one
exception: pycocotools never counts an annotation with the id 0 as found.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from parcnet_train.data.batches import PADDING
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.detection.evaluators import (
    MOST,
    SIZES,
    Curves,
    Evaluator,
    Found,
    Problem,
    Truth,
    curves,
    installed,
    version_of,
)
from parcnet_train.detection.types import Detections
from parcnet_train.files import write_whole

log = logging.getLogger(__name__)

EVALUATOR: Evaluator = installed()[0]
logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it logs every evaluation

# LVIS's groups of classes, by the number of training images with a class (arXiv 1908.03195).
FREQUENCIES = {"rare": (1, 10), "common": (11, 100), "frequent": (101, math.inf)}


class FoundObjects(NamedTuple):
    """The detections of a data set, in flat arrays, image by image in the order of the data set.

    `images` includes images without detections, but not images that were not evaluated.
    """

    images: npt.NDArray[np.int64]  # (n,) positions in the data set, each once
    starts: npt.NDArray[np.int64]  # (n + 1,) detections of image i: starts[i] to starts[i + 1]
    boxes: npt.NDArray[np.float64]  # (m, 4) left, top, width, height, pixels of the original image
    scores: npt.NDArray[np.float64]  # (m,)
    labels: npt.NDArray[np.int64]  # (m,) class indices from 1


class GatherDetections(Metric):
    """The detections of all processes, independent of how the images are split over them."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    samples: list[Tensor]
    counts: list[Tensor]
    boxes: list[Tensor]
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("samples", "counts", "boxes", "scores", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, samples: Tensor, detections: Sequence[Detections]) -> None:
        """Add a batch.

        Args:
            samples: Positions in the data set, `(B,)` int64; `PADDING` does not count.
            detections: Detections of every element of the batch, in pixels of the original images.
        """
        counts = [len(each.scores) for each in detections]
        self.samples.append(samples)
        self.counts.append(torch.tensor(counts, device=samples.device))
        boxes, scores, labels = zip(*detections, strict=True)
        self.boxes.append(torch.cat(boxes).float())
        self.scores.append(torch.cat(scores))
        self.labels.append(torch.cat(labels))

    def compute(self) -> FoundObjects:
        """Return all detections except boxes that are not finite, which would match any object."""
        samples, counts, boxes, scores, labels = (
            dim_zero_cat(state).cpu().numpy()
            for state in (self.samples, self.counts, self.boxes, self.scores, self.labels)
        )
        images, first = np.unique(samples, return_index=True)
        counts_once = np.isin(np.arange(len(samples)), first) & (samples != PADDING)
        kept = np.repeat(counts_once, counts) & np.isfinite(boxes).all(axis=1)
        owners = np.repeat(samples, counts)
        rows = np.flatnonzero(kept)[np.argsort(owners[kept], kind="stable")]
        images = images[images != PADDING]
        corners = boxes[rows].astype(np.float64)  # differences of float32 numbers are exact here
        return FoundObjects(
            images=images,
            starts=np.append(np.searchsorted(owners[rows], images), len(rows)),
            boxes=np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]),
            scores=scores[rows].astype(np.float64),
            labels=labels[rows],
        )


def coco_metrics(
    annotations: CocoAnnotations,
    found: FoundObjects,
    evaluator: Evaluator = EVALUATOR,
    most: int = MOST,
    training_images: Sequence[int] | None = None,
) -> dict[str, float]:
    """Score detections as COCO does.

    Args:
        annotations: Annotations of the data set; only images that were evaluated count.
        found: Detections to score.
        evaluator: Library that computes precision and recall; the default is the fastest one that
            is installed, and all give the same digits.
        most: Number of best detections per image and class that count, at least COCO's 100.
        training_images: Number of training images with an object of each class, without the
            background; None: classes are not grouped by it.

    Returns:
        COCO's twelve metrics, see `summary`; with `training_images`, the average precision of
        rare, common and frequent classes, `map_rare` and so on; and that of every class,
        `ap/<name>`. A metric is NaN if there is no object to find; the means leave out such
        classes.
    """
    _log(evaluator, most)
    names = annotations.class_names[1:]
    found_curves = curves(problem_of(annotations, found, most), evaluator)
    results = summary(found_curves, most)
    of_classes = found_curves.precision[:, :, :, SIZES.index("all"), -1]
    if training_images is not None:
        results |= by_frequency(of_classes, training_images)
    for index, name in enumerate(names):
        results[f"ap/{name}"] = _mean(of_classes[:, :, index])
    return results


@functools.cache
def _log(evaluator: Evaluator, most: int) -> None:
    """Log once what computes the metrics."""
    beyond = "" if most == MOST else f", with up to {most} instead of {MOST} boxes per class"
    log.info("%s computes COCO's metrics%s", version_of(evaluator), beyond)


def summary(found: Curves, most: int = MOST) -> dict[str, float]:
    """Return COCO's twelve metrics, in its order.

    Args:
        found: Precision and recall.
        most: Number of detections per image and class that count, which the names contain.
    """
    everything = SIZES.index("all")
    precision, recall = found.precision[..., -1], found.recall
    sizes = list(enumerate(SIZES))[1:]
    return {
        "map": _mean(precision[..., everything]),
        "map50": _mean(precision[0, ..., everything]),  # IoU of 0.5
        "map75": _mean(precision[5, ..., everything]),  # IoU of 0.75
        **{f"map_{name}": _mean(precision[..., size]) for size, name in sizes},
        "mar_1": _mean(recall[..., everything, 0]),
        "mar_10": _mean(recall[..., everything, 1]),
        f"mar_{most}": _mean(recall[..., everything, -1]),
        **{f"mar_{name}": _mean(recall[..., size, -1]) for size, name in sizes},
    }


def by_frequency(
    precision: npt.NDArray[np.float64], training_images: Sequence[int]
) -> dict[str, float]:
    """Return the average precision of rare, common and frequent classes, if there are such classes.

    Args:
        precision: Precision at IoU thresholds, recalls and classes, `(T, R, K)`; -1 without objects
            to find.
        training_images: Number of training images with an object of each class, `(K,)`.
    """
    counts = np.asarray(training_images)
    groups = {
        name: (least <= counts) & (counts <= largest)
        for name, (least, largest) in FREQUENCIES.items()
    }
    return {
        f"map_{name}": _mean(precision[:, :, members])
        for name, members in groups.items()
        if members.any()
    }


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Return the mean over all entries that have objects; NaN if none has."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else math.nan


def order_of(annotations: CocoAnnotations, found: FoundObjects) -> npt.NDArray[np.int64]:
    """Return the order of the evaluated images by their ids, `(n,)`.

    pycocotools ranks detections with equal scores in that order.
    """
    return np.argsort(annotations.image_ids[found.images])


def problem_of(annotations: CocoAnnotations, found: FoundObjects, most: int = MOST) -> Problem:
    """Return what an evaluator scores: the evaluated images, numbered by `order_of`."""
    order = order_of(annotations, found)
    images = found.images[order]
    objects, of_objects = _gather(annotations.starts, images)
    detections, of_detections = _gather(found.starts, order)
    return Problem(
        Truth(
            of_objects,
            annotations.labels[objects],
            annotations.boxes[objects],
            annotations.areas[objects],
            annotations.is_crowd[objects],
        ),
        Found(
            of_detections,
            found.labels[detections],
            found.boxes[detections],
            found.scores[detections],
        ),
        images=len(images),
        classes=len(annotations.class_names) - 1,
        most=most,
    )


def _gather(
    starts: npt.NDArray[np.int64], ranges: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of some ranges, one after the other, and the number of each row's range.

    Args:
        starts: Range i has the rows `starts[i]` up to but not including `starts[i + 1]`.
        ranges: Ranges to gather; they are numbered from 1.
    """
    first, counts = starts[ranges], starts[ranges + 1] - starts[ranges]
    numbers = np.repeat(np.arange(1, len(ranges) + 1), counts)
    before = np.cumsum(counts) - counts  # rows before each range
    return np.arange(counts.sum()) + np.repeat(first - before, counts), numbers


def write_predictions(path: Path, annotations: CocoAnnotations, found: FoundObjects) -> None:
    """Write detections in COCO's results format, with all digits that were used for scoring.

    Args:
        path: JSON file; it is written atomically.
        annotations: Annotations, which provide the ids of images and categories.
        found: Detections to write.

    Raises:
        TrainingError: If the file cannot be written to the disk.
    """
    images = np.repeat(annotations.image_ids[found.images], np.diff(found.starts))
    columns = (images, annotations.category_ids[found.labels], found.boxes, found.scores)
    rows = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(*(each.tolist() for each in columns), strict=True)
    ]
    write_whole(path, json.dumps(rows).encode())
