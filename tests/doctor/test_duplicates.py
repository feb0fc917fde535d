"""Groups of duplicates."""

import numpy as np

from parcnet_train.doctor.duplicates import equal_groups


def test_equal_groups_need_two_members():
    digests = np.array([5, 7, 5, 9, 7, 5], np.uint64)
    seen = np.array([1, 1, 1, 1, 0, 1], bool)
    assert equal_groups(digests, seen) == [[0, 2, 5]]
