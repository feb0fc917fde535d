"""Sets that cannot be converted."""

import json
import os

import pytest

from parcnet_train.errors import ConfigError, DataError
from preparing import POLYGON, converted, masked, picture, text, yolo


def test_boxes_alone_are_no_masks(tmp_path):
    source = yolo(tmp_path / "in")
    with pytest.raises(ConfigError, match=r"prepare\.task=segmentation: .* only for detection"):
        converted("yolo", source, tmp_path / "out", "segmentation")
    text(source / "labels" / "00.txt", POLYGON.format(0))
    with pytest.raises(DataError, match=r"a box but no outline: 11 \(first: images/01\.jpg: dog"):
        converted("yolo", source, tmp_path / "out", "segmentation")


@pytest.mark.parametrize("source", ["yolo", "split", "color_masks"])
def test_more_classes_than_masks_can_hold_are_refused(tmp_path, source):
    names = ["background", *(f"class{number}" for number in range(254))]
    colors = [(number, 0, 0) for number in range(255)]
    if source == "yolo":
        root = yolo(tmp_path / "in", 4, POLYGON)
        text(root / "classes.txt", "\n".join(names[1:]))
    else:
        root = masked(tmp_path / "in", *(colors if source == "color_masks" else ()), names=names)
    done = converted(source, root, tmp_path / "out", "segmentation")
    assert (done.root / "classes.txt").read_text().split() == names
    more = ["one", "two"]
    if source == "color_masks":
        with (root / "labelmap.txt").open("a") as file:
            file.write("\none:0,1,0::\ntwo:0,2,0::\n")
    else:
        text(root / "classes.txt", "\n".join([*names, *more][source == "yolo" :]))
    with pytest.raises(DataError, match=r"257 classes with the background; expected 2 to 255"):
        converted(source, root, tmp_path / "out2", "segmentation")


def test_class_that_is_no_folder_name_is_refused(tmp_path):
    picture(tmp_path / "in" / "a.jpg")
    text(tmp_path / "in" / "t.csv", "filename,label\na.jpg,cat/dog\n")
    with pytest.raises(DataError, match="cannot be the name of a folder: 1"):
        converted("csv", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\u2028b", "\x1b[31m"])
def test_names_that_break_lists_are_refused(tmp_path, name):
    source = yolo(tmp_path / "in")
    text(source / "data.yaml", json.dumps({"names": [name, "dog"]}))
    with pytest.raises(DataError, match=r"classes whose name has a control .* 1 \(first: \S+\)"):
        converted("yolo", source, tmp_path / "out")
    text(source / "data.yaml", "names: [cat, cat]\n")
    with pytest.raises(DataError, match=r"classes that occur twice: 1 \(first: cat\)"):
        converted("yolo", source, tmp_path / "out")


def test_image_names_that_break_lists_are_refused(tmp_path):
    source = yolo(tmp_path / "in", line=POLYGON)
    name = os.fsdecode(b"\xff\xfe")
    for folder, ending in (("images", ".jpg"), ("labels", ".txt")):
        (source / folder / f"00{ending}").rename(source / folder / f"{name}{ending}")
    with pytest.raises(DataError, match="images whose name is not UTF-8 text: 1"):
        converted("yolo", source, tmp_path / "out", "segmentation")
    for folder, ending in (("images", ".jpg"), ("labels", ".txt")):
        (source / folder / f"{name}{ending}").rename(source / folder / f" 0{ending}")
    with pytest.raises(DataError, match="begin or end with white space, or are empty: 1"):
        converted("yolo", source, tmp_path / "out", "segmentation")
    assert not converted("yolo", source, tmp_path / "out", "detection").was_complete
