"""Quality of a detector on a page: curves per class, confusion, kinds of errors, examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.data.batches import DetectionBatch
from parcnet_train.data.channels import to_rgb
from parcnet_train.detection.errors import (
    HIT,
    RECALLS,
    UNCOUNTED,
    Matches,
    ScoreCurves,
    confusion_matrix,
    count_errors,
    match,
    precisions_by_class,
    score_curves,
)
from parcnet_train.detection.evaluation import FoundObjects, order_of, problem_of
from parcnet_train.detection.evaluators import Problem
from parcnet_train.errors import DataError
from parcnet_train.pages.confusion import confusion_drawings, most_wrong
from parcnet_train.pages.data import name_of
from parcnet_train.pages.figures import bars, lines
from parcnet_train.pages.parts import Block, Drawing, Table, percent
from parcnet_train.visualize.detections import SHOWN_FROM, draw_boxes
from parcnet_train.visualize.pictures import encode

THRESHOLDS = np.linspace(0, 1, 101)  # smallest scores of the curves
LINES = 7  # classes that have a line of their own in a figure
MEANINGS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, wrong place",
    "Both": "wrong class and place",
    "Dupe": "object found twice",
    "Bkg": "no object there",
    "Miss": "object not found",
}


class Evaluated(NamedTuple):
    """Detections and objects of an evaluation, and how they match."""

    problem: Problem
    matches: Matches
    samples: npt.NDArray[np.int64]  # (n,) position in the data set of each image of the problem
    names: list[str]  # of the classes, first the background


class Collector:
    """The detections of an evaluation, which the metrics of the task gather anyway."""

    def update(self, batch: DetectionBatch, outputs: Any) -> None:
        """Add nothing."""

    def compute(self, task: Any) -> FoundObjects:
        """Return the detections of all processes, which the task computes only once."""
        return task.found.compute()


def evaluated(found: FoundObjects, task: Any, data: Any) -> Evaluated:
    """Match the detections that count to the objects."""
    annotations = data.val_set.annotations
    problem = problem_of(annotations, found, task.evaluated_detections)
    samples = found.images[order_of(annotations, found)]
    return Evaluated(problem, match(problem), samples, list(data.class_names))


def quality(each: Evaluated) -> list[Block]:
    """Return how good the detections are, in all and per class."""
    problem, matches, _, names = each
    curves = score_curves(problem, matches, THRESHOLDS)
    return [
        curves_block(problem, matches, curves, names[1:]),
        confusion_block(problem, names),
        errors_block(problem, matches),
    ]


def curves_block(
    problem: Problem, matches: Matches, curves: ScoreCurves, names: Sequence[str]
) -> Block:
    """Return precision and recall of every class, by each other and by the score."""
    truth = problem.truth
    objects = np.bincount(truth.labels[~truth.is_crowd], minlength=len(names) + 1)
    rows = np.argsort(-problem.found.scores, kind="stable")
    rows = rows[matches.kinds[rows] != UNCOUNTED]
    hits = matches.kinds[rows] == HIT
    by_recall = precisions_by_class(problem.found.labels[rows], hits, objects)[1:]
    objects = objects[1:]
    seen = np.flatnonzero(objects)
    shown = seen[np.argsort(-objects[seen], kind="stable")][:LINES] if len(seen) > LINES else seen
    mean_f1 = (
        np.nan_to_num(curves.f1[seen]).mean(axis=0) if len(seen) else np.zeros(len(THRESHOLDS))
    )
    best = int(mean_f1.argmax())
    panels = (
        ("pr", "Precision by recall", by_recall, RECALLS, "recall"),
        ("p", "Precision by score", curves.precision, THRESHOLDS, "smallest score"),
        ("r", "Recall by score", curves.recall, THRESHOLDS, "smallest score"),
        ("f1", "F1 by score", curves.f1, THRESHOLDS, "smallest score"),
    )
    drawings = []
    for key, title, values, x, xlabel in panels:
        series = {names[n]: (x.tolist(), values[n].tolist()) for n in shown}
        if len(seen) > len(shown):
            series["mean of all"] = x.tolist(), mean_of(values[seen]).tolist()
        figure = lines(title, series, xlabel, unit=True)
        drawings.append(Drawing(f"curve_{key}", figure, f"{title} at an IoU of 0.5, per class."))
    at = f"{THRESHOLDS[best]:.2f}"
    text = "At an IoU of 0.5."
    if mean_f1[best] > 0:
        text += f" The mean F1 is highest, {percent(mean_f1[best])}, at a score of {at}."
    order = sorted(seen.tolist(), key=lambda n: by_recall[n].mean())
    cells = [
        [
            names[n],
            f"{objects[n]:,}",
            percent(float(by_recall[n].mean())),
            *(percent(each[n, best]) for each in curves),
        ]
        for n in order
    ]
    at_score = [f"{name} at {at}" for name in ("precision", "recall", "F1")]
    return Block("Curves", text, drawings, Table(("class", "objects", "AP50", *at_score), cells))


def mean_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean over the classes `(K, T)` whose value is defined, `(T,)`; NaN without any."""
    return np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)


