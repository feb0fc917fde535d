"""Errors of a detector at an IoU of 0.5: matches, confused classes, and TIDE's kinds of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.detection.evaluators import Found, Problem

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

POSITIVE = 0.5  # IoU from which a detection may count as an object (TIDE: t_f)
NEAR = 0.1  # IoU up to which a detection has nothing to do with an object (TIDE: t_b)
RECALLS = np.linspace(0, 1, 101)  # where COCO samples the precision

# Kinds of detections. The errors have TIDE's names and its order of tests (arXiv 2008.08115, 2.2).
HIT, UNCOUNTED, LOC, CLS, DUPE, BKG, BOTH = range(7)
ERRORS = {"Cls": CLS, "Loc": LOC, "Both": BOTH, "Dupe": DUPE, "Bkg": BKG}
MISS = "Miss"


class Matches(NamedTuple):
    """What every detection and every object is; the rows are those of the `Problem`."""

    kinds: npt.NDArray[np.int8]  # (m,) kinds of the detections
    objects: Integers  # (m,) object that a detection found, or meant (Loc, Cls); else -1
    is_found: Flags  # (n,) whether an object was found; crowds are not


class ScoreCurves(NamedTuple):
    """Precision, recall and F1 of every class at each smallest score, `(K, T)` each.

    NaN where the denominator is zero: no detection, no object, or neither.
    """

    precision: Floats
    recall: Floats
    f1: Floats


class Errors(NamedTuple):
    """Errors by kind, and what they cost."""

    counts: dict[str, int]  # number of errors of a kind
    costs: dict[str, float]  # AP50 that is gained if all errors of a kind are fixed
    ap50: float  # mean average precision of the classes with objects; NaN without an object


def match(problem: Problem) -> Matches:
    """Match detections to objects as COCO does, and tell the kinds of errors apart as TIDE does.

    Crowds count as COCO counts them: a detection of one is neither right nor wrong.
    """
    truth, found = problem.truth, problem.found
    kinds = np.full(len(found.images), UNCOUNTED, np.int8)
    objects = np.full(len(found.images), -1)
    is_found = np.zeros(len(truth.images), bool)
    for rows, own in by_image(problem, best_of_class(problem)):
        overlap = overlaps(found.boxes[rows], truth.boxes[own], truth.is_crowd[own])
        same = found.labels[rows][:, None] == truth.labels[own]
        crowd = truth.is_crowd[own]
        hits = greedy(np.where(same & ~crowd, overlap, 0))
        has_hit = hits >= 0
        is_found[own[hits[has_hit]]] = True
        objects[rows[has_hit]] = own[hits[has_hit]]
        kinds[rows[has_hit]] = HIT
        of_crowd = (overlap * same)[:, crowd] >= POSITIVE
        counted = ~has_hit & ~of_crowd.any(axis=1)
        rest, own = np.flatnonzero(counted), own[~crowd]
        overlap, same = overlap[rest][:, ~crowd], same[rest][:, ~crowd]
        of_rest, meant = kinds_of(overlap, same, is_found[own])
        kinds[rows[rest]] = of_rest
        means = meant >= 0
        objects[rows[rest[means]]] = own[meant[means]]
    return Matches(kinds, objects, is_found)


def kinds_of(
    overlap: Floats, same: Flags, is_found: Flags
) -> tuple[npt.NDArray[np.int8], Integers]:
    """Return the kinds of the errors of an image, and the objects that were meant, or -1.

    Args:
        overlap: IoU `(m, n)` of wrong detections with the objects, none of them a crowd.
        same: Whether they have the same class, `(m, n)`.
        is_found: Whether an object was found, `(n,)`.
    """
    if not overlap.shape[1]:
        return np.full(len(overlap), BKG, np.int8), np.full(len(overlap), -1)
    of_class, of_others = overlap * same, overlap * ~same
    best = of_class.max(axis=1)
    tests = [
        (best >= NEAR) & (best <= POSITIVE),
        of_others.max(axis=1) >= POSITIVE,
        (of_class * is_found).max(axis=1) >= POSITIVE,
        overlap.max(axis=1) <= NEAR,
    ]
    kinds = np.select(tests, [LOC, CLS, DUPE, BKG], BOTH).astype(np.int8)
    meant = np.select(
        [kinds == LOC, kinds == CLS], [of_class.argmax(axis=1), of_others.argmax(axis=1)], -1
    )
    return kinds, meant


def count_errors(problem: Problem, matches: Matches) -> Errors:
    """Count the errors of every kind, and what each kind costs.

    The cost of a kind is the AP50 that is gained if an oracle fixes all of its errors: a box at a
    wrong place or of a wrong class becomes right, unless its object was found or a better one means
    it; all others are removed, and objects that no error means are no longer missed.
    """
    truth, found = problem.truth, problem.found
    kinds, hits = matches.kinds, matches.kinds == HIT
    objects = np.bincount(truth.labels[~truth.is_crowd], minlength=problem.classes + 1)
    missed = ~truth.is_crowd & ~matches.is_found
    means = np.isin(kinds, (LOC, CLS))
    missed[matches.objects[means]] = False
    counted = kinds != UNCOUNTED
    classes = np.flatnonzero(objects).tolist()

    def ap(labels: Integers, kept: Flags, right: Flags, expected: Integers) -> float:
        return mean_precision(labels[kept], found.scores[kept], right[kept], expected, classes)

    before = ap(found.labels, counted, hits, objects)
    fixed = best_meant(found, matches)
    costs = {}
    for name, kind in ERRORS.items():
        wins = fixed & (kinds == kind)
        labels = found.labels.copy()
        labels[wins] = truth.labels[matches.objects[wins]]
        kept = counted & ((kinds != kind) | wins)
        costs[name] = ap(labels, kept, hits | wins, objects) - before
    left = objects - np.bincount(truth.labels[missed], minlength=problem.classes + 1)
    costs[MISS] = ap(found.labels, counted, hits, left) - before
    counts = {name: int((kinds == kind).sum()) for name, kind in ERRORS.items()}
    return Errors({**counts, MISS: int(missed.sum())}, costs, before)


def score_curves(problem: Problem, matches: Matches, thresholds: Floats) -> ScoreCurves:
    """Return how precision, recall and F1 depend on the smallest score that counts.

    Args:
        problem: Objects and detections of K classes.
        matches: Their matches.
        thresholds: Smallest scores `(T,)`, ascending.
    """
    found, crowd = problem.found, problem.truth.is_crowd
    objects = np.bincount(problem.truth.labels[~crowd], minlength=problem.classes + 1)[1:, None]

    def count(rows: Flags) -> Integers:
        steps = np.searchsorted(thresholds, found.scores[rows], side="right")
        counts = np.zeros((problem.classes, len(thresholds) + 1), np.int64)
        np.add.at(counts, (found.labels[rows] - 1, steps), 1)
        return counts[:, ::-1].cumsum(axis=1)[:, -2::-1]  # from each threshold on

    hits = count(matches.kinds == HIT)
    detections = count(matches.kinds != UNCOUNTED)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return ScoreCurves(hits / detections, hits / objects, 2 * hits / (detections + objects))


def best_meant(found: Found, matches: Matches) -> Flags:
    """Return which detections an oracle makes right: the best that means an object not found."""
    wins = np.zeros(len(found.images), bool)
    rows = np.flatnonzero(np.isin(matches.kinds, (LOC, CLS)))
    rows = rows[~matches.is_found[matches.objects[rows]]]
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    _, first = np.unique(matches.objects[rows], return_index=True)
    wins[rows[first]] = True
    return wins


def confusion_matrix(problem: Problem, min_score: float) -> Integers:
    """Count objects by their class and by the class that they were detected as.

    The detections of an image, the best first, each take the free object that they overlap most,
    whatever its class, if the IoU is at least 0.5.

    Args:
        problem: Objects and detections.
        min_score: Score below which a detection does not count.

    Returns:
        `(K, K)` with the background as class 0: row 0 has detections without an object, column 0
        has objects that were not detected. Detections of crowds do not count.
    """
    truth, found = problem.truth, problem.found
    counts = np.zeros((problem.classes + 1,) * 2, np.int64)
    is_found = np.zeros(len(truth.images), bool)
    for rows, own in by_image(problem, found.scores >= min_score):
        overlap = overlaps(found.boxes[rows], truth.boxes[own], truth.is_crowd[own])
        crowd = truth.is_crowd[own]
        hits = greedy(np.where(crowd, 0, overlap))
        has_hit = hits >= 0
        is_found[own[hits[has_hit]]] = True
        np.add.at(counts, (truth.labels[own[hits[has_hit]]], found.labels[rows[has_hit]]), 1)
        alone = ~has_hit & ~(overlap[:, crowd] >= POSITIVE).any(axis=1)
        np.add.at(counts[0], found.labels[rows[alone]], 1)
    missed = truth.labels[~is_found & ~truth.is_crowd]
    counts[:, 0] += np.bincount(missed, minlength=len(counts))
    return counts


def by_image(problem: Problem, counted: Flags) -> list[tuple[Integers, Integers]]:
    """Return the rows of the counted detections of every image, best first, and of its objects."""
    truth, found = problem.truth, problem.found
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((-found.scores[rows], found.images[rows]))]
    objects = np.argsort(truth.images, kind="stable")
    numbers = np.arange(1, problem.images + 2)
    ends = np.searchsorted(found.images[rows], numbers)
    ends_of_objects = np.searchsorted(truth.images[objects], numbers)
    return [
        (rows[ends[n] : ends[n + 1]], objects[ends_of_objects[n] : ends_of_objects[n + 1]])
        for n in range(problem.images)
        if ends[n] < ends[n + 1]
    ]


def best_of_class(problem: Problem) -> Flags:
    """Return which detections count: the best ones of their image and class."""
    found = problem.found
    order = np.lexsort((-found.scores, found.labels, found.images))
    groups = found.images[order] * (found.labels.max(initial=0) + 1) + found.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(groups, groups)
    kept = np.zeros(len(order), bool)
    kept[order] = rank < problem.most
    return kept


def greedy(overlap: Floats) -> Integers:
    """Match detections, in their order, to the free objects that they overlap most.

    Args:
        overlap: IoU `(m, n)`; 0 for pairs that do not match. It is changed.

    Returns:
        `(m,)`: the object of every detection, -1 if the IoU is below 0.5; of equals the last, as in
        pycocotools.
    """
    hits = np.full(len(overlap), -1)
    for row in np.flatnonzero((overlap >= POSITIVE).any(axis=1)).tolist():
        best = overlap.shape[1] - 1 - int(overlap[row, ::-1].argmax())
        if overlap[row, best] >= POSITIVE:
            hits[row] = best
            overlap[:, best] = 0
    return hits


def overlaps(boxes: Floats, others: Floats, is_crowd: Flags) -> Floats:
    """Return the IoU of boxes with objects; with a crowd, the share of the box within it.

    Args:
        boxes: Left, top, width, height `(m, 4)`.
        others: Left, top, width, height `(n, 4)`.
        is_crowd: Whether an object is a crowd, `(n,)`.

    Returns:
        `(m, n)`.
    """
    first, second = boxes[:, None], others[None]
    ends = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    sides = (ends - np.maximum(first[..., :2], second[..., :2])).clip(0)
    shared = sides.prod(axis=-1)
    areas, of_others = first[..., 2:].prod(axis=-1), second[..., 2:].prod(axis=-1)
    union = np.where(is_crowd, areas, areas + of_others - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def mean_precision(
    labels: Integers, scores: Floats, hits: Flags, objects: Integers, classes: Sequence[int]
) -> float:
    """Return the mean average precision of some classes; NaN if there are none.

    Args:
        labels: Class indices of the detections `(m,)`.
        scores: Their scores `(m,)`; of equals, the first counts as better.
        hits: Whether they found an object, `(m,)`.
        objects: Number of objects of every class `(K + 1,)`; index 0 is not a class. The average
            precision of a class without an object is 0, as in TIDE.
        classes: Indices of the classes.
    """
    order = np.lexsort((-scores, labels))
    ends = np.searchsorted(labels[order], np.arange(len(objects) + 1))
    values = [
        average_precision(hits[order[ends[each] : ends[each + 1]]], int(objects[each]))
        if objects[each]
        else 0.0
        for each in classes
    ]
    return float(np.mean(values)) if values else float("nan")


def average_precision(hits: Flags, objects: int) -> float:
    """Return COCO's average precision of a class: the mean of `precisions`."""
    return float(precisions(hits, objects).mean())


def precisions(hits: Flags, objects: int) -> Floats:
    """Return the precision at COCO's 101 recalls: the largest one at this recall or above.

    Args:
        hits: Whether the detections found an object, `(m,)`, best first.
        objects: Number of objects.
    """
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / objects, RECALLS, side="left")
    return np.append(envelope, 0.0)[places]
