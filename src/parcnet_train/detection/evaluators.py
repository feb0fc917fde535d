"""COCO's precision and recall, computed by pycocotools or by a faster library with the same digits.

pycocotools is the reference. It keeps every match of every image, class and size range, so the
libraries with its interface get one class at a time: the curves of a class do not depend on other
classes, and only one class takes memory.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

Evaluator = Literal["hotcoco", "faster_coco_eval", "pycocotools"]

EVALUATORS: tuple[Evaluator, ...] = get_args(Evaluator)  # the fastest first

# COCO's settings, which all libraries have as defaults.
IOU_THRESHOLDS = 10  # 0.5 to 0.95
RECALL_THRESHOLDS = 101  # 0 to 1
SIZES = ("all", "small", "medium", "large")
MOST = 100  # detections per image and class that count


class Truth(NamedTuple):
    """The objects of the evaluated images, in flat arrays."""

    images: npt.NDArray[np.int64]  # (m,) numbers of the images, from 1
    labels: npt.NDArray[np.int64]  # (m,) class indices from 1
    boxes: npt.NDArray[np.float64]  # (m, 4) left, top, width, height
    areas: npt.NDArray[np.float64]  # (m,) areas by which objects are small, medium or large
    is_crowd: npt.NDArray[np.bool_]  # (m,)


class Found(NamedTuple):
    """The detections in the evaluated images, in flat arrays."""

    images: npt.NDArray[np.int64]  # (m,) numbers of the images, from 1
    labels: npt.NDArray[np.int64]  # (m,) class indices from 1
    boxes: npt.NDArray[np.float64]  # (m, 4) left, top, width, height
    scores: npt.NDArray[np.float64]  # (m,)


@dataclass(frozen=True)
class Problem:
    """An evaluation: objects and detections.

    Detections with equal scores rank in the order of the numbers of their images, and within an
    image in the order of the arrays.

    Attributes:
        truth: Objects to find.
        found: Detections to score.
        images: Number of images.
        classes: Number of classes without the background.
        most: Number of best detections per image and class that count.
    """

    truth: Truth
    found: Found
    images: int
    classes: int
    most: int = MOST

    @property
    def limits(self) -> list[int]:
        """Numbers of detections per image and class for which recall is computed, ascending."""
        return [1, 10, self.most]


class Curves(NamedTuple):
    """Arrays of pycocotools' `COCOeval.eval`; -1 if there is no object to find.

    The axes of both are IoU thresholds, recalls (only of the precision), classes, `SIZES` and
    `Problem.limits`.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]


def installed() -> list[Evaluator]:
    """Return the installed evaluators, the fastest first."""
    return [each for each in EVALUATORS if importlib.util.find_spec(each) is not None]


def version_of(evaluator: Evaluator) -> str:
    """Return the name and the version of an evaluator, such as `pycocotools 2.0.11`."""
    return f"{evaluator} {metadata.version(evaluator.replace('_', '-'))}"


def curves(problem: Problem, evaluator: Evaluator) -> Curves:
    """Return precision and recall.

    Args:
        problem: Objects and detections.
        evaluator: Installed library to compute with.
    """
    return _CURVES[evaluator](problem)


def _hotcoco(problem: Problem) -> Curves:
    evaluation = _hotcoco_evaluation(problem)
    return Curves(evaluation.eval["precision"], evaluation.eval["recall"])


def _hotcoco_evaluation(problem: Problem) -> Any:
    """Return an accumulated `hotcoco.COCOeval`, which evaluates all classes at once."""
    library = importlib.import_module("hotcoco")
    truth, found = problem.truth, problem.found
    objects = library.COCO.from_arrays(
        [{"id": number} for number in range(1, problem.images + 1)],
        [{"id": label, "name": str(label)} for label in range(1, problem.classes + 1)],
        truth.images,
        truth.labels,
        truth.boxes,
        ids=np.arange(1, len(truth.images) + 1),
        area=truth.areas,
        iscrowd=truth.is_crowd.astype(np.int64),
    )
    detections = objects.load_res(
        np.column_stack([found.images, found.boxes, found.scores, found.labels])
    )
    evaluation = library.COCOeval(objects, detections, "bbox")
    evaluation.params.max_dets = problem.limits
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _faster_coco_eval(problem: Problem) -> Curves:
    library = importlib.import_module("faster_coco_eval")
    return _by_class(problem, library.COCO, library.COCOeval_faster)


def _pycocotools(problem: Problem) -> Curves:
    truth = importlib.import_module("pycocotools.coco")
    scoring = importlib.import_module("pycocotools.cocoeval")
    return _by_class(problem, truth.COCO, scoring.COCOeval)


def _by_class(problem: Problem, dataset: Callable[[], Any], scoring: Callable[..., Any]) -> Curves:
    """Return the curves of a library with pycocotools' interface, one class at a time."""
    shape = (problem.classes, len(SIZES), len(problem.limits))
    precision = np.full((IOU_THRESHOLDS, RECALL_THRESHOLDS, *shape), -1.0)
    recall = np.full((IOU_THRESHOLDS, *shape), -1.0)
    rows = zip(
        _rows_by_label(problem.truth.labels, problem.classes),
        _rows_by_label(problem.found.labels, problem.classes),
        strict=True,
    )
    for index, (objects, detections) in enumerate(rows):
        if len(objects) == 0:
            continue
        images = np.union1d(problem.truth.images[objects], problem.found.images[detections])
        about = {
            "images": [{"id": number} for number in images.tolist()],
            "categories": [{"id": index + 1}],
        }
        truth, found = dataset(), dataset()
        truth.dataset = {**about, "annotations": _entries_of_truth(problem.truth, objects)}
        found.dataset = {**about, "annotations": _entries_of_found(problem.found, detections)}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth.createIndex()
            found.createIndex()
            evaluation = scoring(truth, found, "bbox")
            evaluation.params.maxDets = problem.limits
            evaluation.evaluate()
            evaluation.accumulate()
        precision[:, :, index] = evaluation.eval["precision"][:, :, 0]
        recall[:, index] = evaluation.eval["recall"][:, 0]
    return Curves(precision, recall)


def _rows_by_label(
    labels: npt.NDArray[np.int64], classes: int
) -> Iterator[npt.NDArray[np.integer]]:
    """Yield the rows of every class, in their order."""
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(1, classes + 2))
    for label in range(classes):
        yield order[ends[label] : ends[label + 1]]


def _entries_of_truth(truth: Truth, rows: npt.NDArray[np.integer]) -> list[dict[str, Any]]:
    columns = (each[rows].tolist() for each in truth)
    return [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area}
        | {"iscrowd": int(crowd)}
        for number, (image, label, box, area, crowd) in enumerate(zip(*columns, strict=True), 1)
    ]


def _entries_of_found(found: Found, rows: npt.NDArray[np.integer]) -> list[dict[str, Any]]:
    columns = (each[rows].tolist() for each in found)
    return [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "score": score}
        | {"area": box[2] * box[3], "iscrowd": 0}
        for number, (image, label, box, score) in enumerate(zip(*columns, strict=True), 1)
    ]


_CURVES: dict[Evaluator, Callable[[Problem], Curves]] = {
    "hotcoco": _hotcoco,
    "faster_coco_eval": _faster_coco_eval,
    "pycocotools": _pycocotools,
}
