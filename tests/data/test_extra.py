"""Your own transforms: randomness by (seed, epoch, sample), boxes and masks that move along."""

import albumentations
import numpy as np
import pytest

from class_folders import fitted
from parcnet_train.data.classification.transforms import Augmentation, TrainTransform
from parcnet_train.data.detection.transforms import (
    DetectionAugmentation,
    DetectionTrainTransform,
    View,
)
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.transforms import (
    MaskedView,
    SegmentationAugmentation,
    SegmentationTrainTransform,
)
from parcnet_train.errors import ConfigError

NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
KEY = SampleKey(3, 2, (32, 48))
STILL = DetectionAugmentation(crop=False, photometric=False, flip=0.0)
PLAIN = SegmentationAugmentation(short_side=(1.0, 1.0), flip=0.0)


def classified(*transforms, key=KEY, seed=7):
    return TrainTransform(Augmentation(extra=transforms), seed)(NOISE.copy(), key)


def boxed(*transforms, key=KEY):
    settings = {"crop": False, "photometric": False, "flip": 0.0}
    transform = DetectionTrainTransform(
        DetectionAugmentation(extra=transforms, **settings), 7, keep_aspect=False
    )
    boxes = np.array([[4.0, 5.0, 20.0, 30.0], [30.0, 8.0, 47.5, 20.25]])
    return transform(View(NOISE.copy(), boxes, np.array([1, 2])), key)


def masked(*transforms, key=KEY):
    mask = np.repeat(np.arange(48, dtype=np.uint8)[None] // 16, 32, axis=0)
    augmentation = SegmentationAugmentation(short_side=(1.0, 1.0), flip=0.0, extra=transforms)
    return SegmentationTrainTransform(augmentation, 7)(MaskedView(NOISE.copy(), mask), key)


def test_transforms_are_drawn_from_seed_epoch_sample_and_copy():
    noise = albumentations.GaussNoise(p=1.0)
    first = classified(noise)
    np.testing.assert_array_equal(classified(albumentations.GaussNoise(p=1.0)), first)
    others = [KEY._replace(epoch=3), KEY._replace(sample=4), KEY._replace(copy=1)]
    assert all((classified(noise, key=key) != first).any() for key in others)
    assert (classified(noise, seed=8) != first).any()
    assert (classified() != first).any()


def test_order_of_samples_and_other_random_numbers_do_not_matter():
    choice = albumentations.OneOf([albumentations.GaussNoise(), albumentations.Blur()], p=0.5)
    transform = TrainTransform(Augmentation(extra=[choice]), 7)
    keys = [KEY._replace(sample=sample) for sample in range(8)]
    forward = [transform(NOISE.copy(), key) for key in keys]
    np.random.seed(5)
    backward = [transform(NOISE.copy(), key) for key in reversed(keys)][::-1]
    np.testing.assert_array_equal(forward, backward)


def test_batches_are_the_same_for_every_number_of_workers(image_folder):
    augmentation = Augmentation(extra=[albumentations.GaussNoise(p=0.5)])
    batches = []
    for workers in (0, 2):
        data = fitted(image_folder, augmentation=augmentation, num_workers=workers)
        batches.append([batch.images.numpy() for batch in data.train_dataloader()])
        data.end_workers()
    np.testing.assert_array_equal(*batches)


def test_recipe_without_own_transforms_draws_the_same_numbers():
    nothing = albumentations.GaussNoise(p=0.0)
    np.testing.assert_array_equal(classified(nothing), classified())
    np.testing.assert_array_equal(boxed(nothing).image, boxed().image)
    np.testing.assert_array_equal(masked(nothing).image, masked().image)


def test_boxes_move_with_the_image():
    found = boxed(albumentations.HorizontalFlip(p=1.0))
    np.testing.assert_array_equal(found.image, NOISE[:, ::-1])
    expected = [[28.0, 5.0, 44.0, 30.0], [0.5, 8.0, 18.0, 20.25]]
    np.testing.assert_allclose(found.boxes, expected, atol=1e-5)
    assert found.labels.tolist() == [1, 2]
    assert np.isnan(found.placement).all()


def test_boxes_are_exact_if_only_pixels_change():
    found = boxed(albumentations.GaussNoise(p=1.0))
    np.testing.assert_array_equal(found.boxes, boxed().boxes)
    assert (found.image != NOISE).any()


def test_boxes_that_leave_the_image_are_removed_with_their_labels():
    found = boxed(albumentations.Affine(translate_px={"x": (25, 25), "y": (0, 0)}, p=1.0))
    np.testing.assert_allclose(found.boxes, [[29.0, 5.0, 45.0, 30.0]], atol=1e-5)
    assert found.labels.tolist() == [1]
    gone = boxed(albumentations.Affine(translate_px={"x": (47, 47), "y": (31, 31)}, p=1.0))
    assert (gone.boxes.shape, gone.labels.shape) == ((0, 4), (0,))
    assert gone.labels.dtype == np.int64


def test_masks_move_with_the_image_and_uncovered_pixels_are_ignored():
    flipped = masked(albumentations.HorizontalFlip(p=1.0))
    np.testing.assert_array_equal(flipped.mask, masked().mask[:, ::-1])
    moved = masked(albumentations.Affine(translate_px={"x": (8, 8), "y": (0, 0)}, p=1.0))
    assert (moved.mask[:, :8] == 255).all()
    np.testing.assert_array_equal(moved.mask[:, 8:], masked().mask[:, :-8])
    np.testing.assert_array_equal(moved.image[:, 8:], masked().image[:, :-8])
    background = albumentations.Affine(translate_px=(8, 8), fill_mask=1, p=1.0)
    assert (masked(albumentations.OneOf([background], p=1.0)).mask[:, :8] == 1).all()


@pytest.mark.parametrize(
    ("transform", "change"),
    [
        (albumentations.RandomCrop(16, 16, p=1.0), "32x48x3 uint8 becomes 16x16x3 uint8"),
        (albumentations.ToFloat(p=1.0), "32x48x3 uint8 becomes 32x48x3 float32"),
        (albumentations.ToGray(num_output_channels=1, p=1.0), "32x48x3 uint8 becomes 32x48 uint8"),
        (albumentations.ToTensorV2(p=1.0), "32x48x3 uint8 becomes 3x32x48 uint8"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_changes_of_shape_or_type_are_refused(transform, change):
    message = rf"recipe\.augmentation\.extra: {type(transform).__name__}: .*{change}; expected"
    for apply in (classified, boxed, masked):
        with pytest.raises(ConfigError, match=message):
            apply(transform)
