import functools
import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import running
from parcnet_train.data.batches import IGNORED, SegmentationBatch
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.models.model import scaled
from parcnet_train.tasks.segmentation import AUXILIARY_WEIGHT, SegmentationTask
from voc_files import NAMES, VAL, image_path, mask_path, write_voc

CLASSES = 4
TINY = [
    "task=segmentation",
    "backbone=parcnet_xs",
    "debug=tiny",
    "data=voc_format",
    "trainer=cpu",
    "recipe.schedule.warmup_steps=0",
    "trainer.limit_val_batches=1.0",
    "head.channels=16",
]


class Fixed(nn.Module):
    """A network with the same logits for all images, and auxiliary ones if given."""

    def __init__(self, auxiliary=False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.values = nn.Parameter(torch.randn(2, CLASSES, 6, 8, generator=generator))
        self.auxiliary = auxiliary

    def forward(self, images):
        main, other = (each.expand(len(images), -1, -1, -1) for each in self.values[:, None])
        return (main, other) if self.auxiliary else main


def make_task(network, **settings):
    """Build a task around a network, as in a trainer with one process."""
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    return SegmentationTask(
        network,
        CLASSES,
        optimizer=optimizer,
        schedule=lambda *_, **__: 0.1,
        reference_batch=2,
        **settings,
    )


def make_batch(masks):
    return SegmentationBatch(
        torch.zeros(len(masks), 3, 6, 8, dtype=torch.uint8),
        masks,
        torch.arange(len(masks)),
        torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(len(masks), -1),
        [],
        torch.tensor(0),
    )


def random_masks(count=3):
    masks = torch.randint(CLASSES, (count, 6, 8), generator=torch.Generator().manual_seed(1))
    masks[0, :3] = IGNORED
    masks[1] = IGNORED
    return masks.to(torch.uint8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_averaged_over_labeled_pixels_of_the_whole_batch(smoothing):
    task, masks = make_task(Fixed(), label_smoothing=smoothing), random_masks()
    expected = functional.cross_entropy(
        task.model(masks), masks.long(), ignore_index=IGNORED, label_smoothing=smoothing
    )
    torch.testing.assert_close(task.training_step(make_batch(masks), 0), expected)


def test_auxiliary_loss_has_its_weight():
    network, masks = Fixed(auxiliary=True), random_masks()
    main, other = (
        functional.cross_entropy(logits, masks.long(), ignore_index=IGNORED)
        for logits in network(masks)
    )
    loss = make_task(network).training_step(make_batch(masks), 0)
    torch.testing.assert_close(loss, main + AUXILIARY_WEIGHT * other)


def test_a_batch_without_labels_has_loss_0():
    task = make_task(Fixed())
    loss = task.training_step(make_batch(torch.full((2, 6, 8), IGNORED, dtype=torch.uint8)), 0)
    loss.backward()
    assert loss.item() == 0
    assert task.model.values.grad.abs().sum() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A short training, and what it returned."""
    output = tmp_path_factory.mktemp("run")
    return output, running.run(
        [*TINY, f"data.root={folder}", "task.pictures=2"], output, draws=True
    )


def test_a_training_writes_metrics_and_pictures(trained):
    output, results = trained
    assert results["monitor"] == "val/miou"
    assert {f"val/iou/{name}" for name in NAMES} | {"val/loss", "val/skipped"} <= results.keys()
    assert 0 <= results["val/miou"] <= 1
    names = {path.name for path in (output / "pictures").iterdir()}
    assert {"epoch_001.jpg", "final.jpg", "batch_1_1.jpg", "batch_1_2.jpg"} <= names


def test_a_training_has_a_page(trained):
    assert running.page_parts(trained[0]) >= running.WHOLE_PAGE


def predict(monkeypatch, classes_of):
    """Let an evaluation predict a function of the masks of the original images."""

    of_batch = SegmentationTask.classes_of_batch

    def found(task, batch):
        of_batch(task, batch)  # adds the loss
        return [classes_of(mask.long()) for mask in batch.originals]

    monkeypatch.setattr(SegmentationTask, "classes_of_batch", found)


def evaluate(trained, folder, output, *overrides):
    of_run = ["action=test", f"ckpt={trained[0]}", f"data.root={folder}", "task.pictures=0"]
    return running.run([*TINY, *of_run, *overrides], output)


def test_predicting_the_labels_gives_miou_1(trained, folder, tmp_path, monkeypatch):
    predict(monkeypatch, lambda mask: mask.where(mask != IGNORED, 0))
    results = evaluate(trained, folder, tmp_path, "data.evaluation=keep_aspect")
    assert results["val/miou"] == results["val/pixel_accuracy"] == 1


def write_random_masks(root):
    """Write masks with a random class or none at every pixel of the validation images."""
    rng = np.random.default_rng(0)
    masks = {name: rng.choice([0, 1, 2, IGNORED], size) for name, size in VAL.items()}
    for name, mask in masks.items():
        write_mask(mask_path(root, name), mask.astype(np.uint8))
    return masks


def counted_by_numpy(root, masks, weights, side):
    """Compute the confusion matrix of a network of color weights, pixel by pixel."""
    confusion = np.zeros((3, 3))
    for name, mask in masks.items():
        image = cv2.imread(str(image_path(root, name)), cv2.IMREAD_COLOR_RGB)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) / 255
        rows, columns = (np.arange(length) * side // length for length in mask.shape)
        found = (image @ weights.T).argmax(axis=-1)[rows][:, columns]
        for true, predicted in zip(mask.flat, found.flat, strict=True):
            if true != IGNORED:
                confusion[true, predicted] += 1
    return confusion


def test_an_evaluation_matches_numpy(trained, tmp_path, monkeypatch):
    """Files of random masks give results.json, at original size and with one matrix."""
    root = write_voc(tmp_path / "voc")
    masks = write_random_masks(root)
    weights = np.eye(3) + np.random.default_rng(1).normal(scale=0.1, size=(3, 3))
    kernel = torch.tensor(weights, dtype=torch.float32)[..., None, None]
    monkeypatch.setattr(
        SegmentationTask, "logits", lambda _, images: functional.conv2d(scaled(images), kernel)
    )
    evaluate(trained, root, tmp_path / "run", "recipe.image_size=64")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    confusion = counted_by_numpy(root, masks, weights, 64)
    hits = np.diag(confusion)
    shares = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert (confusion > 0).all()
    assert results["val/miou"] == pytest.approx(shares.mean(), abs=1e-9)
    assert results["val/pixel_accuracy"] == pytest.approx(hits.sum() / confusion.sum(), abs=1e-9)
    for name, share in zip(NAMES, shares, strict=True):
        assert results[f"val/iou/{name}"] == pytest.approx(share, abs=1e-9)


@pytest.mark.slow  # test_detection.py has the same for two processes, and is not
@pytest.mark.parametrize("processes", [2, 3])
def test_an_evaluation_does_not_depend_on_the_number_of_processes(
    processes, trained, folder, tmp_path
):
    output, results = trained
    overrides = [*TINY, "action=test", f"ckpt={output}", f"data.root={folder}"]
    several = running.launched(overrides, processes, tmp_path)
    names = [name for name in results if name.startswith("val/")]
    for name in names:
        value = None if np.isnan(results[name]) else results[name]
        assert several[name] == value, name


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.evaluation=windows"],
        ["task.enlarge=bilinear", "data.evaluation=keep_aspect"],
        ["task.scales=[0.5,1.0]", "task.mirror=true"],
    ],
    ids=["windows", "bilinear", "scales"],
)
def test_every_evaluation_setting_runs(overrides, trained, folder, tmp_path):
    results = evaluate(trained, folder, tmp_path, *overrides)
    assert 0 <= results["val/miou"] <= 1
    assert ("val/loss" in results) == ("data.evaluation=windows" not in overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.scales=[]", "task.scales=[]: expected a list of values, each a number"),
        ("task.scales=[1,0]", "task.scales=[1,0]: expected a list of values, each a number"),
        ("task.mirror=1", "task.mirror=1: expected true or false"),
        ("task.enlarge=cubic", "task.enlarge=cubic: expected one of nearest, bilinear"),
    ],
)
def test_check_reports_invalid_evaluation_settings(override, message):
    (fault,) = running.configure([*TINY, "data=demo_segmentation", override])[1]
    assert fault.startswith(message)
