"""Small data set in COCO's layout: gaps in the ids, crowds, images without boxes."""

import copy
import json

import cv2
import numpy as np

from parcnet_train.data.detection.coco import read_annotations

# COCO's twelve metrics, in its order.
METRICS = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
)
CATEGORIES = [{"id": 7, "name": "bee"}, {"id": 2, "name": "ant"}, {"id": 90, "name": "cat"}]


TRAIN = {
    "images": [
        {"id": 30, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 10, "file_name": "b.jpg", "height": 50, "width": 30},
        {"id": 20, "file_name": "c.png", "height": 64, "width": 64},
        {"id": 40, "file_name": "d.png", "height": 32, "width": 48},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [3, 4, 10, 20], "area": 120.5},
        {"id": 2, "image_id": 30, "category_id": 90, "bbox": [5.5, 6, 30, 20], "iscrowd": 0},
        {"id": 3, "image_id": 20, "category_id": 2, "bbox": [0, 0, 64, 64], "iscrowd": 1},
        {"id": 4, "image_id": 10, "category_id": 2, "bbox": [20, 30, 25, 30]},  # reaches outside
        {"id": 5, "image_id": 10, "category_id": 2, "bbox": [9, 9, 0, 5]},  # has no area
    ],
    "categories": CATEGORIES,
}


VAL = {
    "images": [
        {"id": 7, "file_name": "e.png", "height": 45, "width": 70},
        {"id": 5, "file_name": "f.png", "height": 70, "width": 45},
        {"id": 6, "file_name": "g.png", "height": 33, "width": 33},
    ],
    "annotations": [
        {"id": 9, "image_id": 5, "category_id": 90, "bbox": [1, 2, 20, 30]},
        {"id": 8, "image_id": 7, "category_id": 2, "bbox": [10, 10, 20, 20]},
        {"id": 7, "image_id": 7, "category_id": 2, "bbox": [0, 0, 70, 45], "iscrowd": 1},
    ],
    "categories": CATEGORIES,
}


def write_annotations(root, split, document):
    """Write `root/annotations/instances_<split>2017.json`."""
    file = root / "annotations" / f"instances_{split}2017.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    return file


def write_images(root, split, document):
    """Write images of noise to `root/<split>2017`."""
    folder = root / f"{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for image in document["images"]:
        pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), pixels)


def write_coco(root, train=TRAIN, val=VAL):
    """Write a whole data set, and return its folder."""
    for split, document in (("train", train), ("val", val)):
        write_annotations(root, split, document)
        write_images(root, split, document)
    return root


def write_copies(root):
    """Write the small data set seven times, with different noise in each image."""

    def again(number, entry):
        more = {name: 100 * number + entry[name] for name in ("id", "image_id") if name in entry}
        if "file_name" in entry:
            more["file_name"] = f"{number}{entry['file_name'][0]}.png"
        return {**entry, **more}

    train, val = (
        {
            **document,
            **{
                key: [again(number, each) for number in range(copies) for each in entries]
                for key, entries in document.items()
                if key != "categories"
            },
        }
        for document, copies in ((TRAIN, 7), (VAL, 1))
    )
    return write_coco(root, train, val)


def read(folder, document):
    return read_annotations(write_annotations(folder, "train", document))


def changed(**lists):
    """Return the annotations of the small data set with other lists."""
    return {**copy.deepcopy(TRAIN), **lists}


def with_value(name, number, key, value):
    """Return the annotations of the small data set with another value in one entry."""
    document = changed()
    document[name][number][key] = value
    return document
