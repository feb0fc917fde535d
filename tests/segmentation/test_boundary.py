"""Distances from boundaries and the errors there, against loops over all pixels."""

import numpy as np

from parcnet_train.data.batches import IGNORED
from parcnet_train.segmentation.boundary import boundary_distance, errors_by_distance


def slow_distance(truth):
    """Distance from every pixel to the nearest one that has a neighbor of another class."""
    height, width = truth.shape
    beside = [
        (row, column)
        for row in range(height)
        for column in range(width)
        for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        if 0 <= other[0] < height and 0 <= other[1] < width and truth[other] != truth[row, column]
    ]
    return np.array(
        [
            [min(np.hypot(r - row, c - column) for r, c in beside) for column in range(width)]
            for row in range(height)
        ]
    )


def blobs():
    truth = np.zeros((20, 24), np.uint8)
    truth[3:12, 4:15] = 1
    truth[10:18, 12:22] = 2
    truth[0, 20:] = IGNORED
    return truth


def test_distance_is_the_euclidean_one_within_2_percent():
    expected = slow_distance(blobs())
    np.testing.assert_allclose(boundary_distance(blobs()), expected, rtol=0.02)


def test_without_a_boundary_the_distance_is_infinite():
    assert np.isinf(boundary_distance(np.ones((3, 4), np.uint8))).all()


def test_errors_are_counted_by_their_distance():
    truth = blobs()
    found = truth.copy()
    found[np.random.default_rng(0).random(truth.shape) < 0.3] = 3
    distance, labeled = boundary_distance(truth), truth != IGNORED
    expected = [
        [int(inside.sum()), int((inside & (found != truth)).sum())]
        for low, high in ((0, 1), (1, 3), (3, np.inf))
        for inside in [labeled & (distance >= low) & (distance < high)]
    ]
    counts = errors_by_distance(found, truth, limits=(1, 3))
    assert counts.tolist() == expected
    assert counts[:, 0].sum() == labeled.sum()
