"""Contrast, brightness, saturation, hue and channel order match the release's definitions."""

import colorsys
from random import Random

import numpy as np
from scipy.stats import binomtest, kstest

from parcnet_train.data import photometric
from parcnet_train.data.photometric import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    PhotometricDistortion,
    apply,
    scale_saturation,
)


def noise():
    return np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def ramp():
    """Return an image of all gray values."""
    return np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)


def test_contrast_and_brightness_match_the_release():
    factors, shifts = [], []
    tones = PhotometricDistortion().tones
    for seed in range(300):
        lighter = apply(tones[False, True], ramp(), Random(seed)).ravel()[::3].astype(float)
        shifts.append(np.median(lighter - np.arange(256)) / 255)
        assert np.abs(lighter - (np.arange(256) + shifts[-1] * 255).clip(0, 255)).max() <= 1
        stronger = apply(tones[True, False], ramp(), Random(seed)).ravel()[::3].astype(float)
        factors.append(stronger[160] / 160)
        assert np.abs(stronger - (np.arange(256) * factors[-1]).clip(0, 255)).max() <= 2
    assert kstest(shifts, "uniform", (-BRIGHTNESS, 2 * BRIGHTNESS)).pvalue > 1e-3
    assert kstest(factors, "uniform", (1 - CONTRAST, 2 * CONTRAST)).pvalue > 1e-3


def test_contrast_and_brightness_are_clipped_once():
    both = PhotometricDistortion().tones[True, True]
    darker_again = 0
    for seed in range(100):
        values = apply(both, ramp(), Random(seed)).ravel()[::3].astype(float)
        free = (values > 0) & (values < 255)
        slope, offset = np.polyfit(np.flatnonzero(free), values[free], 1)
        assert np.abs(values - (np.arange(256) * slope + offset).clip(0, 255)).max() <= 2
        darker_again += slope > 1.1 and offset < -10 and values[250] == 255
    assert darker_again


def hsv(image):
    return np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in image.reshape(-1, 3)])


def test_saturation_is_multiplied():
    image = noise()
    for factor in (0.5, 0.8, 1.0, 1.3, 1.5):
        expected = hsv(image)
        expected[:, 1] = (expected[:, 1] * factor).clip(0, 1)
        rgb = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in expected]) * 255
        error = np.abs(scale_saturation(image, factor).reshape(-1, 3) - rgb)
        assert error.mean() < 2
        assert error.max() < 6  # a hue has 180 steps


def test_hue_shift_stays_in_its_range():
    turns = []
    image = noise()
    bright = (hsv(image)[:, 1:] > 0.4).all(axis=1)
    for seed in range(200):
        turned = hsv(apply(PhotometricDistortion().hue, image, Random(seed)))
        steps = (turned[:, 0] - hsv(image)[:, 0] + 0.5) % 1 * 180 - 90
        turns.append(np.median(steps[bright]))
        assert np.abs(steps[bright] - turns[-1]).max() < 5
    assert kstest(turns, "uniform", (-HUE - 0.5, 2 * HUE)).pvalue > 1e-3


def test_distortions_have_the_released_probabilities(monkeypatch):
    distort, count = PhotometricDistortion(), {}

    def note(name):
        count[name] = count.get(name, 0) + 1
        return ramp()

    names = {id(distort.hue): "hue", id(distort.shuffle): "shuffle"}
    names |= {id(tone): key for key, tone in distort.tones.items()}
    monkeypatch.setattr(photometric, "apply", lambda op, *_: note(names[id(op)]))
    monkeypatch.setattr(photometric, "scale_saturation", lambda *_: note("saturation"))
    draws = 4000
    for seed in range(draws):
        distort(ramp(), Random(seed))
    # Contrast is drawn first, or otherwise with the same probability at the end.
    expected = {"hue": 1 / 2, "saturation": 1 / 2, "shuffle": 1 / 2, (True, True): 1 / 4}
    expected |= {(False, True): 1 / 4, (True, False): 1 / 4 + 1 / 4}
    assert set(count) == set(expected)
    for name, share in expected.items():
        assert binomtest(count[name], draws, share).pvalue > 1e-3, name


def test_channels_are_shuffled_into_every_order():
    image = np.zeros((1, 1, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    shuffle = PhotometricDistortion().shuffle
    orders = {tuple(apply(shuffle, image, Random(seed)).ravel().tolist()) for seed in range(100)}
    assert len(orders) == 6
