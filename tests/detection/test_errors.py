"""Matches, curves, confusion and TIDE's errors, against pycocotools, hotcoco and planted errors."""

import numpy as np
import pytest

from detection_problems import random_problem
from parcnet_train.detection.errors import (
    BKG,
    CLS,
    DUPE,
    HIT,
    LOC,
    MISS,
    UNCOUNTED,
    confusion_matrix,
    count_errors,
    match,
    precisions_by_class,
    score_curves,
)
from parcnet_train.detection.evaluators import (
    SIZES,
    Found,
    Problem,
    Truth,
    _hotcoco_evaluation,
    curves,
    installed,
)

HAS_HOTCOCO = pytest.mark.skipif("hotcoco" not in installed(), reason="hotcoco is not installed")
SEEDS = range(24)


def problem_of(objects, detections, classes=2, crowds=()):
    """Make a problem of one image: (label, box) and (label, box, score)."""
    boxes = np.array([box for _, box in objects], float).reshape(-1, 4)
    labels = np.array([label for label, _ in objects], int)
    images = np.ones(len(labels), int)
    crowd = np.isin(np.arange(len(labels)), crowds)
    truth = Truth(images, labels, boxes, boxes[:, 2] * boxes[:, 3], crowd)
    found = Found(
        np.ones(len(detections), int),
        np.array([each[0] for each in detections], int),
        np.array([each[1] for each in detections], float).reshape(-1, 4),
        np.array([each[2] for each in detections], float),
    )
    return Problem(truth, found, 1, classes)


A, B, C, FAR = [0, 0, 50, 50], [100, 0, 50, 50], [200, 0, 50, 50], [0, 200, 50, 50]
SHIFTED = [30, 0, 50, 50]  # IoU 0.25 with A


def test_planted_errors_are_told_apart():
    objects = [(1, A), (1, B), (2, C), (2, [300, 0, 50, 50])]
    detections = [
        (1, A, 0.9),  # right
        (1, [2, 0, 50, 50], 0.8),  # the same object again
        (1, SHIFTED, 0.7),  # between A and nothing
        (2, B, 0.6),  # wrong class
        (1, FAR, 0.5),  # nothing there
    ]
    problem = problem_of(objects, detections)
    matches = match(problem)
    assert matches.kinds.tolist() == [HIT, DUPE, LOC, CLS, BKG]
    assert matches.objects.tolist() == [0, -1, 0, 1, -1]
    assert matches.is_found.tolist() == [True, False, False, False]
    errors = count_errors(problem, matches)
    # B is meant by a detection of the wrong class, so only the two objects of class 2 are missed.
    expected = {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 1, MISS: 2}
    assert errors.counts == expected


def test_costs_are_the_gain_of_an_oracle():
    # Class 1: one of two objects found, first of all: AP is 51 of COCO's 101 recalls.
    problem = problem_of([(1, A), (1, B)], [(1, A, 0.9), (2, B, 0.8)], classes=1 + 1)
    errors = count_errors(problem, match(problem))
    assert errors.ap50 == pytest.approx(51 / 101)
    assert errors.costs["Cls"] == pytest.approx(50 / 101)  # B becomes right
    assert errors.costs["Bkg"] == errors.costs["Dupe"] == 0
    # Without the detection of class 2, B is missed; the oracle no longer expects it.
    problem = problem_of([(1, A), (1, B)], [(1, A, 0.9)])
    errors = count_errors(problem, match(problem))
    assert (errors.counts[MISS], errors.costs[MISS]) == (1, pytest.approx(50 / 101))


def test_an_oracle_fixes_only_the_best_detection_of_an_object():
    detections = [(1, SHIFTED, 0.9), (1, [-30, 0, 50, 50], 0.8), (1, B, 0.7)]
    problem = problem_of([(1, A), (1, B)], detections)
    errors = count_errors(problem, match(problem))
    assert errors.counts["Loc"] == 2
    assert errors.ap50 + errors.costs["Loc"] == pytest.approx(1)


def test_detections_of_a_crowd_do_not_count():
    problem = problem_of([(1, A), (1, B)], [(1, [100, 0, 20, 20], 0.9), (1, A, 0.8)], crowds=[1])
    matches = match(problem)
    assert matches.kinds.tolist() == [UNCOUNTED, HIT]
    assert count_errors(problem, matches).ap50 == 1
    assert confusion_matrix(problem, 0).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_precisions_are_those_of_pycocotools():
    for seed in SEEDS:
        problem = random_problem(seed)
        matches, truth = match(problem), problem.truth
        everything = SIZES.index("all"), -1
        expected = curves(problem, "pycocotools").precision[0, :, :, *everything].T
        objects = np.bincount(truth.labels[~truth.is_crowd], minlength=problem.classes + 1)
        rows = np.argsort(-problem.found.scores, kind="stable")
        rows = rows[matches.kinds[rows] != UNCOUNTED]
        hits = matches.kinds[rows] == HIT
        found = precisions_by_class(problem.found.labels[rows], hits, objects)[1:]
        np.testing.assert_allclose(found[objects[1:] > 0], expected[objects[1:] > 0], atol=1e-12)
        assert not found[objects[1:] == 0].any()


@HAS_HOTCOCO
def test_errors_and_costs_are_those_of_hotcoco():
    counted = np.zeros(6, int)
    for seed in SEEDS:
        problem = random_problem(seed)
        if seed % 2 or problem.truth.is_crowd.any() or not len(problem.found.images):
            continue  # ties have no order in TIDE, and it counts crowds in another way
        expected = _hotcoco_evaluation(problem).tide_errors(pos_thr=0.5, bg_thr=0.1)
        errors = count_errors(problem, match(problem))
        assert errors.counts == expected["counts"], seed
        counted += list(errors.counts.values())
        for name, cost in errors.costs.items():
            assert cost == pytest.approx(expected["delta_ap"][name], abs=1e-9), (seed, name)
    assert (counted > 0).all()  # every kind occurred


@HAS_HOTCOCO
def test_confusion_is_that_of_hotcoco():
    for seed in SEEDS:
        problem = random_problem(seed)
        if seed % 2 or problem.truth.is_crowd.any():
            continue
        expected = _hotcoco_evaluation(problem).confusion_matrix(iou_thr=0.5, min_score=0.3)
        ours = np.roll(confusion_matrix(problem, 0.3), -1, axis=(0, 1))
        np.testing.assert_array_equal(ours, expected["matrix"], str(seed))


def test_curves_follow_their_definition():
    problem = random_problem(2)
    matches, thresholds = match(problem), np.linspace(0, 1, 11)
    result = score_curves(problem, matches, thresholds)
    for label in range(1, problem.classes + 1):
        objects = ((problem.truth.labels == label) & ~problem.truth.is_crowd).sum()
        for place, threshold in enumerate(thresholds):
            shown = (problem.found.labels == label) & (problem.found.scores >= threshold)
            shown &= matches.kinds != UNCOUNTED
            hits = (matches.kinds[shown] == HIT).sum()
            precision, recall, f1 = (each[label - 1, place] for each in result)
            assert np.isnan(precision) if not shown.sum() else precision == hits / shown.sum()
            assert np.isnan(recall) if not objects else recall == hits / objects
            total = shown.sum() + objects
            assert np.isnan(f1) if not total else f1 == pytest.approx(2 * hits / total)


def test_nothing_to_find_and_nothing_found_is_no_error():
    problem = problem_of([], [])
    matches = match(problem)
    errors = count_errors(problem, matches)
    assert np.isnan(errors.ap50)
    assert set(errors.counts.values()) == {0}
    assert confusion_matrix(problem, 0).sum() == 0
