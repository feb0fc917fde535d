import functools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import running
from coco_files import CATEGORIES, METRICS, write_coco
from parcnet_train.data.batches import UNLABELED, DetectionBatch
from parcnet_train.detection.anchors import make_anchors
from parcnet_train.detection.evaluation import EVALUATOR
from parcnet_train.detection.evaluators import version_of
from parcnet_train.detection.loss import multibox_loss
from parcnet_train.detection.types import DetectionOutputs, Detections
from parcnet_train.tasks import detection
from parcnet_train.tasks.detection import DetectionTask

SIZE = 64
TINY = [
    "task=detection",
    "backbone=parcnet_xs",
    "debug=tiny",
    "data=coco_format",
    "trainer=cpu",
    "recipe.schedule.warmup_steps=0",
    "trainer.limit_val_batches=1.0",
]


def make_task(network, **settings):
    """Build a task around a network, as in a trainer with one process."""
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    task = DetectionTask(
        network,
        4,
        optimizer=optimizer,
        schedule=lambda *_, **__: 0.1,
        reference_batch=2,
        **settings,
    )
    task._trainer = type("Trainer", (), {"world_size": 1})()
    return task


class Fixed(nn.Module):
    """A network with the same outputs for all images."""

    def __init__(self):
        super().__init__()
        self.anchors = make_anchors([(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)])
        generator = torch.Generator().manual_seed(0)
        count = len(self.anchors)
        self.logits = nn.Parameter(torch.randn(1, count, 4, generator=generator))
        self.offsets = nn.Parameter(torch.randn(1, count, 4, generator=generator))

    def forward(self, images):
        count = len(images)
        return DetectionOutputs(
            self.logits.expand(count, -1, -1), self.offsets.expand(count, -1, -1), self.anchors
        )


def make_batch(boxes, labels):
    count = len(boxes)
    return DetectionBatch(
        torch.zeros(count, 3, SIZE, 2 * SIZE, dtype=torch.uint8),
        torch.tensor(boxes),
        torch.tensor(labels),
        torch.arange(count),
        torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(count, -1),
        torch.tensor(0),
    )


