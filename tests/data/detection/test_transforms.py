"""Boxes move with their images; the crop follows the release's definition."""

import random
from random import Random

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare, ks_2samp

import generators
from parcnet_train.data.detection.transforms import (
    CROP_OPTIONS,
    DetectionAugmentation,
    DetectionEvalTransform,
    DetectionTrainTransform,
    View,
    crop,
    expand,
    fit,
    flip,
)
from parcnet_train.data.samplers import SampleKey

SIZE = (96, 128)
# One box per channel, so that each can be found by its color.
BOXES = np.array([[10, 20, 70, 60], [90, 5, 120, 95], [40, 65, 100, 115]], dtype=np.float64)
GEOMETRY = DetectionAugmentation(crop=True, photometric=False, expand=0.5, flip=0.5)
EVERYTHING = DetectionAugmentation(expand=0.5)


def scene(height=120, width=160, boxes=BOXES):
    """Return boxes of pure colors on black, labeled 1, 2, 3."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        image[top:bottom, left:right] = 0
        image[top:bottom, left:right, channel] = 255
    return View(image, boxes, np.arange(1, len(boxes) + 1))


def noise(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def colored(image, channel):
    """Return the box around the pixels of one channel's color; None if there are none."""
    others = [other for other in range(3) if other != channel]
    mask = (image[..., channel] > 127) & (image[..., others] < 64).all(axis=-1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_boxes_cover_colors(view, within):
    """Assert that each box is where its color is, within some pixels."""
    height, width = view.image.shape[:2]
    assert len(view.boxes) == len(view.labels)
    assert (view.boxes >= 0).all()
    assert (view.boxes <= [width, height, width, height]).all()
    for box, label in zip(view.boxes, view.labels, strict=True):
        seen = colored(view.image, label - 1)
        if seen is None:  # the visible part is as narrow as the blur of resizing
            assert (box[2:] - box[:2]).min() < 3
            continue
        assert np.abs(seen - box).max() <= within, (label, seen, box)


def train(view, sample, augmentation, size=SIZE, seed=0, epoch=0, copy=0, keep_aspect=False):
    transform = DetectionTrainTransform(augmentation, seed, keep_aspect)
    return transform(view, SampleKey(sample, epoch, size, copy))


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "letterbox"])
@pytest.mark.parametrize("size", [(96, 128), (200, 64), (64, 200), (240, 320)], ids=str)
def test_resized_boxes_fit_their_objects(size, keep_aspect):
    view = fit(scene(), size, keep_aspect)
    assert view.image.shape == (*size, 3)
    assert view.image.dtype == np.uint8
    assert_boxes_cover_colors(view, within=1)


def test_flipped_boxes_fit_their_objects():
    view = flip(scene())
    assert_boxes_cover_colors(view, within=0)
    assert np.array_equal(view.image, scene().image[:, ::-1])


def test_expanded_boxes_fit_their_objects():
    areas = []
    for seed in range(40):
        view = expand(scene(), Random(seed))
        areas.append(view.image[..., 0].size / (120 * 160))
        assert_boxes_cover_colors(view, within=0)
        left, top = view.placement[2:].astype(int)
        assert np.array_equal(view.image[top : top + 120, left : left + 160], scene().image)
        rest = view.image.astype(int).sum(axis=(0, 1)) - scene().image.astype(int).sum(axis=(0, 1))
        assert rest.tolist() == [(view.image[..., 0].size - 120 * 160) * n for n in (123, 117, 104)]
    assert 1 <= min(areas) < 3
    assert 10 < max(areas) <= 16


def test_cropped_boxes_fit_their_objects():
    sizes = set()
    for seed in range(200):
        view = crop(scene(), Random(seed))
        sizes.add(view.image.shape)
        assert_boxes_cover_colors(view, within=0)
    assert len(sizes) > 100


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "letterbox"])
def test_boxes_fit_their_objects_after_all_steps(keep_aspect):
    flips = 0
    for sample in range(300):
        view = train(scene(), sample, GEOMETRY, keep_aspect=keep_aspect)
        assert view.image.shape == (*SIZE, 3)
        assert_boxes_cover_colors(view, within=1.5)
        flips += view.placement[0] < 0
    assert binomtest(flips, 300, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "letterbox"])
def test_placement_locates_the_original_image(keep_aspect):
    for sample in range(100):
        view = train(scene(), sample, GEOMETRY, keep_aspect=keep_aspect)
        scale, offset = np.tile(view.placement[:2], 2), np.tile(view.placement[2:], 2)
        mapped = BOXES[view.labels - 1] * scale + offset
        mapped = np.concatenate(
            [mapped.reshape(-1, 2, 2).min(1), mapped.reshape(-1, 2, 2).max(1)], 1
        )
        # A crop may remove a part, but never add one.
        inside = (view.boxes >= mapped - 1e-9) == [True, True, False, False]
        assert (inside | np.isclose(view.boxes, mapped)).all()
    assert np.allclose(fit(scene(), SIZE, False).placement, [128 / 160, 96 / 120, 0, 0])


def test_photometric_distortion_leaves_boxes_unchanged():
    colors = DetectionAugmentation(crop=False, flip=0.0)
    changed = 0
    for sample in range(20):
        view = train(scene(), sample, colors)
        assert np.array_equal(view.boxes, fit(scene(), SIZE, False).boxes)
        changed += not np.array_equal(view.image, fit(scene(), SIZE, False).image)
    assert changed > 10


