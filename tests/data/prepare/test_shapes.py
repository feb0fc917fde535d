"""Masks, boxes and areas of objects."""

from dataclasses import replace

import numpy as np
import pytest

from parcnet_train.data.prepare.annotated import AnnotatedObject
from parcnet_train.data.prepare.shapes import area_of, box_of_mask, clipped, draw, encode

SIZE = (20, 30)


def test_run_lengths_of_any_kind_are_the_same_mask():
    mask = np.random.default_rng(0).random(SIZE) > 0.6
    compressed = encode(mask)
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, len(flat)]).tolist()
    counts = counts if not flat[0] else [0, *counts]
    for runs in (compressed, {"size": list(SIZE), "counts": counts}):
        thing = AnnotatedObject("cat", (0, 0, 30, 20), runs=runs)
        assert (draw(thing, SIZE) == mask).all()
        assert area_of(thing, SIZE) == mask.sum()


def test_wrong_run_lengths_are_refused():
    for runs in ({"size": [20, 30], "counts": [3]}, {"size": [5, 5], "counts": [25]}):
        with pytest.raises(ValueError, match="pixels"):
            draw(AnnotatedObject("cat", (0, 0, 1, 1), runs=runs), SIZE)


def test_polygons_are_united_and_boxes_are_filled():
    left, right = (0, 0, 10, 0, 10, 20, 0, 20), (20, 0, 30, 0, 30, 20, 20, 20)
    thing = AnnotatedObject("cat", (0, 0, 30, 20), (left, right))
    assert area_of(thing, SIZE) == draw(thing, SIZE).sum() == 400
    box = AnnotatedObject("cat", (5, 5, 10.5, 15))
    assert area_of(box, SIZE) == 55
    assert draw(AnnotatedObject("cat", (5, 5, 10, 15)), SIZE).sum() == 50


def test_box_of_a_mask():
    mask = np.zeros(SIZE, bool)
    assert box_of_mask(mask) is None
    mask[3:5, 7:20] = True
    assert box_of_mask(mask) == (7, 3, 20, 5)


def test_boxes_are_clipped_and_outlines_stay():
    outside = AnnotatedObject("cat", (40, 0, 50, 10))
    assert clipped(outside, SIZE) is None
    outline = (-5, 2, 35, 2, 35, 10)
    found = clipped(AnnotatedObject("cat", (-5, 2, 35, 10), (outline,)), SIZE)
    assert found.box == (0, 2, 30, 10)
    assert found.polygons == (outline,)
    inside = AnnotatedObject("cat", (1, 2, 3, 4))
    assert clipped(inside, SIZE) is inside


@pytest.mark.parametrize(
    "counts",
    [
        [-5, 605],
        [605, -5],
        "0",
        "\x7f" * 9,
        "o" * 9,
        encode(np.ones(SIZE))["counts"][:-1],
        encode(np.ones((9, 9)))["counts"],
    ],
    ids=repr,
)
def test_run_lengths_that_would_leave_the_mask_are_refused(counts):
    runs = {"size": [20, 30], "counts": counts}
    with pytest.raises(ValueError, match="run lengths"):
        draw(AnnotatedObject("cat", (0, 0, 1, 1), runs=runs), SIZE)


@pytest.mark.parametrize("reach", [20, 60, 1000])
def test_outline_beyond_the_image_is_drawn_as_on_a_larger_one(reach):
    """The edges keep their slopes, wherever their ends lie."""
    chosen = np.random.default_rng(reach)
    large = AnnotatedObject("cat", (0, 0, 1, 1), ((0, 0, 1, 0, 1, 1),))
    for _ in range(5):
        points = chosen.uniform(-reach, 50 + reach, (4, 2))
        shape = replace(large, polygons=(tuple(points.ravel()),))
        shifted = replace(large, polygons=(tuple((points + reach).ravel()),))
        drawn = draw(shape, (50, 50))
        whole = draw(shifted, (50 + 2 * reach, 50 + 2 * reach))
        assert (drawn != whole[reach : reach + 50, reach : reach + 50]).mean() < 0.02
    triangle = AnnotatedObject("cat", (0, 0, 40, 50), ((-60, 0, 40, 0, 40, 50),))
    assert draw(triangle, (50, 50)).sum() == pytest.approx(1600, rel=0.03)  # 40 * (30 + 50) / 2


def test_far_points_of_a_polygon_take_no_memory():
    half = (-1e9, -1e9, 15, -1e9, 15, 1e9, -1e9, 1e9)
    drawn = draw(AnnotatedObject("cat", (0, 0, 15, 20), (half,)), SIZE)
    assert drawn[:, :15].all()
    assert not drawn[:, 15:].any()
    outside = (1e308, -1e308, 1e308, 1e308, 900, 900)
    assert not draw(AnnotatedObject("cat", (0, 0, 1, 1), (outside,)), SIZE).any()
    with pytest.raises(ValueError, match="no numbers"):
        draw(AnnotatedObject("cat", (0, 0, 1, 1), ((0, 0, 5, 0, 5, float("nan")),)), SIZE)
