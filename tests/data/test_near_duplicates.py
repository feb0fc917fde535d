"""Hashes of images, pairs of near-duplicates, and their groups."""

import itertools

import cv2
import numpy as np
import pytest

from doctor_trees import photo
from parcnet_train.data import near_duplicates as module
from parcnet_train.data.near_duplicates import (
    CORRELATION,
    DIFFERENCE,
    alike_pairs,
    difference_hash,
    groups_of,
    look_alike,
    near_duplicates,
    near_pairs,
    thumbnail_of,
)


def distance(first, second):
    return (first ^ second).bit_count()


def test_hash_is_the_sign_of_the_differences_of_neighbors():
    gray = np.zeros((8, 9), np.uint8)
    assert difference_hash(gray) == 0
    gray[0, 1] = 9  # rises once in the first row, then falls
    assert difference_hash(gray) == 1 << 63
    assert difference_hash(np.arange(72, dtype=np.uint8).reshape(8, 9)) == 2**64 - 1


def test_hash_survives_size_compression_and_brightness():
    image = photo(1, (240, 320))
    known = difference_hash(image)
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1)
    for other in (small, coded, (image * 0.7 + 20).astype(np.uint8)):
        assert distance(known, difference_hash(other)) <= 4
    assert distance(known, difference_hash(photo(2))) > 12


@pytest.mark.parametrize("most", [0, 1, 4, 6])
def test_near_pairs_are_those_of_a_comparison_of_all(most):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 200, dtype=np.uint64).tolist()
    for place in range(60):  # copies with up to nine other bits
        bits = rng.choice(64, place % 10, replace=False).tolist()
        hashes.append(hashes[place] ^ sum(1 << bit for bit in bits))
    expected = [
        (first, second)
        for first, second in itertools.combinations(range(len(hashes)), 2)
        if distance(hashes[first], hashes[second]) <= most
    ]
    assert len(expected) >= 6
    assert near_pairs(np.array(hashes, np.uint64), most).tolist() == [*map(list, expected)]


def test_many_equal_hashes_give_few_pairs():
    assert near_pairs([7] * 1000, 4).tolist() == [[0, n] for n in range(1, 1000)]
    assert near_pairs([], 4).shape == (0, 2)
    assert near_pairs([5], 4).shape == (0, 2)


def gray_of(image):
    return thumbnail_of(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[None]


def test_pictures_look_alike_up_to_brightness():
    image = photo(1)
    darker = (image * 0.9).astype(np.uint8)
    assert look_alike(gray_of(image), gray_of(darker))
    assert not look_alike(gray_of(image), gray_of(photo(2)))
    assert not look_alike(gray_of(np.zeros_like(image)), gray_of(np.zeros_like(image)))


def encoded(image, kind=".png", *options):
    content = cv2.imencode(kind, image, options)[1].tobytes()
    return lambda: content


def test_copies_at_another_size_or_quality_are_found():
    image = photo(1, (240, 320))
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    copies = [encoded(image), encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 40), encoded(small)]
    others = [encoded(photo(number)) for number in range(2, 30)]
    expected = [(10, 11), (10, 12), (11, 12)]
    found = near_duplicates([*others[:10], *copies, *others[10:]])
    assert groups_of(found) == groups_of(expected)


def rising(at, seed, spot=0):
    """Return a gray image that rises from left to right, by a step at a share of the width.

    Its hash has all bits, except one with a spot.
    """
    x = np.arange(80) / 79
    gray = np.tile(255 * (0.3 * x + 0.7 * (x > at)), (64, 1))
    gray[:8, :9] += spot
    noise = np.random.default_rng(seed).normal(0, 1, gray.shape)
    return (gray + noise).clip(0, 255).astype(np.uint8)


def test_pictures_that_share_their_hash_with_another_picture_are_compared():
    images = [rising(0.2, 0), rising(0.5, 1), rising(0.5, 2), rising(0.5, 3, spot=30)]
    assert [*map(difference_hash, images)] == [2**64 - 1] * 3 + [2**63 - 1]
    other, first, copy, near = map(encoded, images)
    assert near_duplicates([other, first, copy]) == [(1, 2)]
    assert near_duplicates([other, first, near]) == [(1, 2)]
    assert groups_of(near_duplicates([near, other, copy, first])) == [[0, 2, 3]]


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32), np.uint8)


def test_look_alike_is_correlation_and_difference_of_every_pair():
    first, base = noise(6), noise(30)[20:]
    weights = np.linspace(0, 1, 10)[:, None, None]
    second = (weights * first[:1] + (1 - weights) * base).astype(np.uint8)
    second[:2] //= 16  # of the same picture, but with much less contrast
    first[1] = first[0] // 16
    expected = [
        [
            np.corrcoef(one.ravel(), other.ravel())[0, 1] >= CORRELATION
            and np.abs((one - one.mean()) - (other - other.mean())).mean() <= DIFFERENCE
            for other in second
        ]
        for one in first
    ]
    assert look_alike(first, second).tolist() == expected
    assert 1 <= np.sum(expected) < 6


def test_comparisons_of_many_pictures_with_near_hashes_are_few(monkeypatch):
    calls, original = [], module.look_alike

    def counted(first, second):
        calls.append(len(first) * len(second))
        return original(first, second)

    monkeypatch.setattr(module, "look_alike", counted)
    hashes = np.repeat(np.array([0, 1, 3, 7], np.uint64), 25)
    thumbnails = noise(100)
    thumbnails[[30, 80]] = thumbnails[3]
    candidates = near_pairs(hashes, 6)
    pairs = alike_pairs(candidates, hashes, dict(enumerate(thumbnails)))
    assert groups_of(pairs) == [[3, 30, 80]]
    assert len(calls) <= 100  # at most one per image
    monkeypatch.setattr(module, "NEIGHBORS", 30)
    calls.clear()
    pairs = alike_pairs(candidates, hashes, dict(enumerate(thumbnails)))
    assert groups_of(pairs) == [[3, 30]]  # the nearest hash comes first
    assert sum(calls) <= 100 * (25 + 30)


def test_unreadable_small_and_uniform_images_are_near_to_none():
    def missing():
        raise FileNotFoundError

    small = encoded(photo(1, (20, 20)))
    plain = encoded(np.full((60, 80, 3), 9, np.uint8))
    unreadable = [missing, lambda: b"text"]
    assert near_duplicates([*unreadable, small, plain, *unreadable, small, plain]) == []
    assert near_duplicates([]) == []


def test_pairs_with_a_common_member_are_one_group():
    assert groups_of([(1, 4), (2, 3), (4, 9), (0, 9)]) == [[0, 1, 4, 9], [2, 3]]
