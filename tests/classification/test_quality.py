"""Confusion, scores and calibration of a classifier, against scikit-learn and torchmetrics."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.classification import MulticlassCalibrationError

from parcnet_train.classification.quality import (
    calibrate,
    confusion_matrix,
    most_confused,
    scores_of,
)

CLASSES = 7


@pytest.fixture
def labels():
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES - 1, 200)  # the last class has no sample
    found = np.where(random.random(200) < 0.6, truth, random.integers(1, CLASSES, 200))
    return truth, found


def test_confusion_is_that_of_scikit_learn(labels):
    expected = metrics.confusion_matrix(*labels, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion_matrix(*labels, CLASSES), expected)


def test_scores_are_those_of_scikit_learn(labels):
    scores = scores_of(confusion_matrix(*labels, CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.precision_recall_fscore_support(
            *labels, labels=range(CLASSES), zero_division=np.nan
        )
    for ours, theirs in zip(scores[:2], expected, strict=False):
        np.testing.assert_allclose(ours, theirs)
    # Without a sample, scikit-learn's F1 is NaN where the recall is; ours counts the predictions.
    np.testing.assert_allclose(scores.f1[:-1], expected[2][:-1])


def test_scores_without_samples_and_predictions_are_nan():
    assert np.isnan(scores_of(np.zeros((2, 2), int))).all()


def test_calibration_error_is_that_of_torchmetrics():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(CLASSES, 0.4), 500)
    truth = random.integers(0, CLASSES, 500)
    metric = MulticlassCalibrationError(CLASSES, n_bins=15)
    expected = metric(torch.tensor(probabilities), torch.tensor(truth)).item()
    hits = probabilities.argmax(axis=1) == truth
    result = calibrate(probabilities.max(axis=1), hits)
    assert result.error == pytest.approx(expected, abs=1e-6)
    assert result.counts.sum() == 500


def test_calibration_follows_its_definition():
    # Two bins: three predictions at 0.4 of which none is right, one at 0.8 that is.
    result = calibrate(np.array([0.4, 0.4, 0.4, 0.8]), np.array([0, 0, 0, 1], bool), bins=2)
    assert result.counts.tolist() == [3, 1]
    np.testing.assert_allclose(result.confidences, [0.4, 0.8])
    np.testing.assert_allclose(result.accuracies, [0, 1])
    assert result.error == pytest.approx(0.75 * 0.4 + 0.25 * 0.2)


def test_empty_bins_and_sets_have_no_share():
    result = calibrate(np.array([1.0]), np.array([True]), bins=2)
    assert (result.counts.tolist(), result.error) == ([0, 1], 0)
    assert np.isnan(result.accuracies[0])
    assert np.isnan(calibrate(np.array([]), np.array([], bool)).error)


def test_most_confused_pairs_come_first_without_the_diagonal():
    confusion = np.array([[9, 3, 0], [5, 9, 1], [0, 0, 9]])
    assert most_confused(confusion, 2) == [(1, 0, 5), (0, 1, 3)]
    assert most_confused(confusion, 9) == [(1, 0, 5), (0, 1, 3), (1, 2, 1)]
