import importlib
import json
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco_files import METRICS
from faults import is_like
from parcnet_train.benchmarks.evaluation import make_detections
from parcnet_train.data.batches import PADDING
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.data.samplers import EvalBatches
from parcnet_train.detection import evaluation
from parcnet_train.detection.evaluation import (
    EVALUATOR,
    GatherDetections,
    coco_metrics,
    problem_of,
    write_predictions,
)
from parcnet_train.detection.evaluators import installed, version_of
from parcnet_train.detection.types import Detections
from parcnet_train.errors import TrainingError

CATEGORIES = {7: "pear", 3: "apple", 90: "quince", 12: "rare"}  # gaps, and not in order
IMAGES = 23  # a prime, so that no number of processes divides it
HEIGHT, WIDTH = 400, 600


def random_boxes(random, number):
    """Make boxes (left, top, width, height) of all of COCO's size ranges."""
    sizes = 10 ** random.uniform(0.7, 2.4, (number, 2))
    return np.hstack([random.uniform(0, 1, (number, 2)) * (WIDTH, HEIGHT) - sizes / 3, sizes])


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """Write annotations with crowds, images without boxes, and unordered ids with gaps."""
    random = np.random.default_rng(0)
    image_ids = random.permutation(1000)[:IMAGES].tolist()
    # See `random_detections`.
    first = {"bbox": [8, 8, 100, 50], "area": 5000, "iscrowd": 0, "category_id": 90}
    annotations = [{"id": 1, "image_id": image_ids[4], **first}]
    for image_id in image_ids[3:]:
        number = int(random.integers(0, 7))
        for box in random_boxes(random, number).round(2).tolist():
            # A mask covers a part of its box, which may make a large box a medium object.
            area = box[2] * box[3] * random.choice([0, 0.3, 1])
            annotation = {"image_id": image_id, "bbox": box, "area": float(area)}
            annotation["iscrowd"] = int(random.random() < 0.2)
            annotation["category_id"] = int(random.choice([3, 7, 90]))  # "rare" has no object
            annotations.append({"id": len(annotations) + 1, **annotation})
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in image_ids
    ]
    categories = [{"id": i, "name": name} for i, name in CATEGORIES.items()]
    path = tmp_path_factory.mktemp("coco") / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


@pytest.fixture(scope="module")
def annotations(coco_file):
    return read_annotations(coco_file)


