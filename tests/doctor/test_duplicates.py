"""Groups of duplicates."""

import numpy as np

from doctor_trees import photo
from parcnet_train.doctor.duplicates import equal_groups, groups_of, look_alike, reduced


def test_equal_groups_need_two_members():
    digests = np.array([5, 7, 5, 9, 7, 5], np.uint64)
    seen = np.array([1, 1, 1, 1, 0, 1], bool)
    assert equal_groups(digests, seen) == [[0, 2, 5]]


def test_pairs_with_a_common_member_are_one_group():
    assert groups_of([(1, 4), (2, 3), (4, 9), (0, 9)]) == [[0, 1, 4, 9], [2, 3]]


def test_pictures_look_alike_up_to_brightness():
    image = photo(1)
    darker = (image * 0.9).astype(np.uint8)
    assert look_alike(reduced(image), reduced(darker))
    assert not look_alike(reduced(image), reduced(photo(2)))
    assert not look_alike(reduced(image), None)
    assert not look_alike(reduced(np.zeros_like(image)), reduced(np.zeros_like(image)))
