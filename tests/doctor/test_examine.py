"""The examination finds planted defects of every task, and nothing in clean data."""

import functools
import json

import cv2
import numpy as np
import PIL.Image
import pytest

from class_folders import make_data as folder_data
from doctor_trees import (
    CLASSES,
    SIZE,
    coco_document,
    mask_of,
    photo,
    png_of,
    save,
    spoiled,
    truncated,
    turned,
    write_boxes,
    write_document,
    write_folders,
    write_masks,
)
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.doctor import duplicates
from parcnet_train.doctor.anchors import Anchors
from parcnet_train.doctor.examine import Order, examine
from voc_files import write_classes
from voc_modules import make_data as masked_data

boxed_data = functools.partial(
    CocoData, image_size=320, batch_size=2, augmentation=DetectionAugmentation(), num_workers=0
)
ORDER = Order(anchors=Anchors((320, 320), 0.1))


def kinds_of(data, order=ORDER):
    return {finding.kind: finding for finding in examine(data, order).findings}


def suspicious(found):
    return {kind for kind, finding in found.items() if finding.severity != "note"}


@pytest.mark.parametrize(
    ("write", "make"),
    [
        (write_folders, functools.partial(folder_data, image_size=128)),
        (write_boxes, boxed_data),
        (write_masks, masked_data),
    ],
    ids=["classification", "detection", "segmentation"],
)
def test_clean_data_have_no_findings(write, make, tmp_path):
    found = kinds_of(make(str(write(tmp_path))))
    assert suspicious(found) == set()
    assert found["class-balance"].table.rows[0][0] in CLASSES


def renamed(root, pairs):
    """Rename files and folders below a root."""
    for old, new in pairs:
        (root / old).rename(root / new)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_test_set_is_examined_instead_of_the_validation_set(task, tmp_path):
    if task == "classification":
        data = folder_data(str(write_folders(tmp_path)), image_size=128, split="test")
        renamed(tmp_path, [("val", "test")])
    elif task == "detection":
        data = boxed_data(str(write_boxes(tmp_path)), split="test")
        names = ("{}2017", "annotations/instances_{}2017.json")
        renamed(tmp_path, [(name.format("val"), name.format("test")) for name in names])
    else:
        data = masked_data(str(write_masks(tmp_path)), split="test")
        lists = "ImageSets/Segmentation/{}.txt"
        renamed(tmp_path, [(lists.format("val"), lists.format("test"))])
    done = examine(data, ORDER)
    assert {each.kind for each in done.findings if each.severity != "note"} == set()
    assert done.images == {"train": 24, "test": 9}


def test_masks_are_counted_by_the_values_of_the_data_module(tmp_path):
    root = write_masks(tmp_path)
    for file in (root / "SegmentationClass").iterdir():
        write_mask(file, mask_of() + 1)
    found = kinds_of(masked_data(str(root), first_label=1))
    assert suspicious(found) == set()
    shares = {row[0]: row[2] for row in found["class-balance"].table.rows}
    assert set(shares) == set(CLASSES)
    assert all(share.startswith("33") for share in shares.values())
    assert "mask-values" in kinds_of(masked_data(str(root)))


