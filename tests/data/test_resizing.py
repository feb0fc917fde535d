"""Resizing to the input of a network, stretched or with the aspect ratio kept."""

import numpy as np
import pytest

from parcnet_train.data.resizing import (
    LETTERBOX_COLOR,
    Placing,
    fit_image,
    fit_mask,
    place,
    placement_of,
)


@pytest.mark.parametrize(
    ("original", "keep_aspect", "expected"),
    [
        ((50, 100), False, Placing((320, 320), 0, 0)),
        ((50, 100), True, Placing((160, 320), 80, 0)),
        ((100, 50), True, Placing((320, 160), 0, 80)),
        ((1, 1000), True, Placing((1, 320), 159, 0)),  # at least one pixel
    ],
)
def test_images_are_stretched_or_centered(original, keep_aspect, expected):
    assert place(original, (320, 320), keep_aspect) == expected


def test_placement_maps_image_corners():
    original, placing = (50, 100), place((50, 100), (320, 320), True)
    scale_x, scale_y, left, top = placement_of(original, placing)
    assert (left, top) == (0, 80)
    assert (100 * scale_x + left, 50 * scale_y + top) == (320, 240)


def test_padding_is_gray_in_images_and_ignored_in_masks():
    placing = place((2, 4), (4, 4), True)
    image = fit_image(np.full((2, 4, 3), 7, np.uint8), (4, 4), placing)
    mask = fit_mask(np.full((2, 4), 3, np.uint8), (4, 4), placing, 255)
    assert (image[1:3] == 7).all()
    assert (image[[0, 3]] == LETTERBOX_COLOR).all()
    assert mask.tolist() == [[255] * 4, [3] * 4, [3] * 4, [255] * 4]
