"""Figures as SVG in the colors of the page, and as PNG."""

import re

import numpy as np
import pytest

from parcnet_train.pages.figures import (
    INK,
    MOST_CLASSES,
    bars,
    density,
    histograms,
    lines,
    matrix,
    png,
    shorten,
    svg,
    thinned,
)


@pytest.fixture(scope="module")
def drawn():
    figure = lines("Loss", {"train": ([0, 1, 2], [3, 2, 1]), "val": ([0, 2], [2, 1])}, "epoch")
    return svg(figure, "loss").decode(), png(figure)


def test_svg_takes_color_and_font_of_the_page(drawn):
    text, _ = drawn
    assert text.startswith("<svg")
    assert "currentColor" in text
    assert INK not in text
    assert "font-family" not in text
    assert "font:" not in text
    assert re.search(r"<text[^>]*>Loss</text>", text)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)


def test_svg_of_two_names_share_no_id():
    figure = lines("Loss", {"train": ([0, 1], [1, 2])}, "epoch", markers=["train"])
    one, other = (set(re.findall(r' id="([^"]+)"', svg(figure, n).decode())) for n in ("a", "b"))
    assert one
    assert not one & other


def test_names_are_no_formulas_and_all_are_in_the_legend():
    names = ["$5 to $10", "a$\\foo$", "_hidden"]
    figure = lines("F1", {name: ([0, 1], [0, 1]) for name in names}, "score")
    text = svg(figure, "names").decode()
    assert [name for name in names if f">{name}</text>" in text] == names
    assert png(figure)
    assert svg(bars("F1", names, {"F1": [1, 2, 3]}), "bars").count(b"$") == 4


def test_png_is_written(drawn):
    assert drawn[1].startswith(b"\x89PNG")


def test_long_lines_become_means_of_neighbors():
    x, y = thinned((range(1000), np.arange(1000) * 2), most=10)
    assert x == pytest.approx([49.5 + 100 * n for n in range(10)])
    assert y == pytest.approx([2 * each for each in x])
    assert thinned(([1, 2], [3, 4]), most=10) == ([1, 2], [3, 4])


def test_long_names_are_cut():
    assert shorten("n01440764 tench, Tinca tinca") == "n01440764 tench, Tinc…"
    assert shorten("cat") == "cat"


def test_figures_of_many_classes_and_of_nothing_can_be_drawn():
    names = [f"class {number}" for number in range(MOST_CLASSES)]
    cells = np.random.default_rng(0).random((MOST_CLASSES,) * 2)
    for figure in (
        matrix("Images", cells, names, "predicted", "true"),
        matrix("Images", np.zeros((2, 2)), names[:2], "predicted", "true"),
        bars("F1", names, {"F1": [float("nan")] * MOST_CLASSES}),
        histograms("Sizes", {"training": np.full(3, 7.0)}, "pixels", logarithmic=True),
        density("Places", np.array([0.0, 1.0]), np.array([0.5, 1.0]), "x", "y"),
    ):
        assert svg(figure, "figure").startswith(b"<svg")
