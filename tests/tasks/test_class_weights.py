"""Class weights: the weighted mean of torch's cross entropy, exact for any number of processes."""

import functools

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from parcnet_train.data.batches import IGNORED, ClassificationBatch, SegmentationBatch
from parcnet_train.errors import ConfigError
from parcnet_train.tasks import classification, segmentation
from parcnet_train.tasks.class_weights import balanced_weights, weights_of
from voc_files import mask_of
from voc_modules import make_data

WEIGHTS = torch.tensor([0.5, 2.0, 1.25])
LABELS = torch.tensor([0, 2, 1, 1, 0, 0])


class Echo(nn.Module):
    """A network whose logits are its images."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images, with_maps=False):
        outputs = images * self.scale
        return (outputs, []) if with_maps else outputs


class Teacher:
    """A distillation whose loss is 3 for every image."""

    def __init__(self, alpha):
        self.settings = type("Settings", (), {"alpha": alpha})

    def losses(self, images, outputs, maps):
        return torch.full((len(images),), 3.0)


def make_task(kind, weights=WEIGHTS, **settings):
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    schedule = {"schedule": lambda *_, **__: 0.1, "reference_batch": 2}
    task = kind(Echo(), 3, optimizer=optimizer, **schedule, **settings)
    task.weights = weights
    return task


def classified(rows=slice(None)):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    return ClassificationBatch(logits[rows], LABELS[rows], torch.arange(6)[rows], torch.tensor(0))


def masked(rows=slice(None)):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 5, 6, generator=generator)
    masks = torch.randint(3, (4, 5, 6), generator=generator).byte()
    masks[:, 0], masks[3] = IGNORED, IGNORED
    samples, placements = torch.arange(4), torch.ones(4, 4)
    return SegmentationBatch(
        logits[rows], masks[rows], samples[rows], placements[rows], [], torch.tensor(0)
    )


def expected(logits, labels, label_smoothing=0.0):
    """The definition in float64: torch's reduction `mean` with weights."""
    return functional.cross_entropy(
        logits.double(),
        labels.long(),
        WEIGHTS.double(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    ).item()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_of_classification_is_the_weighted_mean(label_smoothing):
    task = make_task(classification.ClassificationTask, label_smoothing=label_smoothing)
    batch = classified()
    loss = task.training_step(batch, 0).item()
    assert loss == pytest.approx(expected(batch.images, LABELS, label_smoothing), rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_of_segmentation_is_the_weighted_mean(label_smoothing):
    task = make_task(segmentation.SegmentationTask, label_smoothing=label_smoothing)
    batch = masked()
    loss = task.training_step(batch, 0).item()
    assert loss == pytest.approx(expected(batch.images, batch.masks, label_smoothing), rel=1e-6)


@pytest.mark.parametrize(
    ("module", "kind", "make"),
    [
        (classification, classification.ClassificationTask, classified),
        (segmentation, segmentation.SegmentationTask, masked),
    ],
)
def test_mean_loss_over_processes_is_the_loss_of_all_images(module, kind, make, monkeypatch):
    task, parts = make_task(kind, label_smoothing=0.0), [slice(0, 1), slice(1, None)]
    whole = task.training_step(make(), 0).item()
    sums = []
    monkeypatch.setattr(module, "mean", lambda value: sums.append(value) or value)
    for part in parts:
        task.training_step(make(part), 0)
    monkeypatch.setattr(module, "mean", lambda _: sum(sums) / len(parts))
    losses = [task.training_step(make(part), 0).item() for part in parts]
    assert np.mean(losses) == pytest.approx(whole, rel=1e-6)


def test_batch_without_labeled_pixels_has_no_loss():
    task = make_task(segmentation.SegmentationTask)
    assert task.training_step(masked(slice(3, 4)), 0).item() == 0.0


def test_weights_of_mixed_labels_are_those_of_their_shares():
    task = make_task(classification.ClassificationTask, label_smoothing=0.0)
    batch = classified()
    hard = task.training_step(batch, 0).item()
    shares = functional.one_hot(LABELS, 3).float()
    assert task.training_step(batch._replace(labels=shares), 0).item() == pytest.approx(hard)


def losses_of(task, batch):
    """The loss of a step, and the loss that is logged for its epoch."""
    loss = task.training_step(batch, 0).item()
    return loss, task.train_metrics.compute()["train/loss_epoch"].item()


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("make", [classified, masked])
def test_equal_weights_change_nothing(make, alpha):
    is_dense = make is masked
    kind = segmentation.SegmentationTask if is_dense else classification.ClassificationTask
    plain, weighted = (make_task(kind, each) for each in (None, torch.full((3,), 2.0)))
    if alpha is not None:
        plain.distillation = weighted.distillation = Teacher(alpha)
    batch = make()
    assert losses_of(weighted, batch) == pytest.approx(losses_of(plain, batch), rel=1e-6)


def test_logged_loss_has_the_weights_and_the_teacher():
    task, batch = make_task(classification.ClassificationTask, label_smoothing=0.0), classified()
    loss, logged = losses_of(task, batch)
    assert logged == pytest.approx(loss, rel=1e-6)
    task.train_metrics.reset()
    task.distillation = Teacher(0.25)
    loss, logged = losses_of(task, batch)
    assert loss == pytest.approx(0.75 * expected(batch.images, LABELS) + 0.25 * 3.0, rel=1e-6)
    assert logged == pytest.approx(loss, rel=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [7, 2, 4])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(np.bincount(labels)), wanted)
    absent = balanced_weights(np.bincount(labels, minlength=4))
    np.testing.assert_allclose(absent, [*wanted, 1.0])


def test_balanced_weights_of_masks_count_their_pixels(voc_folder):
    data = make_data(voc_folder)
    data.setup("fit")
    masks = np.concatenate([mask_of(name).ravel() for name in "abcd"])
    counts = np.bincount(masks, minlength=256)[:3]
    np.testing.assert_array_equal(data.class_counts(3), counts)
    found = weights_of("balanced", 3, data, torch.device("cpu"))
    np.testing.assert_allclose(found, balanced_weights(counts), rtol=1e-6)


def test_processes_share_the_masks_that_are_counted(voc_folder, monkeypatch):
    data = make_data(voc_folder)
    data.setup("fit")
    whole, read = data.class_counts(3), []
    counted = data.train_set.mask_path
    monkeypatch.setattr(data.train_set, "mask_path", lambda n: read.append(n) or counted(n))
    parts = []
    for rank in range(3):
        monkeypatch.setattr(data, "_place", lambda rank=rank: (rank, 3))
        parts.append(data.class_counts(3))
    np.testing.assert_array_equal(sum(parts), whole)
    assert sorted(read) == list(range(len(data.train_set)))


def test_list_of_another_length_is_refused():
    with pytest.raises(ConfigError, match=r"the list has 2 weights; expected 3, one per class"):
        make_task(segmentation.SegmentationTask, class_weights=[1.0, 2.0])
