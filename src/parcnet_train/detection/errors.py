"""Errors of a detector at an IoU of 0.5: matches, confused classes, and TIDE's kinds of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from parcnet_train.detection.evaluators import Problem

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


class Image(NamedTuple):
    """The m detections of an image, the best first, and its n objects that are no crowds."""

    rows: Integers  # (m,) rows of the detections in the `Problem`
    objects: Integers  # (n,) rows of the objects
    overlap: Floats  # (m, n) IoU
    same: Flags  # (m, n) whether they have the same class
    hits: Integers  # (m,) place in `objects` of the object that was found; -1: none
    wrong: Integers  # places in `rows` of the detections that found nothing, also no crowd


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
    for each in by_image(problem, best_of_class(problem), of_class=True):
        right, wrong = each.rows[each.hits >= 0], each.rows[each.wrong]
        objects[right] = each.objects[each.hits[each.hits >= 0]]
        is_found[objects[right]] = True
        kinds[right] = HIT
        kinds[wrong], meant = kinds_of(
            each.overlap[each.wrong], each.same[each.wrong], is_found[each.objects]
        )
        means = meant >= 0
        objects[wrong[means]] = each.objects[meant[means]]
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
    kinds = np.full(len(overlap), BOTH, np.int8)  # the last test that holds has precedence
    kinds[overlap.max(axis=1) <= NEAR] = BKG
    kinds[(of_class * is_found).max(axis=1) >= POSITIVE] = DUPE
    kinds[of_others.max(axis=1) >= POSITIVE] = CLS
    kinds[(best >= NEAR) & (best <= POSITIVE)] = LOC
    meant = np.where(kinds == LOC, of_class.argmax(axis=1), of_others.argmax(axis=1))
    return kinds, np.where((kinds == LOC) | (kinds == CLS), meant, -1)


def count_errors(problem: Problem, matches: Matches) -> Errors:
    """Count the errors of every kind, and what each kind costs.

    The cost of a kind is the AP50 gained if its errors are corrected: the best Loc or Cls detection
    of each unfound object gets the right class and counts as a hit; the kind's other detections are
    removed. For Miss, the missed objects no longer count.
    """
    truth = problem.truth
    order = np.argsort(-problem.found.scores, kind="stable")
    classes_of_found = problem.found.labels[order]
    matches = Matches(matches.kinds[order], matches.objects[order], matches.is_found)
    kinds, hits = matches.kinds, matches.kinds == HIT
    objects = np.bincount(truth.labels[~truth.is_crowd], minlength=problem.classes + 1)
    missed = ~truth.is_crowd & ~matches.is_found
    means = np.isin(kinds, (LOC, CLS))
    missed[matches.objects[means]] = False
    counted = kinds != UNCOUNTED
    classes = np.flatnonzero(objects)

    def ap(labels: Integers, kept: Flags, right: Flags, expected: Integers) -> float:
        precisions = precisions_by_class(labels[kept], right[kept], expected)[classes]
        return float(precisions.mean()) if len(classes) else float("nan")

    before = ap(classes_of_found, counted, hits, objects)
    fixed = best_meant(matches)
    costs = {}
    for name, kind in ERRORS.items():
        wins = fixed & (kinds == kind)
        labels = classes_of_found.copy()
        labels[wins] = truth.labels[matches.objects[wins]]
        kept = counted & ((kinds != kind) | wins)
        costs[name] = ap(labels, kept, hits | wins, objects) - before
    left = objects - np.bincount(truth.labels[missed], minlength=problem.classes + 1)
    costs[MISS] = ap(classes_of_found, counted, hits, left) - before
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


def best_meant(matches: Matches) -> Flags:
    """Return which detections an oracle makes right: the best that means an object not found.

    Args:
        matches: Matches of the detections, the best first.
    """
    wins = np.zeros(len(matches.kinds), bool)
    rows = np.flatnonzero(np.isin(matches.kinds, (LOC, CLS)))
    rows = rows[~matches.is_found[matches.objects[rows]]]
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
    true = np.full(len(found.images), -1)  # classes of the objects; 0: background, -1: not counted
    for each in by_image(problem, found.scores >= min_score, of_class=False):
        right = each.hits >= 0
        hit = each.objects[each.hits[right]]
        is_found[hit] = True
        true[each.rows[right]] = truth.labels[hit]
        true[each.rows[each.wrong]] = 0
    np.add.at(counts, (true[true >= 0], found.labels[true >= 0]), 1)
    missed = truth.labels[~is_found & ~truth.is_crowd]
    counts[:, 0] += np.bincount(missed, minlength=len(counts))
    return counts


def by_image(problem: Problem, counted: Flags, of_class: bool) -> Iterator[Image]:
    """Yield the images that have detections, and match these to the objects.

    Args:
        problem: Objects and detections.
        counted: Whether a detection counts, `(m,)`.
        of_class: Whether only objects of their class, and crowds of it, match.
    """
    truth, found = problem.truth, problem.found
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((-found.scores[rows], found.images[rows]))]
    objects = np.lexsort(
        (truth.is_crowd, truth.images)
    )  # crowds last, so that slices leave them out
    numbers = np.arange(1, problem.images + 2)
    ends = np.searchsorted(found.images[rows], numbers).tolist()
    starts = np.searchsorted(truth.images[objects], numbers).tolist()
    crowds = np.bincount(truth.images[truth.is_crowd], minlength=problem.images + 1).tolist()
    for n in range(problem.images):
        if ends[n] == ends[n + 1]:
            continue
        of_image = rows[ends[n] : ends[n + 1]]
        own = objects[starts[n] : starts[n + 1]]
        count = len(own) - crowds[n + 1]
        overlap = overlaps(found.boxes[of_image], truth.boxes[own], truth.is_crowd[own])
        same = found.labels[of_image][:, None] == truth.labels[own]
        matching = overlap * same if of_class else overlap.copy()
        hits = greedy(matching[:, :count])
        of_crowd = (matching[:, count:] >= POSITIVE).any(axis=1)
        wrong = np.flatnonzero((hits < 0) & ~of_crowd)
        yield Image(of_image, own[:count], overlap[:, :count], same[:, :count], hits, wrong)


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
    x, y, width, height = boxes.T[..., None]  # columns: a product over the last axis is slow
    other_x, other_y, other_width, other_height = others.T
    wide = np.minimum(x + width, other_x + other_width) - np.maximum(x, other_x)
    high = np.minimum(y + height, other_y + other_height) - np.maximum(y, other_y)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    areas, of_others = width * height, other_width * other_height
    union = np.where(is_crowd, areas, areas + of_others - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def precisions_by_class(labels: Integers, hits: Flags, objects: Integers) -> Floats:
    """Return the precision of every class at COCO's 101 recalls: the largest at this one or above.

    The mean of a row is the average precision of the class.

    Args:
        labels: Class indices of the detections `(m,)`, the best first.
        hits: Whether they found an object, `(m,)`.
        objects: Number of objects of every class `(K + 1,)`; index 0 is not a class.

    Returns:
        `(K + 1, 101)`; 0 for a class without an object, as in TIDE.
    """
    # Numpy sorts integers of up to 16 bits in linear time.
    order = np.argsort(labels.astype(np.min_scalar_type(len(objects))), kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(objects) + 1)).tolist()
    hits = hits[order]
    values = np.zeros((len(objects), len(RECALLS)))
    for each in np.flatnonzero(objects).tolist():
        found = np.cumsum(hits[ends[each] : ends[each + 1]])
        precision = found / np.arange(1, len(found) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(found / objects[each], RECALLS, side="left")
        values[each] = np.append(envelope, 0.0)[places]
    return values
