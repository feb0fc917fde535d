import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from parcnet_train.segmentation.overlap import intersection_over_union, pixel_accuracy


def test_overlap_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 5, (2, 10_000))
    confusion = torch.from_numpy(confusion_matrix(truth, predicted, labels=range(5)))
    expected = jaccard_score(truth, predicted, average=None)
    assert intersection_over_union(confusion).numpy() == pytest.approx(expected, abs=1e-12)
    assert pixel_accuracy(confusion).item() == pytest.approx(accuracy_score(truth, predicted))


def test_a_class_that_is_nowhere_has_none():
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    shares = intersection_over_union(confusion)
    assert shares[:2].tolist() == [pytest.approx(3 / 4), pytest.approx(4 / 5)]
    assert shares[2].isnan()