def detections_of(boxes, scores, labels):
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return Detections(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


def ground_truth(annotations):
    """Return the ground truth as detections, without crowds."""
    found = []
    for image in range(len(annotations)):
        here = annotations.of(image)
        kept = ~annotations.is_crowd[here]
        boxes, labels = annotations.boxes[here][kept], annotations.labels[here][kept]
        found.append(detections_of(boxes, np.full(len(boxes), 0.9), labels))
    return found


def random_detections(annotations):
    """Make detections near objects and elsewhere; most scores are equal."""
    random = np.random.default_rng(1)
    found = []
    for image in range(len(annotations)):
        here = annotations.of(image)
        near = np.repeat(annotations.boxes[here], 2, axis=0)
        boxes = np.vstack([near * random.normal(1, 0.05, near.shape), random_boxes(random, 4)])
        labels = [*np.repeat(annotations.labels[here], 2), *random.integers(1, 5, 4)]
        if image == 4:  # IoU of exactly 0.6, one of the thresholds
            boxes, labels = np.array([[8, 8, 100, 30]]), [annotations.labels[here][0]]
        if image % 5 == 0:  # an image without detections
            boxes, labels = boxes[:0], labels[:0]
        found.append(detections_of(boxes, random.choice([0.3, 0.5, 0.9], len(boxes)), labels))
    return found


def gather(detections, processes=1, batch_size=4, order=slice(None)):
    """Yield the detections that every process gets, sharded as the data modules do."""
    metrics = [GatherDetections() for _ in range(processes)]
    nothing = detections_of(np.ones((1, 4)), [0.8], [1])  # a detection in the padding of a batch
    for rank, metric in enumerate(metrics):
        batches = list(EvalBatches(len(detections), batch_size, (8, 8), rank, processes))
        for keys in batches[order]:
            samples = [key.sample for key in keys]
            found = [nothing if each == PADDING else detections[each] for each in samples]
            metric.update(torch.tensor(samples), found)
    first, *others = metrics
    for other in others:
        first.merge_state(other)
    return first.compute()


def official(coco_file, predictions, images=None):
    """Return pycocotools' twelve metrics, and the average precision of every category."""
    truth = COCO(coco_file)
    scoring = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
    if images is not None:
        scoring.params.imgIds = images
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
    precision = scoring.eval["precision"][:, :, :, 0, -1]
    names = [truth.cats[each]["name"] for each in scoring.params.catIds]
    return scoring.stats, dict(zip(names, precision.mean(axis=(0, 1)), strict=True))


def assert_equal(metrics, stats, of_categories):
    expected = dict(zip(METRICS, stats, strict=True))
    expected |= {f"ap/{name}": value for name, value in of_categories.items()}
    expected = {name: math.nan if value == -1 else value for name, value in expected.items()}
    assert metrics == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("evaluator", installed())
def test_metrics_match_pycocotools_on_the_written_files(
    evaluator, coco_file, annotations, tmp_path
):
    found = gather(random_detections(annotations))
    write_predictions(tmp_path / "predictions.json", annotations, found)
    metrics = coco_metrics(annotations, found, evaluator)
    assert_equal(metrics, *official(coco_file, tmp_path / "predictions.json"))
    assert all(0.02 < metrics[name] < 0.98 for name in METRICS)
    assert math.isnan(metrics["ap/rare"])


@pytest.mark.parametrize("evaluator", installed())
def test_images_that_were_not_evaluated_do_not_count(evaluator, coco_file, annotations, tmp_path):
    found = gather(random_detections(annotations), order=slice(3))
    assert found.images.tolist() == list(range(12))
    write_predictions(tmp_path / "predictions.json", annotations, found)
    seen = annotations.image_ids[:12].tolist()
    expected = official(coco_file, tmp_path / "predictions.json", seen)
    assert_equal(coco_metrics(annotations, found, evaluator), *expected)


@pytest.mark.parametrize("evaluator", installed())
def test_detecting_the_ground_truth_gives_perfect_scores(evaluator, annotations):
    metrics = coco_metrics(annotations, gather(ground_truth(annotations)), evaluator)
    assert math.isnan(metrics.pop("ap/rare"))
    perfect = {name: value for name, value in metrics.items() if name not in ("mar_1", "mar_10")}
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0), abs=1e-6)
    assert metrics["mar_1"] < 1  # a single detection per image finds only one object


def test_random_boxes_score_near_zero(annotations):
    random = np.random.default_rng(2)
    found = [
        detections_of(random_boxes(random, 9), random.random(9), random.integers(1, 4, 9))
        for _ in range(IMAGES)
    ]
    assert coco_metrics(annotations, gather(found))["map"] < 0.01


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["forth", "back"])
def test_metrics_do_not_depend_on_processes_batches_and_order(processes, order, annotations):
    detections = random_detections(annotations)
    alone = gather(detections)
    together = gather(detections, processes, batch_size=3, order=order)
    for name, values in alone._asdict().items():
        np.testing.assert_array_equal(values, together._asdict()[name], strict=True)
    assert coco_metrics(annotations, alone) == pytest.approx(
        coco_metrics(annotations, together), abs=0, nan_ok=True
    )


def test_an_image_seen_twice_counts_once(annotations):
    detections = random_detections(annotations)
    metric = GatherDetections()
    for _ in range(2):
        metric.update(torch.arange(IMAGES), detections)
    for name, values in gather(detections)._asdict().items():
        np.testing.assert_array_equal(values, metric.compute()._asdict()[name], strict=True)


