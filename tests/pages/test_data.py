"""The data of a run on its page: labels, boxes and pixels per class, image sizes, file names."""

import os

import numpy as np

from class_folders import fitted
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.pages.data import data_blocks, name_of
from voc_files import NAMES, mask_of
from voc_modules import make_data


def boxed(root):
    data = CocoData(
        str(root), augmentation=DetectionAugmentation(), image_size=64, batch_size=2, num_workers=0
    )
    data.setup("fit")
    return data


def drawings_of(block):
    return [each.name for each in block.drawings]


def test_images_are_counted_per_class(image_folder):
    (image_folder / "train" / "bee" / "0.png").unlink()
    classes, sizes = data_blocks(fitted(image_folder))
    assert classes.table.headings == ["class", "images, training", "images, validation"]
    assert classes.table.rows == [["ant", "4", "2"], ["cat", "4", "2"], ["bee", "3", "2"]]
    assert classes.text == "11 images (training); 6 images (validation)."
    assert sizes.text.startswith("From 41 to 90 pixels wide, 40 to 72 pixels high (64 images")
    assert drawings_of(sizes) == ["data_image_sides", "data_image_aspects"]


def test_only_evaluated_classes_are_counted(image_folder):
    data = fitted(image_folder)
    data.evaluated_classes = [0, 2]
    classes, _ = data_blocks(data)
    assert classes.table.rows == [["ant", "4", "2"], ["cat", "4", "2"]]
    assert classes.text.startswith("8 images (training)")


def test_boxes_are_counted_without_crowds_and_those_without_an_area(coco_folder):
    classes, boxes, sizes = data_blocks(boxed(coco_folder))
    assert sorted(classes.table.rows) == [["ant", "1", "1"], ["bee", "1", "0"], ["cat", "1", "1"]]
    assert drawings_of(boxes) == [
        *("data_boxes_per_image", "data_box_sizes", "data_box_aspects", "data_box_places"),
    ]
    assert sizes.text.startswith("From 30 to 70 pixels wide, 33 to 70 pixels high (all images)")


def test_pixels_are_counted_per_class(voc_folder):
    data = make_data(voc_folder)
    data.setup("fit")
    classes, _ = data_blocks(data)
    counts = sum(np.bincount(mask_of(name).ravel(), minlength=256)[:3] for name in "abcd")
    found = {name: count for name, count, _ in classes.table.rows}
    assert found == {name: f"{count:,}" for name, count in zip(NAMES, counts, strict=True)}
    assert "counted in up to 64 images of each set" in classes.text


def test_images_have_the_name_of_their_file_or_their_row(coco_folder):
    data = boxed(coco_folder)
    names = [name_of(data.train_set, sample) for sample in range(len(data.train_set))]
    assert names == ["a.png", "b.jpg", "c.png"]  # d.png has no box
    table = type("Table", (), {"files": lambda _: np.array([b"x.arrow"]), "__len__": lambda _: 2})
    assert name_of(table(), 1) == "row 1"
    odd = {"files": lambda _: np.array([os.fsencode("a\nb.png")]), "__len__": lambda _: 1}
    assert "\n" not in name_of(type("Odd", (), odd)(), 0)
