"""COCO's evaluation: gathering detections of all processes, scoring them, writing them.

The metrics equal those of pycocotools on the annotation file and the written detections, rounded to
float32, with one exception: pycocotools never counts an annotation with the id 0 as found.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.utilities import dim_zero_cat

from parcnet_train.data.batches import PADDING
from parcnet_train.data.detection.coco import CocoAnnotations
from parcnet_train.detection.types import Detections
from parcnet_train.files import write_whole

Backend = Literal["pycocotools", "faster_coco_eval"]

FASTER: Backend = "faster_coco_eval"  # optional; the same digits
BACKEND: Backend = FASTER if importlib.util.find_spec(FASTER) else "pycocotools"
logging.getLogger(FASTER).setLevel(logging.WARNING)  # it logs every evaluation

# pycocotools' values; torchmetrics rounds its own to float32, and misses an IoU of exactly 0.6.
IOU_THRESHOLDS: list[float] = np.linspace(0.5, 0.95, 10).tolist()
RECALL_THRESHOLDS: list[float] = np.linspace(0, 1, 101).tolist()

METRICS = (  # COCO's twelve metrics, in its order
    "map",
    "map50",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "mar_1",
    "mar_10",
    "mar_100",
    "mar_small",
    "mar_medium",
    "mar_large",
)
THEIR_NAMES = {"map50": "map_50", "map75": "map_75"}  # names of torchmetrics


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
    annotations: CocoAnnotations, found: FoundObjects, backend: Backend = BACKEND
) -> dict[str, float]:
    """Score detections as COCO does.

    Args:
        annotations: Annotations of the data set; only images that were evaluated count.
        found: Detections to score.
        backend: Library that torchmetrics computes with.

    Returns:
        COCO's twelve metrics, see `METRICS`, and the average precision of every class, `ap/<name>`.
        A metric is NaN if there is no object to find; the means leave out such classes.
    """
    metric = MeanAveragePrecision(
        box_format="xywh",
        iou_thresholds=IOU_THRESHOLDS,
        rec_thresholds=RECALL_THRESHOLDS,
        extended_summary=True,  # `class_metrics` would evaluate each class anew
        backend=backend,
        sync_on_compute=False,  # every process has all detections
    )
    metric.warn_on_many_detections = False  # COCO's limit of 100 holds per class
    # pycocotools ranks detections with equal scores in the order of the ids of their images.
    order = np.argsort(annotations.image_ids[found.images])
    metric.update(
        [_prediction(found, place) for place in order],
        [_target(annotations, image) for image in found.images[order]],
    )
    values = metric.compute()
    results = {name: values[THEIR_NAMES.get(name, name)].item() for name in METRICS}
    # Axes: IoU thresholds, recalls, classes, object sizes (first: all), detections (last: 100).
    of_classes = values["precision"][:, :, :, 0, -1].mean(dim=(0, 1))
    # torchmetrics returns a scalar for a single class.
    labels = values["classes"].reshape(-1).tolist()
    by_label = dict(zip(labels, of_classes.tolist(), strict=True))
    for label, name in enumerate(annotations.class_names[1:], start=1):
        results[f"ap/{name}"] = by_label.get(label, -1.0)
    return {name: math.nan if value == -1 else value for name, value in results.items()}


def _prediction(found: FoundObjects, place: int) -> dict[str, Tensor]:
    here = slice(found.starts[place], found.starts[place + 1])
    return {
        "boxes": torch.from_numpy(found.boxes[here]),
        "scores": torch.from_numpy(found.scores[here]),
        "labels": torch.from_numpy(found.labels[here]),
    }


def _target(annotations: CocoAnnotations, image: int) -> dict[str, Tensor]:
    here = annotations.of(image)
    # torchmetrics treats an area of 0 as missing; both are small areas to COCO.
    areas = np.maximum(annotations.areas[here], np.finfo(np.float64).tiny)
    return {
        "boxes": torch.from_numpy(annotations.boxes[here]),
        "labels": torch.from_numpy(annotations.labels[here]),
        "iscrowd": torch.from_numpy(annotations.is_crowd[here].astype(np.int64)),
        "area": torch.from_numpy(areas),
    }


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
