import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from parcnet_train.segmentation import iou as overlap
from parcnet_train.segmentation.iou import (
    Confusion,
    intersection_over_union,
    pixel_accuracy,
)


def test_iou_matches_scikit_learn():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 5, (2, 10_000))
    confusion = torch.from_numpy(confusion_matrix(truth, predicted, labels=range(5)))
    expected = jaccard_score(truth, predicted, average=None)
    assert intersection_over_union(confusion).numpy() == pytest.approx(expected, abs=1e-12)
    assert pixel_accuracy(confusion).item() == pytest.approx(accuracy_score(truth, predicted))


@pytest.mark.parametrize("classes", [2, 5, 255])
def test_confusion_matrix_matches_scikit_learn(classes, monkeypatch):
    monkeypatch.setattr(overlap, "CHUNK", 300)
    random = np.random.default_rng(classes)
    truth, found = random.integers(0, classes, (2, 37, 41), dtype=np.uint8)
    truth[random.random(truth.shape) < 0.2] = 255
    truth[5] = 255  # classes that no pixel has are counted too
    metric = Confusion(classes)
    metric.update(torch.from_numpy(found[:20]), torch.from_numpy(truth[:20]))
    metric.update(torch.from_numpy(found[20:]).long(), torch.from_numpy(truth[20:]))
    counted = truth != 255
    expected = confusion_matrix(truth[counted], found[counted], labels=range(classes))
    assert np.array_equal(metric.compute().numpy(), expected)


def test_a_large_image_fits_into_memory_with_deterministic_algorithms(monkeypatch):
    """torchmetrics' matrix would need 150^2 numbers of 8 bytes per pixel: 180 GB."""
    truth = torch.randint(150, (1000, 1000), generator=torch.Generator().manual_seed(0))
    metric = Confusion(150)
    torch.use_deterministic_algorithms(True)
    try:
        metric.update(truth.byte(), truth.byte())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(metric.compute(), truth.flatten().bincount().diag())


def test_iou_of_an_absent_class_is_nan():
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    shares = intersection_over_union(confusion)
    assert shares[:2].tolist() == [pytest.approx(3 / 4), pytest.approx(4 / 5)]
    assert shares[2].isnan()
