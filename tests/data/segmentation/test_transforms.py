"""Images and masks move together; randomness depends only on the key."""

import random

import cv2
import numpy as np
import pytest
import torch

import generators
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.transforms import (
    MaskedView,
    SegmentationAugmentation,
    SegmentationEvalTransform,
    SegmentationTrainTransform,
    unchanged,
)

SIZE = (96, 128)
# Left, top, right, bottom of one rectangle per channel; its class is the channel number from 1.
BOXES = [(10, 20, 70, 60), (90, 5, 120, 95), (40, 65, 85, 115)]
OFF = SegmentationAugmentation(short_side=(1.0, 1.0), flip=0.0)
EVERYTHING = SegmentationAugmentation(short_side=(0.5, 2.0), photometric=True)
GRAY = 114


def scene(height=120, width=160):
    """Return rectangles of pure colors on black, and their mask."""
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    for channel, (left, top, right, bottom) in enumerate(BOXES):
        image[top:bottom, left:right, channel] = 255
        mask[top:bottom, left:right] = channel + 1
    return MaskedView(image, mask)


def noise(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return MaskedView(image, rng.choice([0, 3, 7, 255], (height, width)).astype(np.uint8))


def train(view, sample, augmentation, size=SIZE, seed=0, epoch=0, copy=0):
    transform = SegmentationTrainTransform(augmentation, seed)
    return transform(view, SampleKey(sample, epoch, size, copy))


def evaluate(view, size, keep_aspect):
    return SegmentationEvalTransform(keep_aspect)(view, SampleKey(0, 0, size))


def seen_classes(image):
    """Return the class that each pixel's color shows; gray padding is ignored."""
    classes = np.zeros(image.shape[:2], np.uint8)
    for channel in range(3):
        classes[image[..., channel] > 127] = channel + 1
    classes[(image == GRAY).all(axis=-1)] = 255
    return classes


def assert_together(view):
    """Assert that every pixel of the mask has the class that the image shows there.

    Either is decided by the middle of the pixel, at edges: the nearer one of two original pixels
    gives its class, and more than half of its color. At corners four are mixed.
    """
    assert view.image.shape[:2] == view.mask.shape
    assert (view.image.dtype, view.mask.dtype) == (np.uint8, np.uint8)
    assert set(np.unique(view.mask)) <= {0, 1, 2, 3, 255}
    is_tie = (np.abs(view.image.astype(int) - 127.5) < 3).any(axis=-1)
    is_other = (seen_classes(view.image) != view.mask) & ~is_tie
    assert is_other.sum() <= 4 * len(BOXES)


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "letterbox"])
@pytest.mark.parametrize("size", [(96, 128), (200, 64), (64, 200), (240, 320)], ids=str)
def test_evaluation_resizes_image_and_mask_together(size, keep_aspect):
    view = evaluate(scene(), size, keep_aspect)
    assert view.mask.shape == size
    assert_together(view)
    scale_x, scale_y, left, top = view.placement
    assert set(np.unique(view.mask)) >= {0, 1, 2, 3}
    assert (255 in view.mask) == (keep_aspect and size[0] / size[1] != 120 / 160)
    # The center of each rectangle is where the placement says.
    for label, (x0, y0, x1, y1) in enumerate(BOXES, 1):
        x, y = (x0 + x1) / 2 * scale_x + left, (y0 + y1) / 2 * scale_y + top
        assert view.mask[int(y), int(x)] == label


def test_letterbox_is_placed_as_in_detection():
    view = evaluate(noise(50, 100), (320, 320), keep_aspect=True)
    assert view.placement.tolist() == [3.2, 3.2, 0, 80]
    margin = np.r_[0:80, 240:320]
    assert (view.mask[margin] == 255).all()
    assert (view.image[margin] == GRAY).all()
    assert (view.image[80:240] != GRAY).any(axis=(1, 2)).all()


def test_evaluation_masks_have_the_index_of_the_nearest_pixel():
    mask = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    view = MaskedView(np.zeros((6, 9, 3), np.uint8), mask)
    # The middle one of every three pixels; OpenCV's older method takes the first.
    assert np.array_equal(evaluate(view, (2, 3), False).mask, mask[1::3, 1::3])
    assert np.array_equal(evaluate(view, (12, 18), False).mask, mask.repeat(2, 0).repeat(2, 1))


def test_windows_keep_the_original_image():
    view = scene()
    assert unchanged(view, SampleKey(0, 0, SIZE)) is view
    assert view.placement.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "augmentation",
    [
        SegmentationAugmentation(),
        SegmentationAugmentation(short_side=(0.25, 0.5)),
        SegmentationAugmentation(short_side=(2.0, 3.0), flip=1.0),
        SegmentationAugmentation(short_side=(0.5, 2.0), pad=False),
    ],
    ids=["defaults", "small", "large", "never padded"],
)
def test_augmented_images_and_masks_move_together(augmentation):
    margins = []
    for sample in range(60):
        view = train(scene(), sample, augmentation)
        assert view.mask.shape == SIZE
        assert_together(view)
        margins.append((view.mask == 255).mean())
    smallest, largest = augmentation.short_side
    if not augmentation.pad or smallest >= 1:
        assert max(margins) == 0
    elif largest <= 0.5:
        assert min(margins) > 0.5
    else:
        assert 0 == min(margins) < max(margins)


def test_padding_is_gray_and_ignored_at_random_positions():
    view = MaskedView(np.full((40, 40, 3), 255, np.uint8), np.ones((40, 40), np.uint8))
    corners = set()
    for sample in range(40):
        out = train(view, sample, SegmentationAugmentation((0.5, 0.5)))
        rows, columns = np.nonzero(out.mask == 1)
        assert len(rows) == 48 * 48
        assert (out.image[out.mask == 255] == GRAY).all()
        assert (out.image[out.mask == 1] == 255).all()
        corners.add((rows.min(), columns.min()))
    assert len(corners) > 30


