import pickle
import random
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from parcnet_train.data import transforms
from parcnet_train.data.transforms import Augmentation, EvalTransform, TrainTransform

DRAWS = 1500


def photo(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def recover(augmentation, height=240, width=320, draws=DRAWS, seed=0):
    """Crop boxes (top, left, height, width) and flips of draws, from an image of coordinates.

    Bilinear resizing keeps a ramp a ramp, so its slope and offset tell the box exactly.
    """
    size = 16
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([y / height, x / width, 0 * x], axis=-1).astype(np.float32)
    transform = TrainTransform((size, size), augmentation, seed)
    boxes, flips = [], []
    for index in range(draws):
        out = transform(ramps, 0, index).astype(np.float64)
        rows, columns = out[:, 0, 0] * height, out[0, :, 1] * width
        flips.append(columns[-1] < columns[0])
        if flips[-1]:
            columns = columns[::-1]
        box = []
        for ramp in (rows, columns):
            scale = (ramp[-2] - ramp[1]) / (size - 3)
            box.append((ramp[1] + 0.5 - 1.5 * scale, scale * size))
        (top, crop_height), (left, crop_width) = box
        boxes.append((top, left, crop_height, crop_width))
    boxes = np.array(boxes)
    assert np.abs(boxes - boxes.round()).max() < 0.01  # the recovery itself
    return boxes.round(), np.array(flips)


def reference_boxes(scale, ratio, height=240, width=320, draws=3 * DRAWS):
    torch.manual_seed(0)
    image = torch.empty(3, height, width, device="meta")
    return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(draws)])


def test_training_image_depends_on_seed_epoch_and_index_only():
    image = photo()
    keys = [(epoch, index) for epoch in range(3) for index in range(5)]
    transform = TrainTransform((32, 32), Augmentation(), seed=1)
    expected = {key: transform(image, *key) for key in keys}

    other = TrainTransform((32, 32), Augmentation(), seed=1)
    for key in reversed(keys):
        random.seed(hash(key))
        np.random.seed(7)
        other(photo(50, 31), *key)  # another image in between
        assert np.array_equal(other(image, *key), expected[key])


def test_training_leaves_the_global_generators_alone():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = random.random(), np.random.random(), torch.rand(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    TrainTransform((32, 32), Augmentation(), seed=0)(photo(), 0, 0)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


def test_training_image_is_the_same_in_another_process():
    transform = TrainTransform((24, 32), Augmentation(), seed=5)
    expected = [transform(photo(), 2, index) for index in range(6)]
    code = (
        "import pickle, sys\n"
        "import parcnet_train.compat\n"
        "transform, image = pickle.load(sys.stdin.buffer)\n"
        "images = [transform(image, 2, index) for index in reversed(range(6))]\n"
        "pickle.dump(images[::-1], sys.stdout.buffer)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((transform, photo())),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert np.array_equal(pickle.loads(ran.stdout), expected)


@pytest.mark.parametrize("other", [(0, 1, 0), (1, 0, 0), (0, 0, 1)], ids=["epoch", "seed", "index"])
def test_training_image_differs_by(other):
    image = photo()
    seed, epoch, index = other
    first = [TrainTransform((32, 32), Augmentation(), 0)(image, 0, i) for i in range(0, 20, 2)]
    second = [
        TrainTransform((32, 32), Augmentation(), seed)(image, epoch, i + index)
        for i in range(0, 20, 2)
    ]
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_seed_epoch_and_index_are_not_confused():
    image = photo()
    keys = [(1, 2, 4), (1, 4, 2), (2, 1, 4), (2, 4, 1), (4, 1, 2), (4, 2, 1), (1, 3, 3), (7, 0, 0)]
    images = [TrainTransform((32, 32), Augmentation(), seed)(image, *key) for seed, *key in keys]
    assert len({each.tobytes() for each in images}) == len(keys)


def test_training_crop_lies_in_the_image_and_in_the_ranges():
    scale, ratio = (0.08, 1.0), (0.75, 1.3333)
    boxes, _ = recover(Augmentation())
    top, left, height, width = boxes.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 240
    assert (left + width).max() <= 320
    # Both sides are rounded to whole pixels.
    area = 240 * 320
    assert np.all((height + 0.5) * (width + 0.5) >= scale[0] * area)
    assert np.all((height - 0.5) * (width - 0.5) <= scale[1] * area)
    assert np.all((width + 0.5) / (height - 0.5) >= ratio[0])
    assert np.all((width - 0.5) / (height + 0.5) <= ratio[1])
    # The ranges are used up.
    share = height * width / area
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert (width / height).min() < 0.78
    assert (width / height).max() > 1.29


@pytest.mark.parametrize(
    ("scale", "ratio", "size"),
    [
        ((0.08, 1.0), (0.75, 1.3333), (240, 320)),
        ((0.35, 0.6), (0.5, 1.0), (240, 320)),
        ((0.3, 1.0), (0.75, 1.3333), (100, 400)),  # often falls back to the central crop
    ],
    ids=["released", "narrow", "elongated image"],
)
def test_training_crop_is_distributed_as_torchvisions(scale, ratio, size):
    boxes, _ = recover(Augmentation(crop_scale=scale, crop_ratio=ratio), *size)
    reference = reference_boxes(scale, ratio, *size)
    for ours, theirs in zip(boxes.T, reference.T, strict=True):
        assert ks_2samp(ours, theirs).pvalue > 1e-3
    shares = boxes[:, 2] * boxes[:, 3], reference[:, 2] * reference[:, 3]
    assert ks_2samp(*shares).pvalue > 1e-3
    ratios = boxes[:, 3] / boxes[:, 2], reference[:, 3] / reference[:, 2]
    assert ks_2samp(*ratios).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_flip_has_its_probability(probability):
    _, flips = recover(Augmentation(flip=probability))
    tolerance = 5 * np.sqrt(probability * (1 - probability) / DRAWS)
    assert abs(flips.mean() - probability) <= tolerance


def test_flip_is_independent_of_the_crop():
    boxes, flips = recover(Augmentation())
    shares = boxes[:, 2] * boxes[:, 3]
    for values in (*boxes.T, shares):
        assert ks_2samp(values[flips], values[~flips]).pvalue > 1e-3


def test_crop_of_one_sample_is_independent_between_epochs():
    image = photo(240, 320)
    image[...] = np.arange(240, dtype=np.uint8)[:, None, None]
    transform = TrainTransform((16, 16), Augmentation(flip=0.0), seed=0)
    heights = np.array(
        [
            [
                float(out[-1, 0, 0]) - float(out[0, 0, 0])
                for out in (transform(image, epoch, index) for epoch in (0, 1))
            ]
            for index in range(1000)
        ]
    )
    # Correlation of independent values: standard deviation 1 / sqrt(1000).
    assert abs(np.corrcoef(heights.T)[0, 1]) < 5 / np.sqrt(1000)


def test_training_resizes_bilinearly_without_antialiasing():
    image = photo(90, 120)
    whole = Augmentation(crop_scale=(1.0, 1.0), crop_ratio=(120 / 90, 120 / 90), flip=0.0)
    out = TrainTransform((30, 50), whole, seed=0)(image, 0, 0)
    assert np.array_equal(out, cv2.resize(image, (50, 30), interpolation=cv2.INTER_LINEAR))


def test_training_size_is_height_then_width():
    out = TrainTransform((24, 40), Augmentation(), seed=0)(photo(), 0, 0)
    assert out.shape == (24, 40, 3)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (300, 300), (100, 640), (288, 288)])
