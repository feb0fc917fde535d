import collections
import itertools
import pickle
import random
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare, ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import RandAugment, RandomErasing

import generators
from parcnet_train.data.classification.transforms import Augmentation, EvalTransform, TrainTransform
from parcnet_train.data.samplers import SampleKey

DRAWS = 1500
SIZE = (32, 32)
EVERYTHING = Augmentation(
    randaugment={"operations": 2, "magnitude": 9},
    color_jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    random_erasing=0.5,
)


def train(image, seed=0, sample=0, epoch=0, size=SIZE, copy=0, **options):
    """Return one training image."""
    transform = TrainTransform(Augmentation(**options), seed)
    return transform(image, SampleKey(sample, epoch, size, copy))


def evaluate(image, size):
    return EvalTransform()(image, SampleKey(0, 0, size))


def photo(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def recover(augmentation, height=240, width=320, draws=DRAWS, seed=0):
    """Return crop boxes (top, left, height, width) and flips, from an image of coordinates.

    Bilinear resizing keeps a ramp a ramp, so its slope and offset tell the box exactly.
    """
    size = 16
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([y / height, x / width, 0 * x], axis=-1).astype(np.float32)
    transform = TrainTransform(augmentation, seed)
    boxes, flips = [], []
    for sample in range(draws):
        out = transform(ramps, SampleKey(sample, 0, (size, size))).astype(np.float64)
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
    assert np.abs(boxes - boxes.round()).max() < 0.01  # the measurement itself is exact
    return boxes.round(), np.array(flips)


def reference_boxes(scale, ratio, height=240, width=320, draws=3 * DRAWS):
    torch.manual_seed(0)
    image = torch.empty(3, height, width, device="meta")
    return np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(draws)])


def test_training_image_depends_on_seed_and_key_only():
    image = photo()
    keys = [
        SampleKey(sample, epoch, SIZE, copy)
        for epoch in range(3)
        for sample in range(5)
        for copy in range(2)
    ]
    transform = TrainTransform(EVERYTHING, seed=1)
    expected = {key: transform(image, key) for key in keys}

    other = TrainTransform(EVERYTHING, seed=1)
    for key in reversed(keys):
        random.seed(hash(key))
        np.random.seed(7)
        torch.manual_seed(hash(key))
        other(photo(50, 31), key)  # the other transform also handles another image
        assert np.array_equal(other(image, key), expected[key])


def test_training_leaves_global_generators_unchanged():
    with generators.left_alone():
        TrainTransform(EVERYTHING, seed=0)(photo(), SampleKey(0, 0, SIZE))


@pytest.mark.slow
def test_training_image_is_the_same_in_another_process():
    transform = TrainTransform(EVERYTHING, seed=5)
    keys = [SampleKey(sample, 2, (24, 32)) for sample in range(6)]
    expected = [transform(photo(), key) for key in keys]
    code = (
        "import pickle, sys\n"
        "import parcnet_train\n"
        "transform, image, keys = pickle.load(sys.stdin.buffer)\n"
        "images = [transform(image, key) for key in reversed(keys)]\n"
        "pickle.dump(images[::-1], sys.stdout.buffer)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((transform, photo(), keys)),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert np.array_equal(pickle.loads(ran.stdout), expected)


@pytest.mark.parametrize("name", ["seed", "epoch", "sample", "copy"])
def test_training_image_differs_by(name):
    image = photo()
    for sample in range(0, 20, 2):
        first = {"seed": 0, "epoch": 0, "sample": sample, "copy": 0}
        second = {**first, name: first[name] + 1}
        assert not np.array_equal(train(image, **first), train(image, **second))


def test_seed_epoch_sample_and_copy_are_not_confused():
    image = photo()
    names = ("seed", "epoch", "sample", "copy")
    values = {*itertools.permutations((1, 2, 4, 0)), (1, 3, 3, 0), (7, 0, 0, 0), (12, 4, 0, 1)}
    images = {train(image, **dict(zip(names, each, strict=True))).tobytes() for each in values}
    assert len(images) == len(values)


def test_training_crop_is_within_the_image_and_the_ranges():
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
    # The whole ranges are used.
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
        ((0.3, 1.0), (0.75, 1.3333), (100, 400)),  # often falls back to the center crop
    ],
    ids=["released", "narrow", "elongated image"],
)
def test_training_crop_distribution_matches_torchvision(scale, ratio, size):
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
    transform = TrainTransform(Augmentation(flip=0.0), seed=0)
    heights = np.array(
        [
            [
                float(out[-1, 0, 0]) - float(out[0, 0, 0])
                for out in (transform(image, SampleKey(sample, n, (16, 16))) for n in (0, 1))
            ]
            for sample in range(1000)
        ]
    )
    # Correlation of independent values: standard deviation 1 / sqrt(1000).
    assert abs(np.corrcoef(heights.T)[0, 1]) < 5 / np.sqrt(1000)