def test_short_sides_match_the_release():
    """Measured on an image of 300x200 pixels whose mask numbers the rows."""
    mask = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 300, axis=1)
    view = MaskedView(np.zeros((200, 300, 3), np.uint8), mask)
    scales = []
    for sample in range(400):
        out = train(view, sample, SegmentationAugmentation(flip=0.0), size=(64, 64))
        column = out.mask[:, 32]
        rows = column[column != 255]
        scales.append((len(rows) - 1) / (float(rows[-1]) - float(rows[0])) * 200)
    # randint(384, 768) for 512: uniform from 0.75 to 1.5 sides.
    assert 46 < min(scales) < 50
    assert 94 < max(scales) < 98
    assert abs(np.mean(scales) - 72) < 3


def test_without_padding_images_are_at_least_as_large_as_the_crop():
    """The release upsamples smaller images: every draw below 1 becomes 1."""
    view = MaskedView(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    view.mask[:, 32:] = 1
    whole = 0
    for sample in range(300):
        augmentation = SegmentationAugmentation(flip=0.0, pad=False)
        out = train(view, sample, augmentation, size=(64, 64))
        assert 255 not in out.mask
        whole += np.array_equal(out.mask, view.mask)
    assert 0.28 < whole / 300 < 0.52  # 17 of 49 draws, and some crops of larger images


def test_half_of_the_images_are_mirrored():
    view = MaskedView(np.zeros((96, 128, 3), np.uint8), np.zeros(SIZE, np.uint8))
    view.image[:, :20], view.mask[:, :20] = 255, 1
    left = 0
    for sample in range(200):
        out = train(view, sample, SegmentationAugmentation((1.0, 1.0)))
        assert out.mask[0, 0] != out.mask[0, -1]
        assert (out.image[..., 0] == 255 * out.mask).all()
        left += out.mask[0, 0]
    assert 70 < left < 130


def test_photometric_distortion_leaves_masks_unchanged():
    changed = 0
    for sample in range(20):
        plain = train(scene(), sample, OFF)
        view = train(scene(), sample, SegmentationAugmentation((1.0, 1.0), True, 0.0, True))
        # The distortion draws first; only one crop is possible here.
        assert np.array_equal(view.mask, plain.mask)
        changed += not np.array_equal(view.image, plain.image)
    assert changed > 15


def test_nothing_is_random_with_all_augmentation_off():
    view = MaskedView(noise(*SIZE).image, noise(*SIZE).mask)
    for sample in range(3):
        out = train(view, sample, OFF)
        assert np.array_equal(out.image, view.image)
        assert np.array_equal(out.mask, view.mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (7, 3000)], ids=str)
def test_tiny_and_long_images_are_transformed(shape):
    view = noise(*shape)
    values = {*np.unique(view.mask), 255}
    for augmentation in (EVERYTHING, SegmentationAugmentation(pad=False)):
        for sample in range(10):
            out = train(view, sample, augmentation, (32, 64))
            assert out.image.shape == (32, 64, 3)
            assert out.mask.shape == (32, 64)
            assert set(np.unique(out.mask)) <= values
    for keep_aspect in (False, True):
        out = evaluate(view, (32, 64), keep_aspect)
        assert out.image.shape == (32, 64, 3)
        assert set(np.unique(out.mask)) <= values


def test_crops_cover_all_of_a_long_image():
    mask = np.repeat(np.arange(250, dtype=np.uint8), 2)[None].repeat(5, 0)
    view = MaskedView(np.zeros((5, 500, 3), np.uint8), mask)
    seen = [train(view, sample, OFF, (32, 32)).mask for sample in range(150)]
    assert np.min(seen) < 20
    assert np.max(seen) > 230
    assert all(np.ptp(each) <= 5 for each in seen)  # one pixel of the strip covers one row


def test_training_image_depends_on_seed_and_key_only():
    keys = [(sample, epoch, copy) for epoch in range(3) for sample in range(5) for copy in range(2)]

    def draw(sample, epoch, copy, seed=1):
        view = train(scene(), sample, EVERYTHING, epoch=epoch, copy=copy, seed=seed)
        return view.image.tobytes(), view.mask.tobytes()

    expected = [draw(*key) for key in keys]
    assert len(set(expected)) == len(keys)
    for key, before in reversed(list(zip(keys, expected, strict=True))):
        random.seed(hash(key))
        np.random.seed(7)
        torch.manual_seed(hash(key))
        draw(*key, seed=9)
        assert draw(*key) == before


def test_transform_has_no_state():
    transform = SegmentationTrainTransform(EVERYTHING, 0)
    for size in (SIZE, (64, 64), SIZE):
        for sample in (3, 1):
            view = transform(scene(), SampleKey(sample, 0, size))
            expected = train(scene(), sample, EVERYTHING, size)
            assert np.array_equal(view.image, expected.image)
            assert np.array_equal(view.mask, expected.mask)


def test_global_generators_and_original_are_unchanged():
    view = scene()
    with generators.left_alone():
        for sample in range(10):
            train(view, sample, EVERYTHING)
            evaluate(view, SIZE, True)
    assert np.array_equal(view.image, scene().image)
    assert np.array_equal(view.mask, scene().mask)


def test_resized_images_match_opencv():
    view = noise(50, 70)
    expected = cv2.resize(view.image, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(evaluate(view, SIZE, False).image, expected)