def test_evaluation_ignores_the_aspect_ratio_as_released():
    view = DetectionEvalTransform(keep_aspect=False)(scene(), SampleKey(0, 3, (320, 320)))
    assert view.image.shape == (320, 320, 3)
    assert view.placement.tolist() == [2, 320 / 120, 0, 0]
    assert np.allclose(view.boxes, BOXES * [2, 320 / 120, 2, 320 / 120])


def test_letterbox_is_gray_and_centered():
    view = fit(
        View(noise(50, 100), np.array([[0, 0, 100.0, 50]]), np.ones(1, int)), (320, 320), True
    )
    assert (view.image[:80] == 114).all()
    assert (view.image[240:] == 114).all()
    assert (view.image[80:240] != 114).any(axis=(1, 2)).all()
    assert view.boxes.tolist() == [[0, 80, 320, 240]]
    assert view.placement.tolist() == [3.2, 3.2, 0, 80]


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_images_are_transformed(shape, keep_aspect):
    boxes = np.array([[0.0, 0.0, shape[1], shape[0]]])
    for sample in range(30):
        view = View(noise(*shape), boxes, np.ones(1, int))
        out = train(view, sample, EVERYTHING, (32, 64), keep_aspect=keep_aspect)
        assert out.image.shape == (32, 64, 3)
        assert len(out.boxes) == len(out.labels) == 1


def test_image_without_boxes_is_not_cropped():
    view = View(noise(), np.zeros((0, 4)), np.zeros(0, int))
    for seed in range(20):
        assert crop(view, Random(seed)).image is view.image
    out = train(view, 0, EVERYTHING)
    assert (out.image.shape, out.boxes.shape) == ((*SIZE, 3), (0, 4))


def released_crop(height, width, boxes, rng):
    """Draw a crop as the release does, one rectangle at a time; None: the whole image."""
    while True:
        option = rng.choice(CROP_OPTIONS)
        if option == 0:
            return None
        for _ in range(40):
            w, h = width * rng.uniform(0.3, 1), height * rng.uniform(0.3, 1)
            if not 0.5 <= h / w <= 2:
                continue
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            rectangle = int(left), int(top), int(left + w), int(top + h)
            if max(iou(rectangle, box) for box in boxes) < option:
                continue
            if any(is_centered(rectangle, box) for box in boxes):
                return rectangle


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def is_centered(rectangle, box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return rectangle[0] < x < rectangle[2] and rectangle[1] < y < rectangle[3]


def test_crop_distribution_matches_the_release():
    draws, rng = 1500, Random(1)
    theirs = [released_crop(120, 160, BOXES.tolist(), rng) for _ in range(draws)]
    ours = []
    for seed in range(draws):
        view = crop(scene(), Random(seed))
        left, top = -view.placement[2:]
        height, width = view.image.shape[:2]
        ours.append((left, top, left + width, top + height) if width < 160 else None)
    whole = [sum(each is None for each in drawn) for drawn in (ours, theirs)]
    assert chisquare(whole).pvalue > 1e-3
    assert 1 / 7 < whole[0] / draws < 2 / 7  # options that fail draw again
    ours, theirs = (
        np.array([each for each in drawn if each is not None]) for drawn in (ours, theirs)
    )
    for quantity in (
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 2] - box[:, 0],
        lambda box: box[:, 3] - box[:, 1],
    ):
        assert ks_2samp(quantity(ours), quantity(theirs)).pvalue > 1e-3


def test_crop_keeps_boxes_whose_center_is_inside():
    for seed in range(200):
        view = crop(scene(), Random(seed))
        left, top = -view.placement[2:]
        height, width = view.image.shape[:2]
        rectangle = (left, top, left + width, top + height)
        centered = [n for n, box in enumerate(BOXES, 1) if is_centered(rectangle, box)]
        assert view.labels.tolist() == centered
        assert centered
        assert max(iou(rectangle, box) for box in BOXES) >= 0.1


def test_training_image_depends_on_seed_and_key_only():
    keys = [(sample, epoch, copy) for epoch in range(3) for sample in range(5) for copy in range(2)]

    def draw(sample, epoch, copy, seed=1):
        view = train(scene(), sample, EVERYTHING, epoch=epoch, copy=copy, seed=seed)
        return view.image.tobytes(), view.boxes.tobytes(), view.placement.tobytes()

    expected = [draw(*key) for key in keys]
    assert len(set(expected)) == len(keys)
    for key, before in reversed(list(zip(keys, expected, strict=True))):
        random.seed(hash(key))
        np.random.seed(7)
        torch.manual_seed(hash(key))
        draw(*key, seed=9)
        assert draw(*key) == before


def test_global_generators_and_original_are_unchanged():
    view = scene()
    with generators.left_alone():
        for sample in range(10):
            train(view, sample, EVERYTHING)
    assert np.array_equal(view.image, scene().image)
    assert np.array_equal(view.boxes, BOXES)


def test_nothing_is_random_with_all_augmentation_off():
    off = DetectionAugmentation(crop=False, photometric=False, flip=0.0)
    for sample in range(5):
        view, plain = train(scene(), sample, off), fit(scene(), SIZE, False)
        assert np.array_equal(view.image, plain.image)
        assert np.array_equal(view.boxes, plain.boxes)
