"""Facts about masks."""

import cv2
import numpy as np
import PIL.Image
import pytest

from parcnet_train.data.resizing import fit_mask, place
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.doctor.reading.mask_facts import facts_of_mask


def test_objects_that_vanish_are_counted_by_class(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = 1
    mask[31, :] = 2  # one of 64 rows, of which 8 remain
    mask[40:44, 40:43] = 3  # 12 pixels: a speck
    mask[60:, 60:] = 255
    write_mask(tmp_path / "a.png", mask)
    facts = facts_of_mask(tmp_path / "a.png", (8, 8))
    assert (facts.height, facts.width, facts.problem) == (64, 64, "")
    assert dict(facts.counts) == {0: 64 * 64 - 192, 1: 100, 2: 64, 3: 12, 255: 16}
    assert facts.objects == 4  # the background is in two parts
    assert facts.lost == [2]
    assert facts_of_mask(tmp_path / "a.png", (64, 64)).lost == []
    assert facts_of_mask(tmp_path / "a.png", None).objects == 0


def objects_one_by_one(mask, size, keep_aspect):
    """Count the objects by OpenCV, class by class, and list those that the resized mask lacks."""
    placing = place(mask.shape, size, keep_aspect)
    count, lost = 0, []
    for index in np.setdiff1d(mask, [255]).tolist():
        number, parts = cv2.connectedComponents((mask == index).astype(np.uint8))
        for part in range(1, number):
            area = (parts == part).astype(np.uint8)
            if area.sum() >= 16:
                count += 1
                lost += [index] if not fit_mask(area, size, placing, 0).any() else []
    return count, lost


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("shape", [(64, 90), (90, 7), (1, 200), (200, 1), (12, 12)])
def test_objects_are_those_of_opencv(shape, keep_aspect, tmp_path):
    losses = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        mask = random.choice(np.array([0, 1, 2, 255], np.uint8), shape, p=[0.5, 0.3, 0.1, 0.1])
        for _ in range(12):  # lines and plates of other classes
            points = random.integers(-5, max(shape), (2, 2)).tolist()
            width = int(random.integers(1, 4))
            cv2.line(mask, *points, int(random.integers(3, 6)), width)
        write_mask(tmp_path / "a.png", mask)
        facts = facts_of_mask(tmp_path / "a.png", (10, 16), keep_aspect)
        expected = objects_one_by_one(mask, (10, 16), keep_aspect)
        if np.greater_equal(place(shape, (10, 16), keep_aspect).inner, shape).all():
            expected = (0, [])
        assert (facts.objects, facts.lost) == expected
        assert dict(facts.counts) == {n: (mask == n).sum() for n in np.unique(mask)}
        losses += len(facts.lost)
    assert losses or min(shape) < 16


def test_problems_of_masks_are_those_of_a_training(tmp_path):
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "colors.png")
    (tmp_path / "text.png").write_bytes(b"text")
    colors, text = (facts_of_mask(tmp_path / f"{n}.png", (8, 8)) for n in ("colors", "text"))
    assert colors.problem == "not indices"
    assert "its pixels are RGB" in colors.reason
    assert text.problem == "unreadable"


def test_mask_that_cannot_be_opened_differs_from_one_that_cannot_be_decoded(tmp_path):
    write_mask(tmp_path / "cut.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) - 30])
    cut, none = (facts_of_mask(tmp_path / f"{name}.png", (8, 8)) for name in ("cut", "none"))
    assert cut.problem == "unreadable"
    assert none.problem == "missing"
    assert "No such file or directory" in none.reason
