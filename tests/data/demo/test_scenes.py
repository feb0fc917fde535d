import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from parcnet_train.data.demo import scenes
from parcnet_train.data.demo.digits import Digit
from parcnet_train.data.demo.scenes import Sticker, draw_scenes, paste


def everything(drawn):
    return [scene for half in drawn.values() for _, scene in half]


def plate(sticker, height, width):
    """Return the pixels whose centers lie in a plate, computed with complex numbers."""
    y, x = np.mgrid[:height, :width]
    point = (x - sticker.x + 1j * (y - sticker.y)) * np.exp(-1j * sticker.angle)
    if sticker.is_round:
        return np.abs(point) <= sticker.radius
    # A rounded square consists of all points near a smaller square.
    half = 0.75 * sticker.radius
    nearest = np.clip(point.real, -half, half) + 1j * np.clip(point.imag, -half, half)
    return np.abs(point - nearest) <= 0.25 * sticker.radius


def test_splits_have_their_numbers_of_scenes(drawn):
    assert [number for half in drawn.values() for number, _ in half] == list(range(1, 1081))
    assert [len(half) for half in drawn.values()] == [960, 120]


def test_scenes_show_many_digits_of_all_classes(drawn):
    for half, stickers in zip(drawn.values(), (2000, 250), strict=True):
        shown = [sticker.digit for _, scene in half for sticker in scene.stickers]
        assert len(shown) >= stickers
        # No digit is repeated before all have been shown.
        numbers = [digit.number for digit in shown]
        assert max(map(numbers.count, numbers)) == (2 if stickers == 2000 else 1)
        assert np.bincount([digit.label for digit in shown]).min() >= 0.07 * len(shown)


def test_stickers_have_their_sizes_and_numbers(drawn):
    assert {scene.image.shape for scene in everything(drawn)} == {
        (192, 192, 3),
        (176, 208, 3),
        (208, 176, 3),
    }
    assert {len(scene.stickers) for scene in everything(drawn)} == {1, 2, 3, 4}
    sides = [
        2 * sticker.radius / min(scene.owners.shape)
        for scene in everything(drawn)
        for sticker in scene.stickers
    ]
    assert 0.3 <= min(sides) < 0.31
    assert 0.49 < max(sides) <= 0.5


def test_owners_are_the_topmost_plates(drawn):
    for scene in everything(drawn)[::5]:
        expected = np.zeros(scene.owners.shape, int)
        for number, sticker in enumerate(scene.stickers, 1):
            expected[plate(sticker, *expected.shape)] = number
        # Single precision may differ for a pixel exactly on the edge.
        assert (scene.owners != expected).sum() <= 1


def test_enough_of_every_sticker_is_visible(drawn):
    shares = []
    for scene in everything(drawn):
        for number, sticker in enumerate(scene.stickers, 1):
            canvas = sticker._replace(x=100, y=100)
            whole = plate(canvas, 200, 200).sum()
            shares.append((scene.owners == number).sum() / whole)
    assert min(shares) >= 0.5
    # Some do hide each other.
    assert 0.1 < np.mean(np.array(shares) < 0.85) < 0.5


@pytest.mark.parametrize("is_round", [True, False])
def test_drawn_plate_matches_its_annotation(is_round):
    digit = Digit(0, 3, "train", np.full((8, 8), 0.5))
    sticker = Sticker(digit, x=61.3, y=40.8, radius=31.7, angle=0.3, is_round=is_round)
    mask = plate(sticker, 90, 120)
    for seed in range(4):
        image = np.zeros((90, 120, 3), np.float32)  # a shadow is invisible on black
        paste(image, sticker, np.random.default_rng(seed))
        changed = image.max(axis=2) > 0
        assert changed[mask].all()
        assert not changed[~binary_dilation(mask, np.ones((3, 3)))].any()


def test_digits_are_drawn_upright():
    # Ink only in the upper left corner, on a plate that is not rotated.
    pixels = np.zeros((8, 8))
    pixels[1:3, 2:4] = 1
    sticker = Sticker(Digit(0, 7, "val", pixels), 50, 50, 40, 0.0, False)
    image = np.zeros((100, 100, 3), np.float32)
    paste(image, sticker, np.random.default_rng(0))
    inner = np.zeros((100, 100), bool)
    inner[20:80, 20:80] = True  # excluding the rim
    ink = np.abs(image - image[75, 75]).sum(axis=2) * inner
    y, x = np.nonzero(ink > 0.5 * ink.max())
    # 66 pixels show 8; rows 1 and 2 end at 3, columns 2 and 3 at 4.
    scale = 66 / 8
    assert (y.min(), y.max() + 1) == pytest.approx((17 + scale, 17 + 3 * scale), abs=2.5)
    assert (x.min(), x.max() + 1) == pytest.approx((17 + 2 * scale, 17 + 4 * scale), abs=2.5)


def test_ink_contrasts_with_its_plate():
    for seed in range(200):
        plate, _, ink = scenes._colors(np.random.default_rng(seed))
        light, dark = sorted((luminance(plate), luminance(ink)), reverse=True)
        # WCAG 2's minimum for large text.
        assert (light + 0.05) / (dark + 0.05) >= 3


def luminance(color):
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_scenes_are_reproducible(drawn, monkeypatch):
    monkeypatch.setitem(scenes.COUNTS, "val", 10)
    first, second = list(draw_scenes("val")), list(draw_scenes("val"))
    for (number, one), (same, two), (_, quick) in zip(first, second, drawn["val"], strict=False):
        assert number == same
        assert np.array_equal(one.image, two.image)
        assert places(one) == places(two) == places(quick)
        assert np.array_equal(one.owners, two.owners)
        assert np.array_equal(one.owners, quick.owners)


def places(scene):
    return [(sticker.digit.number, *sticker[1:]) for sticker in scene.stickers]


def test_splits_are_independent_of_each_other(drawn, monkeypatch):
    monkeypatch.setitem(scenes.COUNTS, "train", 7)
    number, scene = next(draw_scenes("val"))
    assert number == 8
    assert places(scene) == places(drawn["val"][0][1])


def test_images_are_neither_dark_nor_flat(monkeypatch):
    monkeypatch.setitem(scenes.COUNTS, "val", 10)
    for _, scene in draw_scenes("val"):
        background = scene.image[scene.owners == 0].astype(float)
        assert 40 < background.mean() < 230
        assert 4 < background.std(axis=0).mean() < 45