def test_planted_defects_of_class_folders_are_found(tmp_path):
    root = write_folders(tmp_path)
    train, val = root / "train", root / "val"
    (train / "ant" / "0.jpg").write_bytes(b"")
    (train / "ant" / "1.jpg").write_bytes(b"<html>404</html>")
    spoiled(train / "ant" / "2.jpg")
    truncated(train / "ant" / "3.jpg")
    (train / "ant" / "big.png").write_bytes(png_of((30_000, 30_000)))
    PIL.Image.fromarray(photo(501)).save(train / "ant" / "wrong.jpg", "PNG")
    PIL.Image.fromarray(photo(502)).convert("RGBA").save(train / "ant" / "alpha.png")
    turned(train / "ant" / "turned.jpg", photo(503))
    save(train / "ant" / "uniform.png", np.full((*SIZE, 3), 200, np.uint8))
    save(train / "ant" / "dark.png", photo(504) // 8)
    save(train / "ant" / "blurred.png", cv2.GaussianBlur(photo(505), (0, 0), 12))
    save(train / "ant" / "long.png", photo(506, (20, 400)))
    # A copy in the other set; one compressed again; one with another class.
    (val / "bee" / "copy.jpg").write_bytes((train / "bee" / "0.jpg").read_bytes())
    image = PIL.Image.open(train / "bee" / "1.jpg").resize((140, 105))
    image.save(val / "bee" / "near.jpg", quality=60)
    (train / "cat" / "copy.jpg").write_bytes((train / "bee" / "2.jpg").read_bytes())
    save(train / "cat " / "0.jpg", photo(507))
    found = kinds_of(folder_data(root, image_size=128))
    errors = {kind for kind, finding in found.items() if finding.severity == "error"}
    assert errors == {"empty", "unreadable", "oversized"}
    assert suspicious(found) - errors == {
        "damaged",
        "wrong-suffix",
        "mode",
        "uniform",
        "dark",
        "blurred",
        "aspect",
        "leakage-exact",
        "leakage-near",
        "duplicates-exact",
        "contradiction",
        "suspicious-names",
        "class-in-one-set",
    }
    assert found["turned"].severity == "note"
    names = {kind: each.files[0] for kind, each in found.items() if each.files and each.count == 1}
    assert names["damaged"].startswith("ant/2.jpg")
    assert names["blurred"] == "ant/blurred.png"
    assert names["leakage-near"] == "train: bee/1.jpg = val: bee/near.jpg"
    assert names["contradiction"] == "train: bee/2.jpg = train: cat/copy.jpg"
    assert names["class-in-one-set"] == "cat  (1 images)"
    assert all(found[kind].pictures for kind in ("damaged", "leakage-exact", "dark"))
    (line,) = found["empty"].lines
    assert line.startswith(f"{train / 'ant' / '0.jpg'} cannot be read as an image")


def test_files_that_a_training_skips_are_warnings(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "ant" / "0.jpg").write_bytes(b"")
    found = kinds_of(folder_data(root, image_size=128, on_error="skip"))
    assert found["empty"].severity == "warning"
    assert found["empty"].lines == []


def test_planted_defects_of_boxes_are_found(tmp_path):
    root = write_boxes(tmp_path)
    document = coco_document("train")
    boxes = document["annotations"]
    planted = {
        "box-outside": [150, 100, 60, 60],
        "box-beyond": [120, 10, 50, 40],
        "box-degenerate": [20, 20, 0, 30],
        "box-tiny": [30, 30, 1.5, 1.5],
        "box-relative": [0.2, 0.3, 0.4, 0.5],
    }
    for box in planted.values():
        boxes.append({"id": len(boxes), "image_id": 0, "category_id": 1, "bbox": box})
    again = {**boxes[4], "id": len(boxes)}
    other = {**boxes[6], "id": len(boxes) + 1, "category_id": 1 + boxes[6]["category_id"] % 3}
    large = {**boxes[8], "id": len(boxes) + 2, "bbox": [60, 40, 40, 40], "area": 90_000}
    boxes += [again, other, large]
    categories = [*document["categories"], {"id": 9, "name": "Bee"}]
    categories = [{**each, "supercategory": "animal"} for each in categories]
    categories.append({"id": 10, "name": "animal"})
    write_document(root, "train", {**document, "categories": categories})
    val = coco_document("val")
    boxes_of_val = [each for each in val["annotations"] if each["category_id"] != 3]
    val = {**val, "annotations": boxes_of_val, "categories": categories}
    write_document(root, "val", val)
    train_images, val_images = root / "train2017", root / "val2017"
    spoiled(train_images / "20.jpg")
    save(train_images / "21.jpg", photo(600, (100, 160)))
    (val_images / "1.jpg").write_bytes((train_images / "1.jpg").read_bytes())
    found = kinds_of(boxed_data(str(root)))
    assert suspicious(found) == {
        *planted,
        "box-duplicate",
        "box-two-classes",
        "area",
        "annotated-size",
        "damaged",
        "leakage-exact",
        "unused-class",
        "suspicious-names",
        "class-in-one-set",
    }
    for kind, box in planted.items():
        assert found[kind].count == 1, kind
        assert f"bbox=[{', '.join(f'{n:g}' for n in box)}]" in found[kind].files[0]
        assert found[kind].pictures
    assert found["supercategory"].files == ["animal (id 10, 0 boxes)"]
    assert found["unused-class"].files == ["Bee"]
    assert "21.jpg has 160x100 pixels" in found["annotated-size"].lines[0]


def test_corners_instead_of_lengths_are_found(tmp_path):
    root = write_boxes(tmp_path)
    document = coco_document("train")
    for entry in document["annotations"]:
        left, top, width, height = entry["bbox"]
        entry["bbox"] = [left, top, left + width, top + height]
    write_document(root, "train", document)
    found = kinds_of(boxed_data(str(root)))
    assert found["box-corners"].count == len(document["annotations"])
    assert "box-outside" not in found


def test_planted_defects_of_masks_are_found(tmp_path):
    root = write_masks(tmp_path)
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    write_classes(root, [*CLASSES, "dog", "Dog"])
    values = mask_of()
    stray = values.copy()
    stray[:5, :5] = 77
    write_mask(masks / "t0.png", stray)
    void = values.copy()
    void[:, 30:] = 255
    write_mask(masks / "t1.png", void)
    write_mask(masks / "t2.png", values[:60])
    thin = np.zeros(SIZE, np.uint8)
    thin[1::10, :40] = 1  # lines of one pixel, between those that 64 rows are read from
    write_mask(masks / "t3.png", thin)
    PIL.Image.fromarray(photo(700)).save(masks / "t4.png")
    (masks / "t5.png").write_bytes(b"nothing")
    only = values.copy()
    only[50:, 50:] = 3
    write_mask(masks / "t6.png", only)
    spoiled(images / "t7.jpg")
    turned(images / "t8.jpg", photo(701).transpose(1, 0, 2).copy())
    save(images / "t9.jpg", np.full((*SIZE, 3), 90, np.uint8))
    (images / "v1.jpg").write_bytes((images / "t10.jpg").read_bytes())
    (images / "t11.jpg").write_bytes(b"")
    found = kinds_of(masked_data(str(root)))
    errors = {kind for kind, finding in found.items() if finding.severity == "error"}
    refused = {"mask-values", "mask-size", "mask-not-indices", "mask-unreadable", "empty"}
    assert errors == refused
    assert suspicious(found) - errors == {
        "mask-void",
        "mask-thin",
        "damaged",
        "turned",
        "uniform",
        "leakage-exact",
        "unused-class",
        "class-in-one-set",
        "suspicious-names",
    }
    assert found["mask-values"].files == ["t0.png"]
    assert found["mask-void"].files == ["t1.png (81 %)"]
    assert found["mask-thin"].files[0].startswith("t3.png (")
    assert found["unused-class"].files == ["Dog"]
    assert found["mask-values"].pictures


def test_near_duplicates_that_are_not_compared_are_counted(tmp_path, monkeypatch):
    root = write_folders(tmp_path)
    for number in range(3):
        image = PIL.Image.open(root / "train" / "bee" / f"{number}.jpg").resize((140, 105))
        image.save(root / "val" / "bee" / f"near{number}.jpg", quality=60)
    data = folder_data(root, image_size=128)
    found = kinds_of(data)
    assert found["leakage-near"].count == 3
    assert "not-compared" not in found
    monkeypatch.setattr(duplicates, "CANDIDATES", 2)
    found = kinds_of(data)
    assert found["leakage-near"].count == 2
    assert (found["not-compared"].count, found["not-compared"].severity) == (1, "note")


def test_headers_are_enough_for_some_findings(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "ant" / "0.jpg").write_bytes(b"")
    truncated(root / "train" / "ant" / "2.jpg")
    found = kinds_of(folder_data(root, image_size=128), Order(decodes=False))
    assert suspicious(found) == {"empty"}


def test_second_examination_reads_only_what_has_changed(tmp_path):
    root, order = write_folders(tmp_path / "data"), Order(cache=tmp_path / "cache")
    data = folder_data(root, image_size=128)
    first = examine(data, order)
    assert (first.files, first.known) == (33, 0)
    (root / "train" / "ant" / "0.jpg").write_bytes(b"")
    second = examine(data, order)
    assert (second.files, second.known) == (33, 32)
    assert {each.kind for each in second.findings} >= {"empty"}
    assert json.dumps([each.values() for each in first.findings])


def test_missing_files_are_reported_in_the_words_of_a_training(tmp_path):
    root = write_boxes(tmp_path)
    (root / "train2017" / "3.jpg").unlink()
    found = kinds_of(boxed_data(str(root)))
    assert (
        "3.jpg does not exist; 1 of 24 images in the annotations are missing"
        in (found["refused"].lines[0])
    )


def test_table_without_files_is_examined(huggingface_folder):
    from parcnet_train.data.classification.huggingface import HuggingFaceData
    from parcnet_train.data.classification.transforms import Augmentation

    data = HuggingFaceData(str(huggingface_folder), 32, 2, Augmentation(), num_workers=0)
    found = kinds_of(data)
    # The fixture has one picture for all classes and sets.
    assert {"leakage-exact", "contradiction"} <= set(found)
    assert found["leakage-exact"].files == ["train: row 0 = val: row 0 and 4 more"]