def test_boxes_that_are_not_finite_are_not_detections():
    metric = GatherDetections()
    boxes = torch.tensor([[0, 0, 9, 9], [0, 0, torch.nan, 9], [0, 0, torch.inf, 9]])
    found = Detections(boxes, torch.tensor([0.5, 0.7, 0.9]), torch.tensor([1, 2, 1]))
    metric.update(torch.tensor([0]), [found])
    assert metric.compute().scores.tolist() == [0.5]


@pytest.mark.parametrize("evaluator", installed())
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("named", [[3], [3, 7, 90]], ids=["one category", "several"])
@pytest.mark.parametrize("seen", [[], [3]], ids=["no object", "objects of one"])
def test_a_single_category_matches_pycocotools(seen, named, processes, evaluator, tmp_path):
    random = np.random.default_rng(3)
    objects = [(image, box) for image in range(5) for box in random_boxes(random, 2).round(2)]
    document = {
        "images": [
            {"id": 11 * i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in range(5)
        ],
        "annotations": [
            {"id": number, "image_id": 11 * image, "category_id": seen[0], "iscrowd": 0}
            | {"bbox": box.tolist(), "area": float(box[2] * box[3])}
            for number, (image, box) in enumerate(objects if seen else [], start=1)
        ],
        "categories": [{"id": each, "name": CATEGORIES[each]} for each in named],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(document))
    annotations = read_annotations(file)
    boxes = [np.array([box for image, box in objects if image == i]) for i in range(5)]
    found = gather(
        [detections_of(each * 1.03, random.random(2), [1, 1]) for each in boxes], processes
    )
    metrics = coco_metrics(annotations, found, evaluator)
    write_predictions(tmp_path / "predictions.json", annotations, found)
    assert_equal(metrics, *official(file, tmp_path / "predictions.json"))
    assert math.isnan(metrics["map"]) != bool(seen)
    assert {name for name in metrics if name.startswith("ap/")} == {
        f"ap/{CATEGORIES[each]}" for each in named
    }
    for each in named:
        assert math.isnan(metrics[f"ap/{CATEGORIES[each]}"]) == (each not in seen)
    if seen:
        assert metrics["map"] == pytest.approx(metrics["ap/apple"], abs=1e-6)


@pytest.mark.parametrize("evaluator", installed())
def test_metrics_without_objects_are_nan(evaluator, annotations):
    found = gather(ground_truth(annotations), order=slice(1), batch_size=3)
    assert len(found.images) == 3
    assert len(found.scores) == 0
    metrics = coco_metrics(annotations, found, evaluator)
    assert len(metrics) == len(METRICS) + len(CATEGORIES)
    assert all(math.isnan(value) for value in metrics.values())


def test_written_predictions_have_original_ids_and_all_digits(annotations, tmp_path):
    image = 5
    found = [detections_of(np.zeros((0, 4)), [], [])] * IMAGES
    found[image] = detections_of(np.array([[0.1, 20.25, 300.3, 40.5]]), [0.7], [2])
    path = tmp_path / "predictions.json"
    write_predictions(path, annotations, gather(found))
    (written,) = json.loads(path.read_text())
    left, right = np.float32(0.1), np.float32(0.1 + 300.3)
    assert float(right - left) != float(right) - float(left)
    assert written == {
        "image_id": int(annotations.image_ids[image]),
        "category_id": 7,
        "bbox": [float(left), 20.25, float(right) - float(left), 40.5],
        "score": float(np.float32(0.7)),
    }
    assert [each.name for each in tmp_path.iterdir()] == ["predictions.json"]


def test_unwritable_predictions_give_one_line(annotations, tmp_path):
    (tmp_path / "file").touch()
    found = gather(ground_truth(annotations))
    with pytest.raises(TrainingError, match=r"predictions.json cannot be written: .*paths.runs="):
        write_predictions(tmp_path / "file" / "predictions.json", annotations, found)


def test_boxes_have_the_same_dtype_in_all_processes():
    metric = GatherDetections()
    found = detections_of(np.ones((1, 4)), [0.5], [1])
    metric.update(torch.tensor([0]), [found._replace(boxes=found.boxes.double())])
    metric.update(torch.tensor([1]), [found])
    assert {each.dtype for each in metric.boxes} == {torch.float32}


def test_evaluator_is_logged_once(annotations, caplog):
    evaluation._log.cache_clear()
    found = gather(ground_truth(annotations))
    with caplog.at_level("INFO", logger="parcnet_train"):
        for _ in range(2):
            coco_metrics(annotations, found)
    assert caplog.messages == [f"{version_of(EVALUATOR)} computes COCO's metrics"]
    assert installed()[0] == EVALUATOR


def test_more_boxes_than_coco_counts_are_named_and_logged(annotations, caplog):
    evaluation._log.cache_clear()
    with caplog.at_level("INFO", logger="parcnet_train"):
        metrics = coco_metrics(annotations, gather(ground_truth(annotations)), most=300)
    assert is_like(caplog.text, "computes COCO's metrics, with up to 300 instead of 100 boxes per")
    names = [name for name in metrics if not name.startswith("ap/")]
    assert names == [name.replace("mar_100", "mar_300") for name in METRICS]


# Training images of pear, apple, quince and rare, by COCO's ids: 3, 7, 12, 90.
@pytest.mark.parametrize(
    ("training_images", "groups"),
    [
        ([10, 11, 1, 100], {"rare": ["apple", "rare"], "common": ["pear", "quince"]}),
        ([1, 101, 0, 10], {"rare": ["apple", "quince"], "frequent": ["pear"]}),
        ([0, 0, 5, 0], {"rare": ["rare"]}),  # a class without objects to find
    ],
)
@pytest.mark.parametrize("evaluator", installed())
def test_precision_of_rare_classes_is_the_mean_over_them(
    training_images, groups, evaluator, annotations
):
    found = gather(random_detections(annotations))
    metrics = coco_metrics(annotations, found, evaluator, training_images=training_images)
    grouped = ("map_rare", "map_common", "map_frequent")
    assert {name for name in metrics if name in grouped} == {f"map_{name}" for name in groups}
    for group, members in groups.items():
        of_members = [metrics[f"ap/{name}"] for name in members]
        expected = np.mean([value for value in of_members if not math.isnan(value)] or [math.nan])
        assert metrics[f"map_{group}"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.skipif("hotcoco" not in installed(), reason="hotcoco is not installed")
def test_rare_classes_and_300_boxes_match_the_lvis_evaluation_of_hotcoco():
    """On images that are annotated with all classes, LVIS's evaluation is COCO's with 300 boxes."""
    annotations, found = make_detections(40, 30)
    annotations.is_crowd[:] = False
    counts = np.random.default_rng(0).choice([1, 10, 11, 100, 101, 5000], 80).tolist()
    metrics = coco_metrics(annotations, found, "hotcoco", 300, counts)
    library = importlib.import_module("hotcoco")
    problem = problem_of(annotations, found)
    truth, detections = problem.truth, problem.found
    every = {"neg_category_ids": [*range(1, 81)], "not_exhaustive_category_ids": []}
    letters = np.select([np.array(counts) <= 10, np.array(counts) <= 100], ["r", "c"], "f")
    coco = library.COCO.from_arrays(
        [{"id": number, **every} for number in range(1, 41)],
        [{"id": n + 1, "name": str(n), "frequency": str(letters[n])} for n in range(80)],
        *truth[:3],
        ids=np.arange(1, len(truth.images) + 1),
        area=truth.areas,
    )
    columns = (detections.images, detections.boxes, detections.scores, detections.labels)
    scoring = library.COCOeval(
        coco, coco.load_res(np.column_stack(columns)), "bbox", lvis_style=True
    )
    scoring.run()
    expected = scoring.get_results()
    for ours, theirs in (
        *(("map", "AP"), ("map_rare", "APr"), ("map_common", "APc"), ("map_frequent", "APf")),
        *(("map50", "AP50"), ("map_large", "APl"), ("mar_300", "AR@300"), ("mar_small", "ARs@300")),
    ):
        assert metrics[ours] == pytest.approx(expected[theirs], abs=1e-12), ours
