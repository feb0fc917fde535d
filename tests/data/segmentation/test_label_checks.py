"""Checks of masks before a training, of a sample or of all, report faults with a fix."""

import logging
import re
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from parcnet_train.data import file_checks
from parcnet_train.data.file_checks import evenly_spread
from parcnet_train.data.segmentation import label_checks
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.data.segmentation.transforms import SegmentationAugmentation
from parcnet_train.errors import DataError
from running import configure
from voc_files import TRAIN, VAL, image_path, mask_of, mask_path, write_classes, write_list


def make_data(root, **settings):
    return VocData(str(root), 32, 2, SegmentationAugmentation(), num_workers=0, **settings)


def fault_of_sample(root, **settings):
    with pytest.raises(DataError) as raised:
        make_data(root, **settings).check_files("fit")
    return str(raised.value)


def fault_of_all(root):
    with pytest.raises(DataError) as raised:
        make_data(root).check_every_file()
    return str(raised.value)


def write_colors(path, mask):
    cv2.imwrite(str(path), np.repeat(mask[..., None], 3, axis=2))


def write_other_size(path, mask):
    write_mask(path, mask[1:])


def write_high_class(path, mask):
    mask[0, 0] = 3
    write_mask(path, mask)


def write_half(path, mask):
    write_mask(path, mask)
    path.write_bytes(path.read_bytes()[:80])


def write_sixteen_bits(path, mask):
    cv2.imwrite(str(path), mask.astype(np.uint16))


WRONG = {
    write_colors: r"b\.png is not a mask of class indices: its pixels are RGB; .*its colors",
    write_sixteen_bits: r"b\.png is not a mask .*: its pixels are I;16; .*save it with 8 bits",
    write_other_size: r"b\.png has 48x63 pixels, but its image .*b\.png has 48x64",
    write_high_class: r"b\.png has pixels of class 3; expected 0 to 2, or 255",
    write_half: r"b\.png cannot be read as a mask \(.*\); expected a PNG of class indices",
}


@pytest.mark.parametrize("write", WRONG, ids=lambda write: write.__name__)
def test_wrong_mask_is_reported_before_training(voc_folder, write):
    make_data(voc_folder).check_files("fit")
    make_data(voc_folder).check_every_file()
    write(mask_path(voc_folder, "b"), mask_of("b"))
    for fault in (fault_of_sample(voc_folder), fault_of_all(voc_folder)):
        (line,) = fault.splitlines()
        assert line.startswith(f"{voc_folder}/SegmentationClass/")
        assert re.search(WRONG[write], line)


def test_faults_of_both_lists_are_reported_up_to_ten(voc_folder, monkeypatch):
    names = [*TRAIN, *VAL]
    for name in names:
        write_high_class(mask_path(voc_folder, name), mask_of(name))
    lines = fault_of_sample(voc_folder).splitlines()
    assert len(lines) == len(names)
    assert all(f"{name}.png has pixels of class 3" in "".join(lines) for name in names)
    monkeypatch.setattr(file_checks, "SHOWN", 3)
    for fault in (fault_of_sample(voc_folder), fault_of_all(voc_folder)):
        assert len(fault.splitlines()) == 4
        assert fault.splitlines()[-1] == "4 more files have faults"


def test_masks_checked_depend_on_the_action(voc_folder):
    write_high_class(mask_path(voc_folder, "b"), mask_of("b"))
    make_data(voc_folder).check_files("test")
    with pytest.raises(DataError, match=r"b\.png has pixels of class 3"):
        make_data(voc_folder).check_files("benchmark")
    write_high_class(mask_path(voc_folder, "e"), mask_of("e"))
    with pytest.raises(DataError, match=r"e\.png has pixels of class 3"):
        make_data(voc_folder).check_files("test")


def test_on_error_skip_covers_unreadable_masks_but_not_wrong_ones(voc_folder):
    write_half(mask_path(voc_folder, "b"), mask_of("b"))
    image_path(voc_folder, "e").write_bytes(b"nothing")
    make_data(voc_folder, on_error="skip").check_files("fit")
    assert len(fault_of_sample(voc_folder).splitlines()) == 2
    write_colors(mask_path(voc_folder, "c"), mask_of("c"))
    (line,) = fault_of_sample(voc_folder, on_error="skip").splitlines()
    assert "c.png is not a mask of class indices" in line


def write_many(root, count, mask=lambda number: np.zeros((8, 8), np.uint8)):
    """Write a training list of tiny images with masks."""
    names = [f"n{number:04}" for number in range(count)]
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8)).save(root / "JPEGImages" / f"{name}.jpg")
        write_mask(mask_path(root, name), mask(number))
    return write_list(root, "train", names)


def test_checked_masks_are_evenly_spread(voc_folder):
    assert evenly_spread(3) == [0, 1, 2]
    assert evenly_spread(1) == [0]
    positions = evenly_spread(10_582)
    assert len(positions) == 32
    assert (positions[0], positions[-1]) == (0, 10_581)
    assert {341, 342} >= set(np.diff(positions))
    write_many(voc_folder, 100)
    for number in (0, 50, 99):
        write_high_class(mask_path(voc_folder, f"n{number:04}"), np.zeros((8, 8), np.uint8))
    lines = fault_of_sample(voc_folder).splitlines()
    assert ["n0000" in lines[0], "n0099" in lines[-1]] == [True, True]
    assert len(fault_of_all(voc_folder).splitlines()) == 3


def half(value):
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = value
    return mask


