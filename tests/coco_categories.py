"""The small COCO data set with other categories."""

import logging

from coco_files import TRAIN, VAL, write_annotations
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation

USED = TRAIN["categories"]  # bee 7, ant 2, cat 90; the validation set has no bee


CLASSES = ["background", "ant", "bee", "cat"]


OBJECTS = [
    {"image_id": 10, "category_id": category, "bbox": [1, 1, 9, 9]} for category in (2, 7, 90)
]


def data_of(root, categories, train=OBJECTS, val=VAL["annotations"], **settings):
    document = {**TRAIN, "categories": categories, "annotations": train}
    write_annotations(root, "train", document)
    write_annotations(root, "val", {**VAL, "categories": categories, "annotations": val})
    settings = {"image_size": 64, "batch_size": 2, "num_workers": 0, **settings}
    return CocoData(str(root), augmentation=DetectionAugmentation(), **settings)


def checked(data, caplog, action="fit"):
    """Return the warnings of `check_files`."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        data.check_files(action)
    return [record.getMessage() for record in caplog.records]
