"""Counts of published data sets."""

from pathlib import Path

import numpy as np
import pytest

from parcnet_train.doctor.published import published_findings
from parcnet_train.doctor.sets import ImageSet


def set_of(split, count):
    names = np.zeros(count, "S1")
    return ImageSet(split, Path("/data"), Path("/data/list.txt"), names, None)


@pytest.mark.parametrize(
    ("choice", "split", "count", "missing"),
    [
        ("imagenet", "val", 50_000, None),
        ("imagenet", "val", 49_999, 1),
        ("voc", "train", 1_464, None),
        ("voc", "train", 10_582, None),
        ("voc", "train", 10_580, 2),
        ("voc", "train", 90_000, None),
        ("imagefolder", "train", 3, None),
        (None, "train", 3, None),
    ],
)
def test_other_counts_than_the_published_are_found(choice, split, count, missing):
    found = list(published_findings([set_of(split, count)], choice))
    assert [each.count for each in found] == ([] if missing is None else [missing])
