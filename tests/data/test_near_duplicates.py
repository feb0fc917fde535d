"""Hashes of images, and pairs that are near-duplicates."""

import io

import cv2
import numpy as np
from PIL import Image

from parcnet_train.data.near_duplicates import Hashes, groups_of, hash_images, near_pairs


def scene(number, size=(120, 160)):
    coarse = np.random.default_rng(number).integers(0, 256, (8, 10, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue


def pairs_of(*images, distance=8):
    return near_pairs(hash_images(images), distance)


def test_copies_at_another_size_or_quality_are_found():
    one = scene(0)
    small = cv2.resize(one, (80, 60), interpolation=cv2.INTER_AREA)
    images = [encoded(one, quality=95), encoded(one, quality=40), encoded(small, "PNG")]
    others = [encoded(scene(number)) for number in range(1, 30)]
    assert pairs_of(*others[:10], *images, *others[10:]) == [(10, 11), (10, 12), (11, 12)]


def test_plain_images_of_different_brightness_are_different():
    plain = [encoded(np.full((60, 80, 3), value, np.uint8), "PNG") for value in (10, 11, 200)]
    assert pairs_of(*plain) == [(0, 1)]


def test_unreadable_images_are_near_to_none():
    def missing():
        raise FileNotFoundError

    assert pairs_of(missing, missing, lambda: b"text") == []
    assert pairs_of() == []


def test_pairs_equal_those_of_all_comparisons():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, (40, 256))
    bits = np.concatenate([base, base, base])
    for row in bits[40:]:
        row[rng.choice(256, rng.integers(0, 13), replace=False)] ^= 1
    hashes = Hashes(
        np.packbits(bits.astype(np.uint8), axis=1),
        np.zeros((120, 272), np.uint8),
        np.ones(120, np.bool_),
    )
    for distance in (0, 4, 8):
        near = (bits[:, None] != bits[None]).sum(axis=2) <= distance
        expected = [(a, b) for a, b in np.argwhere(near).tolist() if a < b]
        assert near_pairs(hashes, distance) == expected


def test_groups_join_pairs():
    assert groups_of([(1, 3), (4, 3), (0, 5)], 7).tolist() == [0, 1, 2, 1, 1, 0, 6]