BOXES = [[[10.0, 5, 60, 50], [70, 8, 120, 60]], [[20.0, 20, 100, 64], [0, 0, 0, 0]]]
LABELS = [[1, 3], [2, UNLABELED]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_averaged_over_positive_anchors_of_the_whole_batch(smoothing):
    task = make_task(Fixed(), label_smoothing=smoothing)
    batch = make_batch(BOXES, LABELS)
    shares = batch.boxes / torch.tensor([2 * SIZE, SIZE, 2 * SIZE, SIZE])
    sums = multibox_loss(task.model(batch.images), shares, batch.labels, smoothing)
    expected = (sums.boxes.sum() + sums.classes.sum()) / sums.positives.sum()
    assert sums.positives.min() > 0
    torch.testing.assert_close(task.training_step(batch, 0), expected)
    logged = task.train_metrics.compute()["train/loss_epoch"]
    torch.testing.assert_close(logged, expected.detach())


def test_a_batch_without_objects_has_loss_0():
    task = make_task(Fixed())
    batch = make_batch(BOXES, [[UNLABELED] * 2] * 2)
    loss = task.training_step(batch, 0)
    loss.backward()
    assert loss.item() == 0
    assert task.model.logits.grad.abs().sum() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven images for training and seven for validation, with one to three boxes each."""
    random = np.random.default_rng(0)

    def document(count):
        images, boxes = [], []
        for number in range(count):
            height, width = (int(side) for side in random.integers(60, 120, 2))
            name = {"id": 100 - number, "file_name": f"{number}.png"}
            images.append({**name, "height": height, "width": width})
            for index in range(number % 3 + 1):
                side = int(random.integers(15, 40))
                box = [5 + 3 * index, 7 + 9 * index, side, side + 2]
                kind = CATEGORIES[int(random.integers(3))]["id"]
                annotation = {"id": len(boxes) + 1, "bbox": box, "category_id": kind}
                boxes.append({**annotation, "image_id": name["id"]})
        return {"images": images, "annotations": boxes, "categories": CATEGORIES}

    return write_coco(tmp_path_factory.mktemp("coco"), document(11), document(7))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A short training, and what it returned."""
    output = tmp_path_factory.mktemp("run")
    wanted = [f"data.root={folder}", "task.save_predictions=true", "task.pictures=2"]
    return output, running.run([*TINY, *wanted], output, draws=True)


def test_a_training_writes_metrics_predictions_and_pictures(trained):
    output, results = trained
    assert results["monitor"] == "val/map"
    names = {f"val/{name}" for name in METRICS} | {f"val/ap/{c['name']}" for c in CATEGORIES}
    assert names | {"val/loss", "val/skipped"} <= results.keys()
    assert math.isfinite(results["val/map"])
    assert results["evaluator"] == version_of(EVALUATOR)
    assert results["evaluated_detections"] == 100
    predictions = json.loads((output / "predictions.json").read_text())
    assert {each["image_id"] for each in predictions} <= set(range(94, 101))
    names = {path.name for path in (output / "pictures").iterdir()}
    assert {"epoch_001.jpg", "final.jpg", "batch_1_1.jpg", "batch_1_2.jpg"} <= names


def test_a_training_has_a_page(trained):
    assert running.page_parts(trained[0]) >= running.WHOLE_PAGE


def test_a_custom_set_need_not_count_its_images():
    task = make_task(Fixed())
    data = type("Data", (), {"train_set": [1, 2, 3]})
    task._trainer = type("Trainer", (), {"datamodule": data})()
    task.on_fit_start()
    assert task.training_images is None


def ground_truth(outputs, *settings):
    """Replace `detect`: return the boxes of the batch, as shares of the network's input."""
    return [
        Detections(boxes[labels > 0], torch.ones(int((labels > 0).sum())), labels[labels > 0])
        for boxes, labels in zip(outputs.box_offsets, outputs.class_logits, strict=True)
    ]


@pytest.mark.parametrize("keep_aspect", ["true", "false"])
def test_detecting_the_ground_truth_gives_map_1(
    keep_aspect, trained, folder, tmp_path, monkeypatch
):
    """Boxes go through reading, resizing, and back to the pixels of the original images."""
    losses = DetectionTask.losses

    def remember(task, outputs, batch, *settings):
        height, width = batch.images.shape[2:]
        shares = batch.boxes / torch.tensor([width, height, width, height])
        task.seen = DetectionOutputs(batch.labels, shares, outputs.anchors)
        return losses(task, outputs, batch, *settings)

    monkeypatch.setattr(DetectionTask, "losses", remember)
    monkeypatch.setattr(DetectionTask, "in_originals", in_originals_of_truth)
    of_run = ["action=test", f"ckpt={trained[0]}", f"data.root={folder}"]
    results = running.run([*TINY, *of_run, f"data.keep_aspect={keep_aspect}"], tmp_path)
    assert results["val/map"] == 1
    assert results["val/mar_100"] == 1


def test_an_evaluation_knows_rare_classes_without_the_training_set(trained, folder, tmp_path):
    output, results = trained
    root = tmp_path / "without"
    for name in ("val2017", "annotations/instances_val2017.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(folder / name)
    limit = "task.evaluated_detections=200"
    of_run = ["action=test", f"ckpt={output}", f"data.root={root}", limit]
    evaluated = running.run([*TINY, *of_run], tmp_path / "run")
    assert evaluated["val/map_rare"] == results["val/map_rare"]  # of at most 10 training images
    assert not {"val/map_common", "val/map_frequent"} & results.keys()
    assert (evaluated["evaluated_detections"], "val/mar_100" in evaluated) == (200, False)
    assert evaluated["val/mar_200"] >= results["val/mar_100"]


IN_ORIGINALS = DetectionTask.in_originals


def in_originals_of_truth(task, found, batch):
    return IN_ORIGINALS(task, ground_truth(task.seen), batch)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_an_evaluation_does_not_depend_on_the_number_of_processes(
    processes, trained, folder, tmp_path
):
    output, results = trained
    overrides = [*TINY, "action=test", f"ckpt={output}", f"data.root={folder}"]
    several = running.launched(overrides, processes, tmp_path)
    names = [name for name in results if name.startswith("val/")]
    assert len(names) > 12
    for name in names:
        value = None if math.isnan(results[name]) else results[name]
        assert several[name] == value, name


def test_score_threshold_is_the_configured_one(monkeypatch):
    given = []
    monkeypatch.setattr(
        detection, "detect", lambda outputs, *settings: given.append(settings) or []
    )
    task = make_task(
        Fixed(), score_threshold=0.05, nms_iou=0.4, candidates=9, detections_per_image=3
    )
    monkeypatch.setattr(task, "in_originals", lambda found, batch: found)
    monkeypatch.setattr(task.found, "update", lambda *_: None)
    assert task.validation_step(make_batch(BOXES, LABELS), 0) == {"detections": []}
    assert given == [(0.05, 0.4, 9, 3)]
