"""Facts about masks."""

import numpy as np
import PIL.Image

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


def test_problems_of_masks_are_those_of_a_training(tmp_path):
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "colors.png")
    (tmp_path / "text.png").write_bytes(b"text")
    colors, text = (facts_of_mask(tmp_path / f"{n}.png", (8, 8)) for n in ("colors", "text"))
    assert colors.problem == "not indices"
    assert "its pixels are RGB" in colors.reason
    assert text.problem == "unreadable"
