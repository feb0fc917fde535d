"""Predictions as text."""

import numpy as np

from parcnet_train.predict.predictions import Classified, Detected, Segmented


def test_predictions_are_described_in_one_line():
    assert Classified(["cat", "ant"], [1, 0], [0.75, 0.25]).in_words() == "cat 0.750, ant 0.250"
    count = 7
    objects = Detected(
        ["cat"] * count,
        np.ones(count, np.int64),
        np.full(count, 0.5, np.float32),
        np.zeros((count, 4), np.float32),
        (9, 9),
    )
    assert objects.in_words() == f"7 objects: {', '.join(['cat 0.50'] * 5)}, ..."
    mask = np.array([[0, 1, 1, 1]], np.uint8)
    assert Segmented(mask, ["none", "cat", "ant"]).in_words() == "cat 75.0 %, none 25.0 %"