def test_evaluation_resizes_the_short_side_to_288_and_crops_256(shape):
    image = photo(*shape)
    short, long = min(shape), max(shape)
    other = 288 * long // short
    height, width = (288, other) if shape[0] == short else (other, 288)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (height - 256) // 2, (width - 256) // 2
    expected = resized[top : top + 256, left : left + 256]
    assert np.array_equal(EvalTransform((256, 256))(image, 0, 0), expected)


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (216, 288), (90, 400), (400, 90)])
def test_evaluation_covers_a_non_square_size(shape):
    image = photo(*shape)
    # 9/8 of 192 x 256 is 216 x 288.
    scale = max(216 / shape[0], 288 / shape[1])
    height, width = (int(length * scale + 1e-6) for length in shape)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (height - 192) // 2, (width - 256) // 2
    expected = resized[top : top + 192, left : left + 256]
    assert expected.shape == (192, 256, 3)
    assert np.array_equal(EvalTransform((192, 256))(image, 0, 0), expected)


def test_evaluation_only_crops_an_image_that_fits_exactly():
    image = photo(288, 288)
    assert np.array_equal(EvalTransform((256, 256))(image, 0, 0), image[16:272, 16:272])
    image = photo(216, 288)
    assert np.array_equal(EvalTransform((192, 256))(image, 0, 0), image[12:204, 16:272])


def test_evaluation_loses_no_pixel_to_rounding(monkeypatch):
    sizes = []

    def resize(image, size, interpolation):
        sizes.append(size[::-1])
        return np.broadcast_to(np.uint8(0), (size[1], size[0], 3))

    monkeypatch.setattr(transforms.cv2, "resize", resize)
    transform = EvalTransform((256, 256))
    for short in range(1, 1500, 3):
        for long in (short, short + 1, 2 * short, 3 * short + 7):
            transform(np.broadcast_to(np.uint8(0), (short, long, 3)), 0, 0)
            assert tuple(sizes[-1]) == (288, 288 * long // short)


def test_evaluation_does_not_depend_on_epoch_and_index():
    transform, image = EvalTransform((32, 32)), photo()
    assert np.array_equal(transform(image, 0, 0), transform(image, 3, 9))