def test_training_resizes_bilinearly_without_antialiasing():
    image = photo(90, 120)
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (120 / 90, 120 / 90), "flip": 0.0}
    out = train(image, size=(30, 50), **whole)
    assert np.array_equal(out, cv2.resize(image, (50, 30), interpolation=cv2.INTER_LINEAR))


def test_training_size_is_height_then_width():
    transform = TrainTransform(EVERYTHING, seed=0)
    for size in ((24, 40), (16, 16), (40, 24)):
        out = transform(photo(), SampleKey(0, 0, size))
        assert out.shape == (*size, 3)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous


def whole(image, sample, **options):
    """Return an image that only the options change."""
    height, width = image.shape[:2]
    fixed = {"crop_scale": (1.0, 1.0), "crop_ratio": (width / height,) * 2, "flip": 0.0}
    return train(image, sample=sample, size=(height, width), **fixed, **options)


def test_randaugment_draws_torchvisions_operations():
    image = photo(24, 24)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    ours, theirs = collections.Counter(), collections.Counter()
    for sample in range(700):
        wanted = {"operations": 1, "magnitude": 9}
        ours[whole(image, sample, randaugment=wanted).tobytes()] += 1
        torch.manual_seed(sample)
        theirs[RandAugment(1, 9)(pixels).permute(1, 2, 0).numpy().tobytes()] += 1
    # Nine of the fourteen have a sign; some do not change noise.
    assert ours.keys() == theirs.keys()
    assert len(ours) > 20
    results = list(ours)
    table = [[count[result] for result in results] for count in (ours, theirs)]
    assert chi2_contingency(table).pvalue > 1e-3


def test_randaugment_has_its_number_of_operations_and_magnitude(monkeypatch):
    seen = []

    def record(self, image, name, magnitude, interpolation, fill):
        seen.append((name, abs(magnitude)))
        return image

    monkeypatch.setattr(RandAugment, "_apply_image_or_video_transform", record)
    for sample in range(60):
        whole(photo(), sample, randaugment={"operations": 3, "magnitude": 15})
    assert len(seen) == 180
    # Half of 0.3, 30 degrees and 0.9 (arXiv 1909.13719 and its code).
    for name, magnitude in (("ShearX", 0.15), ("Rotate", 15), ("Contrast", 0.45)):
        assert {round(value, 6) for each, value in seen if each == name} == {magnitude}


def jitter(image, sample, **changes):
    off = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    return whole(image, sample, color_jitter={**off, **changes})


def test_color_jitter_draws_a_uniform_factor():
    image = np.full((4, 4, 3), 100, np.uint8)
    factors = np.array([jitter(image, i, brightness=0.4)[0, 0, 0] / 100 for i in range(500)])
    assert kstest(factors, "uniform", args=(0.6, 0.8)).pvalue > 1e-3


def test_color_jitter_changes_only_the_requested_properties():
    image = photo()
    gray = np.repeat(image[..., :1], 3, axis=-1)
    assert np.array_equal(jitter(image, 0), image)
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert not np.array_equal(jitter(image, 0, **{name: 0.4}), image)
    # Gray has neither saturation nor hue.
    assert np.array_equal(jitter(gray, 0, saturation=0.4), gray)
    assert np.array_equal(jitter(gray, 0, hue=0.4), gray)


