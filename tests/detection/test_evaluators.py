"""Precision and recall of every installed evaluator, against pycocotools on the whole set."""

import contextlib
import io
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco_files import METRICS
from detection_problems import random_problem
from parcnet_train.benchmarks.evaluation import make_detections, peak_memory
from parcnet_train.deploy.standalone.memory import CLEAR
from parcnet_train.detection import evaluators
from parcnet_train.detection.evaluation import problem_of, summary
from parcnet_train.detection.evaluators import (
    IOU_THRESHOLDS,
    RECALL_THRESHOLDS,
    SIZES,
    Curves,
    Found,
    Problem,
    Truth,
    curves,
    installed,
    version_of,
)

# faster_coco_eval omits a summand of 2e-16 in the precision.
TOLERANCES = {"hotcoco": 0, "faster_coco_eval": 2.5e-16, "pycocotools": 0}
HAS_HOTCOCO = pytest.mark.skipif("hotcoco" not in installed(), reason="hotcoco is not installed")
SEEDS = range(24)


def official(problem):
    """Return pycocotools' curves and twelve metrics for all classes and images at once."""
    datasets = []
    for flat in (problem.truth, problem.found):
        annotations = []
        for number, row in enumerate(zip(*flat, strict=True), start=1):
            box, rest = row[2].tolist(), dict(zip(flat._fields, row, strict=True))
            annotation = {"id": number, "image_id": int(row[0]), "category_id": int(row[1])}
            annotation |= {"bbox": box, "iscrowd": int(rest.get("is_crowd", 0))}
            annotation["area"] = float(rest.get("areas", box[2] * box[3]))
            if "scores" in rest:
                annotation["score"] = float(rest["scores"])
            annotations.append(annotation)
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": number} for number in range(1, problem.images + 1)],
            "categories": [{"id": label} for label in range(1, problem.classes + 1)],
            "annotations": annotations,
        }
        datasets.append(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        for dataset in datasets:
            dataset.createIndex()
        scoring = COCOeval(*datasets, "bbox")
        scoring.params.maxDets = [1, 10, problem.most]
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    precision, stats = scoring.eval["precision"], scoring.stats
    if problem.most != 100:  # for which its first metric is always -1
        of_all = precision[:, :, :, 0, -1]
        stats[0] = of_all[of_all > -1].mean() if (of_all > -1).any() else -1
    return Curves(precision, scoring.eval["recall"]), stats


@pytest.mark.parametrize("evaluator", installed())
@pytest.mark.parametrize("most", [100, 300])
def test_curves_and_metrics_match_pycocotools_on_random_problems(most, evaluator):
    crowds = empty = missing = limited = 0
    for seed in SEEDS:
        problem = random_problem(seed, most)
        expected, stats = official(problem)
        found = curves(problem, evaluator)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= TOLERANCES[evaluator], seed
        metrics = np.array(list(summary(found, most).values()))
        stats = np.where(stats == -1, np.nan, stats)
        np.testing.assert_allclose(metrics, stats, rtol=0, atol=TOLERANCES[evaluator])
        crowds += problem.truth.is_crowd.any()
        empty += len({*problem.truth.images, *problem.found.images}) < problem.images
        missing += len(set(problem.truth.labels)) < problem.classes
        limited += np.bincount(problem.found.images * 10 + problem.found.labels).max() > most
    assert min(crowds, empty, missing, limited) > 2


@pytest.mark.parametrize("evaluator", installed())
@pytest.mark.parametrize("objects", [True, False], ids=["objects", "no object"])
@pytest.mark.parametrize("detections", [True, False], ids=["detections", "no detection"])
def test_empty_sets_match_pycocotools(detections, objects, evaluator):
    problem = random_problem(1)
    truth, found = problem.truth, problem.found
    problem = Problem(
        truth if objects else Truth(*(each[:0] for each in truth)),
        found if detections else Found(*(each[:0] for each in found)),
        problem.images,
        problem.classes,
    )
    expected, _ = official(problem)
    for ours, theirs in zip(curves(problem, evaluator), expected, strict=True):
        assert np.abs(ours - theirs).max() <= TOLERANCES[evaluator]
    assert bool((expected.precision == -1).all()) != objects


@pytest.mark.parametrize("evaluator", installed())
def test_equal_scores_rank_by_image_and_position(evaluator):
    """The first of two detections with equal scores is the better one, or the precision falls."""
    box = np.array([[0, 0, 50, 50]] * 2, dtype=np.float64)
    images, labels, crowd = np.array([1, 2]), np.array([1, 1]), np.array([False])
    for first, precision in ((1, 1.0), (2, 0.5)):
        truth = Truth(images[[first - 1]], labels[:1], box[:1], np.array([2500.0]), crowd)
        found = curves(Problem(truth, Found(images, labels, box, np.full(2, 0.5)), 2, 1), evaluator)
        assert found.precision[0, :, 0, 0, -1] == pytest.approx(precision)


@pytest.mark.parametrize("evaluator", installed())
def test_shapes_are_those_of_the_constants(evaluator):
    problem = random_problem(3)
    shape = (problem.classes, len(SIZES), 3)
    found = curves(problem, evaluator)
    assert found.precision.shape == (IOU_THRESHOLDS, RECALL_THRESHOLDS, *shape)
    assert found.recall.shape == (IOU_THRESHOLDS, *shape)
    assert tuple(summary(found)) == METRICS


def dense_problem(most, images=2):
    """Make images of 250 objects of one class, and two detections near each of them."""
    random = np.random.default_rng(0)
    count = 250 * images
    owners, labels = np.repeat(np.arange(images) + 1, 250), np.ones(2 * count, int)
    boxes = np.hstack([random.uniform(0, 900, (count, 2)), np.full((count, 2), 30.0)])
    near = np.repeat(boxes, 2, axis=0) + random.normal(0, 3, (2 * count, 4))
    truth = Truth(owners, labels[:count], boxes, np.full(count, 900.0), np.zeros(count, bool))
    found = Found(np.repeat(owners, 2), labels, near, random.random(2 * count))
    return Problem(truth, found, images, 1, most)


def iou(box, others):
    """Return the IoU of a box with others, (left, top, width, height)."""
    begin = np.maximum(box[:2], others[:, :2])
    end = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common = (end - begin).clip(0).prod(axis=1)
    return common / (box[2] * box[3] + others[:, 2] * others[:, 3] - common)


def defined(problem):
    """Return average precision and recall of one class without crowds, by their definition.

    Each detection takes the best free object; the precision at a recall is the best one at this
    recall and above.
    """
    precisions, recalls = [], []
    for threshold in np.linspace(0.5, 0.95, 10):
        hits, scores = [], []
        for image in range(1, problem.images + 1):
            objects = problem.truth.boxes[problem.truth.images == image]
            here = np.flatnonzero(problem.found.images == image)
            free = np.ones(len(objects), bool)
            for row in here[np.argsort(-problem.found.scores[here])][: problem.most]:
                overlaps = np.where(free, iou(problem.found.boxes[row], objects), 0)
                is_hit = overlaps.max() >= threshold
                free[overlaps.argmax()] &= not is_hit
                hits.append(is_hit)
                scores.append(problem.found.scores[row])
        found = np.cumsum(np.array(hits)[np.argsort(-np.array(scores))])
        recall = found / len(problem.truth.boxes)
        precision = found / np.arange(1, len(found) + 1)
        at = [precision[recall >= level] for level in np.linspace(0, 1, 101)]
        precisions.append(np.mean([each.max() if len(each) else 0 for each in at]))
        recalls.append(recall[-1])
    return np.mean(precisions), np.mean(recalls)


@pytest.mark.parametrize("evaluator", installed())
@pytest.mark.parametrize("most", [100, 300])
def test_images_of_250_objects_match_the_definition(most, evaluator):
    problem = dense_problem(most)
    metrics = summary(curves(problem, evaluator), most)
    assert (metrics["map"], metrics[f"mar_{most}"]) == pytest.approx(defined(problem), abs=1e-12)
    assert metrics[f"mar_{most}"] < most / 250


@pytest.mark.parametrize("evaluator", installed())
def test_100_boxes_per_image_limit_the_recall_of_250_objects(evaluator):
    for most, recall in ((100, 0.4), (300, 1.0)):
        problem = dense_problem(most, images=1)
        truth, scores = problem.truth, problem.found.scores[:250]
        found = Found(truth.images, truth.labels, truth.boxes, scores)
        exact = Problem(truth, found, 1, 1, most)
        assert summary(curves(exact, evaluator), most)[f"mar_{most}"] == pytest.approx(recall)


def peak_of(function, *arguments):
    """Return the peak of Python's memory during a call, in bytes."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_pycocotools_is_that_of_one_class():
    """1 GB for 5,000 images of 100 detections is 1.6 MB for 8; all classes at once take 4 MB."""
    images, detections = 8, 100
    problem = problem_of(*make_detections(images, detections))
    results = sum(each.nbytes for each in curves(problem, "pycocotools"))
    limit = 1e9 * images / 5000
    assert peak_of(curves, problem, "pycocotools") - results < limit


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR.exists(), reason="the system does not report the peak memory")
@pytest.mark.parametrize("evaluator", [each for each in installed() if each != "pycocotools"])
def test_memory_of_5000_images_is_below_1_gb(evaluator):
    assert 5e7 < peak_memory(evaluator, 5000, 100) < 1e9


def test_hotcoco_is_taken_before_faster_coco_eval_and_pycocotools(monkeypatch):
    found = {"hotcoco", "faster_coco_eval", "pycocotools"}
    monkeypatch.setattr(
        evaluators.importlib.util, "find_spec", lambda name: name if name in found else None
    )
    assert installed()[0] == "hotcoco"
    found.remove("hotcoco")
    assert installed() == ["faster_coco_eval", "pycocotools"]
    found.remove("faster_coco_eval")
    assert installed() == ["pycocotools"]


def test_version_names_the_package():
    assert version_of("pycocotools").startswith("pycocotools 2.")
