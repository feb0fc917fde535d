"""Part of the scripts of detectors: the objects of an image, in its own pixels."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from parcnet_train.deploy.standalone.common import About, Run, as_input, fit


def anchors_of(about: About) -> Any:
    """Return all anchors, `(A, 4)`: center x, center y, width, height, as shares of the input."""
    parts = []
    for level in about["anchors"]:
        rows, columns, shapes = (
            level["rows"],
            level["columns"],
            np.array(level["shapes"], np.float32),
        )
        anchors = np.empty((rows, columns, len(shapes), 4), np.float32)
        anchors[..., 0] = ((np.arange(columns, dtype=np.float32) + 0.5) / columns)[:, None]
        anchors[..., 1] = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None, None]
        anchors[..., 2:] = shapes
        parts.append(anchors.reshape(-1, 4))
    return np.concatenate(parts)


def decoded(offsets: Any, anchors: Any, about: About) -> Any:
    """Turn offsets from anchors, `(A, 4)` both, into corners as shares of the input, `(A, 4)`."""
    center_variance, size_variance = about["variances"]
    centers = anchors[:, :2] + offsets[:, :2] * center_variance * anchors[:, 2:]
    logarithms = np.minimum(offsets[:, 2:] * size_variance, about["max_log_size"])
    halves = anchors[:, 2:] * np.exp(logarithms) / 2
    return np.concatenate((centers - halves, centers + halves), axis=1).clip(0, 1)


def overlaps(box: Any, boxes: Any) -> Any:
    """Return the intersection over union of a box, `(4,)`, with others, `(n, 4)`."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = shared.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - intersection
    return intersection / np.maximum(union, np.finfo(np.float64).tiny)


def detected(logits: Any, offsets: Any, threshold: float, about: About) -> Any:
    """Return the objects of an image: boxes, scores and labels, best first."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    boxes = decoded(offsets, anchors_of(about), about).astype(np.float64)
    objects = []
    for label in range(1, probabilities.shape[1]):  # 0 is the background
        scores = probabilities[:, label]
        order = np.argsort(-scores, kind="stable")[: about["candidates"]]
        order = order[scores[order] > threshold]
        while len(order):
            first, order = order[0], order[1:]
            objects.append((scores[first], label, boxes[first]))
            order = order[overlaps(boxes[first], boxes[order]) <= about["nms_iou"]]
    objects.sort(key=lambda each: -each[0])
    del objects[about["detections_per_image"] :]
    return (
        np.array([box for _, _, box in objects]).reshape(-1, 4),
        np.array([score for score, _, _ in objects]),
        np.array([label for _, label, _ in objects], np.int64),
    )


def objects_of(
    run: Run, image: Any, about: About, given: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Return the objects, best first; boxes are left, top, right, bottom in pixels."""
    pixels, (height, width, top, left) = fit(image, about)
    outputs = run(as_input(pixels, about))
    if "boxes" in outputs:
        boxes, scores, labels = (outputs[name] for name in ("boxes", "scores", "labels"))
    else:
        boxes, scores, labels = detected(
            outputs["class_logits"][0],
            outputs["box_offsets"][0],
            given.score_threshold,
            about,
        )
    lengths = np.array([*pixels.shape[1::-1]] * 2)  # width, height, width, height
    sides = np.array([*image.shape[1::-1]] * 2)
    boxes = (boxes * lengths - [left, top, left, top]) * sides / [width, height, width, height]
    boxes = np.clip(boxes, 0, sides)
    return {
        "objects": [
            {"class": about["class_names"][label], "score": float(score), "box": box.tolist()}
            for box, score, label in zip(boxes, scores, labels)
            if score > given.score_threshold
        ]
    }