def test_random_erasing_rectangles_match_torchvision():
    image = np.zeros((60, 80, 3), np.uint8)
    boxes, noise = [], []
    for sample in range(1000):
        out = whole(image, sample, random_erasing=1.0)
        rows, columns = (np.flatnonzero(out.any(axis=(axis, 2))) for axis in (1, 0))
        boxes.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1))
        top, left, height, width = boxes[-1]
        noise.append(out[top : top + height, left : left + width].ravel())
    torch.manual_seed(0)
    draw = RandomErasing(p=1.0, scale=(0.02, 0.33), ratio=(1 / 3.3, 1 / 0.3))  # height / width
    drawn = [draw.make_params([torch.empty(3, 60, 80)]) for _ in range(3000)]
    theirs = np.array([[box[name] for name in "ijhw"] for box in drawn])
    for mine, reference in zip(np.array(boxes).T, theirs.T, strict=True):
        assert ks_2samp(mine, reference).pvalue > 1e-3
    shares = np.prod(np.array(boxes)[:, 2:], axis=1) / (60 * 80)
    assert 0.018 < shares.min() < 0.03
    assert 0.3 < shares.max() < 0.34
    # All byte values are equally likely.
    counts = np.bincount(np.concatenate(noise), minlength=256)
    assert chisquare(counts).pvalue > 1e-3


def test_random_erasing_has_its_probability_and_leaves_other_pixels():
    image = photo()
    outs = [whole(image, sample, random_erasing=0.25) for sample in range(1000)]
    erased = sum(not np.array_equal(out, image) for out in outs)
    assert abs(erased - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75)
    assert all((out != image).any(axis=-1).mean() < 0.34 for out in outs)


def test_options_change_neither_crop_nor_flip():
    image = photo(240, 320)
    for sample in range(10):
        plain, erased = train(image, sample=sample), train(image, sample=sample, random_erasing=1.0)
        assert (plain == erased).all(axis=-1).mean() > 0.66


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (300, 300), (100, 640), (288, 288)])
def test_evaluation_resizes_the_short_side_to_288_and_crops_256(shape):
    image = photo(*shape)
    short, long = min(shape), max(shape)
    other = 288 * long // short
    height, width = (288, other) if shape[0] == short else (other, 288)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (height - 256) // 2, (width - 256) // 2
    expected = resized[top : top + 256, left : left + 256]
    assert np.array_equal(evaluate(image, (256, 256)), expected)


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
    assert np.array_equal(evaluate(image, (192, 256)), expected)


def test_evaluation_only_crops_an_image_that_fits_exactly():
    image = photo(288, 288)
    assert np.array_equal(evaluate(image, (256, 256)), image[16:272, 16:272])
    image = photo(216, 288)
    assert np.array_equal(evaluate(image, (192, 256)), image[12:204, 16:272])


def test_evaluation_loses_no_pixel_to_rounding(monkeypatch):
    sizes = []

    def resize(image, size, interpolation):
        sizes.append(size[::-1])
        return np.broadcast_to(np.uint8(0), (size[1], size[0], 3))

    monkeypatch.setattr(cv2, "resize", resize)
    for short in range(1, 1500, 3):
        for long in (short, short + 1, 2 * short, 3 * short + 7):
            evaluate(np.broadcast_to(np.uint8(0), (short, long, 3)), (256, 256))
            assert tuple(sizes[-1]) == (288, 288 * long // short)


def test_evaluation_depends_on_the_size_of_its_key_only():
    transform, image = EvalTransform(), photo()
    expected = transform(image, SampleKey(0, 0, SIZE))
    assert np.array_equal(expected, transform(image, SampleKey(9, 3, SIZE, 1)))
    assert transform(image, SampleKey(0, 0, (24, 40))).shape == (24, 40, 3)