def test_masks_of_0_and_255_only_are_refused(voc_folder):
    file = write_many(voc_folder, 40, lambda number: half(255 if number else 0))
    for fault in (fault_of_sample(voc_folder), fault_of_all(voc_folder)):
        assert fault.startswith(f"{voc_folder}/SegmentationClass/n0001.png contains only 0 and 255")
        assert f"all 40 masks of {file}" in fault
        assert "divide the masks by 255" in fault


def test_masks_of_class_0_only_are_refused(voc_folder):
    file = write_many(voc_folder, 40)
    for fault in (fault_of_sample(voc_folder), fault_of_all(voc_folder)):
        assert fault.startswith(f"{file}: all of its 40 masks contain only class 0")
        assert "data.masks" in fault


def test_rare_classes_do_not_make_masks_binary(voc_folder):
    """One mask of a hundred contains another class and is not in the sample."""
    write_many(voc_folder, 100, lambda number: half(1 if number == 50 else 255))
    assert 50 not in evenly_spread(100)
    make_data(voc_folder).check_files("fit")
    make_data(voc_folder).check_every_file()


def test_masks_with_ignored_pixels_only_are_refused(voc_folder):
    write_many(voc_folder, 3, lambda number: np.full((8, 8), 255, np.uint8))
    assert "contains only 0 and 255" in fault_of_sample(voc_folder)


def test_ordinary_start_reads_only_a_sample_of_the_masks(voc_folder, monkeypatch):
    write_many(voc_folder, 100, lambda number: half(1))
    read = []
    look = label_checks.look_at
    monkeypatch.setattr(
        label_checks, "look_at", lambda masks, samples: read.extend(samples) or look(masks, samples)
    )
    make_data(voc_folder).check_files("benchmark")
    assert read == evenly_spread(100)


def test_full_check_warns_about_classes_without_pixels(voc_folder, caplog):
    file = write_many(voc_folder, 5, lambda number: half(2))
    write_classes(voc_folder, ["background", "cat", "dog", "emu"])
    with caplog.at_level(logging.WARNING):
        make_data(voc_folder).check_files("fit")
        assert caplog.messages == []
        make_data(voc_folder).check_every_file()
    (line,) = caplog.messages
    assert line.startswith(f"{file}: none of its 5 masks has a pixel of cat (1), emu (3)")


def faults_of(root, *overrides):
    return configure(["task=segmentation", "data=voc_format", f"data.root={root}", *overrides])[1]


def test_configuration_check_reports_wrong_masks(voc_folder):
    write_many(voc_folder, 100, lambda number: half(1))
    assert faults_of(voc_folder, "action=check", "check.data=full") == []
    for number in (49, 50):
        write_colors(mask_path(voc_folder, f"n{number:04}"), half(1))
    assert faults_of(voc_folder) == []
    assert faults_of(voc_folder, "action=check") == []
    assert faults_of(voc_folder, "check.data=full") == []  # only for action=check
    found = faults_of(voc_folder, "action=check", "check.data=full")
    assert ["n0049.png" in found[0], "n0050.png" in found[1]] == [True, True]
    assert len(found) == 2
    write_colors(mask_path(voc_folder, "n0000"), half(1))
    for action in ("fit", "check"):
        (fault,) = faults_of(voc_folder, f"action={action}")
        assert "n0000.png is not a mask of class indices" in fault


def test_value_of_check_data_is_validated(voc_folder):
    (fault,) = faults_of(voc_folder, "check.data=all")
    assert fault.startswith("check.data=all: expected one of sample, headers, full")


def test_full_check_shows_its_progress(voc_folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    make_data(voc_folder).check_every_file()
    error = capsys.readouterr().err
    assert "train" in error
    assert "4/4" in error
    assert "3/3" in error


def rewritten(root, change):
    """Change the values of all masks by a table, and return the classes that they had."""
    for name in {**TRAIN, **VAL}:
        write_mask(mask_path(root, name), change[mask_of(name)])
    return [mask_of(name) for name in TRAIN]


def masks_of(data):
    data.check_files("fit")
    data.setup("fit")
    return [data.train_set.read(sample).mask for sample in range(len(TRAIN))]


def test_ignored_labels_do_not_count(voc_folder):
    table = np.arange(256, dtype=np.uint8)
    table[255] = 11
    expected = rewritten(voc_folder, table)
    with pytest.raises(DataError, match=r"class 11; expected 0 to 2, or 255 .*data\.ignored"):
        make_data(voc_folder).check_files("fit")
    for found, mask in zip(
        masks_of(make_data(voc_folder, ignored_labels=[11])), expected, strict=True
    ):
        np.testing.assert_array_equal(found, mask)
    # A class may be ignored too.
    for found, mask in zip(
        masks_of(make_data(voc_folder, ignored_labels=[11, 1])), expected, strict=True
    ):
        np.testing.assert_array_equal(found, np.where(mask == 1, 255, mask))


def test_masks_may_count_from_one(voc_folder):
    table = np.arange(256, dtype=np.uint8) + np.uint8(1)  # 255 becomes 0
    expected = rewritten(voc_folder, table)
    with pytest.raises(DataError, match=r"has pixels of class 0; expected 1 to 3, or 255 for"):
        make_data(voc_folder, first_label=1).check_files("fit")
    data = make_data(voc_folder, first_label=1, ignored_labels=[0])
    for found, mask in zip(masks_of(data), expected, strict=True):
        np.testing.assert_array_equal(found, mask)
        assert found.dtype == np.uint8


def test_last_class_must_fit_into_8_bits(voc_folder):
    with pytest.raises(DataError, match=r"data\.first_label=253: the last of 3 classes would have"):
        make_data(voc_folder, first_label=253).check_files("fit")