def confusion_block(problem: Problem, names: Sequence[str]) -> Block:
    """Return the confusion matrix with the background, of the classes with the most errors."""
    confusion = confusion_matrix(problem, SHOWN_FROM)
    shown = [*filter(None, most_wrong(confusion)), 0]  # the background last
    labels = [names[n] if n else "background" for n in shown]
    missed, invented = int(confusion[:, 0].sum()), int(confusion[0].sum())
    hits, total = int(confusion.trace()), int(confusion[1:].sum())
    text = (
        f"With a score of at least {SHOWN_FROM}: of {total:,} objects, {hits:,} are found with "
        f"their class and {missed:,} are not found; {invented:,} detections match no object."
    )
    if len(shown) < len(names):
        text += f" The matrix shows the background and the {len(shown) - 1} classes with the most "
        text += f"errors of {len(names) - 1:,}."
    return Block("Confusion", text, confusion_drawings(confusion, shown, labels, "Objects", text))


def errors_block(problem: Problem, matches: Matches) -> Block:
    """Return how many errors of each kind there are, and what they cost (TIDE)."""
    errors = count_errors(problem, matches)
    rows = [
        [name, MEANINGS[name], f"{errors.counts[name]:,}", f"{100 * errors.costs[name]:.2f}"]
        for name in MEANINGS
    ]
    costs = [100 * errors.costs[name] for name in MEANINGS]
    figure = bars("AP50 lost by kind of error", [*MEANINGS], {"": costs}, "points", "{:.1f}")
    text = (
        f"AP50 is {percent(errors.ap50)}. A cost is what would be gained if all errors of the kind "
        "were fixed (TIDE, arXiv 2008.08115)."
    )
    worst = max(MEANINGS, key=lambda name: np.nan_to_num(errors.costs[name]))
    if errors.costs[worst] > 0:
        text += f" The most expensive kind is {worst}: {MEANINGS[worst]}."
    drawing = Drawing("errors", figure, f"Bars: AP50 that each kind of error costs. {text}")
    headings = ("kind", "meaning", "errors", "AP50 points")
    return Block("Kinds of errors", text, [drawing], Table(headings, rows, 2))


def examples(each: Evaluated, most: int, data: Any) -> list[Block]:
    """Return the images with the best and the worst detections, beside their objects."""
    hits, false, missed = errors_per_image(each)
    objects = hits + missed
    scores = np.divide(
        2 * hits,
        2 * hits + false + missed,
        where=(objects + false) > 0,
        out=np.full(len(hits), np.nan),
    )
    has_object = np.flatnonzero(np.isfinite(scores))
    # Among equal scores, images with more objects tell more.
    order = has_object[np.lexsort((-objects[has_object], scores[has_object]))]
    best = has_object[np.lexsort((-objects[has_object], -scores[has_object]))]
    best = best[scores[best] > 0][:most]
    worst = order[(scores[order] < 1) & ~np.isin(order, best)][:most]
    groups = [("best", "Best", best), ("worst", "Worst", worst)]
    text = (
        f"By F1 of the detections with a score of at least {SHOWN_FROM}. A false detection has "
        "the caption “false”, an object that was not found “missed”."
    )
    return [
        Block(title, text, list(drawn(each, images, key, data)), kind="pictures wide")
        for key, title, images in groups
        if len(images)
    ]


def errors_per_image(each: Evaluated) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the numbers of found objects, false detections and missed objects of every image."""
    found, truth, matches = each.problem.found, each.problem.truth, each.matches
    shown = found.scores >= SHOWN_FROM
    hit = shown & (matches.kinds == HIT)
    false = shown & (matches.kinds != HIT) & (matches.kinds != UNCOUNTED)
    is_found = np.zeros(len(truth.images), bool)
    is_found[matches.objects[hit]] = True
    missed = ~is_found & ~truth.is_crowd
    return tuple(
        np.bincount(images, minlength=each.problem.images + 1)[1:]
        for images in (found.images[hit], found.images[false], truth.images[missed])
    )


def drawn(each: Evaluated, images: npt.NDArray[np.int64], key: str, data: Any) -> Iterator[Drawing]:
    """Yield pictures of images with their detections and the objects that were missed."""
    found, truth, matches = each.problem.found, each.problem.truth, each.matches
    names = each.names
    for number, image in enumerate(images.tolist(), 1):
        sample = int(each.samples[image])
        try:
            pixels = to_rgb(data.val_set.original(sample))
        except DataError:
            continue
        rows = np.flatnonzero((found.images == image + 1) & (found.scores >= SHOWN_FROM))
        rows = rows[matches.kinds[rows] != UNCOUNTED]
        right = matches.kinds[rows] == HIT
        own = np.flatnonzero((truth.images == image + 1) & ~truth.is_crowd)
        missed = own[~np.isin(own, matches.objects[rows[right]])]
        labels = [*found.labels[rows].tolist(), *truth.labels[missed].tolist()]
        boxes = np.concatenate([found.boxes[rows], truth.boxes[missed]])
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        captions = [
            f"{'' if is_right else 'false '}{names[found.labels[row]]} {found.scores[row]:.2f}"
            for row, is_right in zip(rows, right, strict=True)
        ] + [f"missed {names[truth.labels[row]]}" for row in missed]
        counts = f"{right.sum()} of {len(own)} found, {(~right).sum()} false"
        file = name_of(data.val_set, sample)
        picture = encode(draw_boxes(pixels, corners, labels, captions))
        yield Drawing(f"{key}_{number}", picture, f"Image {file}: {counts}", f"{file}: {counts}")
