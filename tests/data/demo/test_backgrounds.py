"""Backgrounds of drawn scenes."""

import colorsys

import numpy as np
import pytest

from parcnet_train.data.demo.backgrounds import color, make_background


def test_backgrounds_have_their_size_and_depend_only_on_the_generator():
    first, again, other = (make_background(40, 60, np.random.default_rng(n)) for n in (0, 0, 1))
    assert (first.shape, first.dtype) == ((40, 60, 3), np.float32)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_backgrounds_are_textured_and_in_range():
    for seed in range(30):
        image = make_background(48, 48, np.random.default_rng(seed))
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std(axis=(0, 1)).max() > 0.005


@pytest.mark.parametrize("hue", [0.3, 1.3, -0.7])
def test_hue_is_a_share_of_the_circle(hue):
    assert color(hue, 0.5, 0.8) == pytest.approx(colorsys.hsv_to_rgb(0.3, 0.5, 0.8), abs=1e-6)
