"""COCO sets with anything wrong in them are read, or refused in words."""

import json

from hypothesis import strategies as st

from coco_files import TRAIN, VAL, write_coco
from fuzzing import (
    ends_well,
    folder,
    fuzz,
    hostile_json,
    hostile_tree,
    images_of,
    read_tree,
    write_tree,
)
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation


def small(document):
    """Return the same annotations for images of a quarter of their size."""
    images = [{**image, "height": 10, "width": 12} for image in document["images"]]
    boxes = [
        {**each, "bbox": [number / 6 for number in each["bbox"]]}
        for each in document["annotations"]
    ]
    return {**document, "images": images, "annotations": boxes}


def make_tree():
    with folder() as root:
        return read_tree(write_coco(root, small(TRAIN), small(VAL)))


TREE = make_tree()
FILES = {split: f"annotations/instances_{split}2017.json" for split in ("train", "val")}


@st.composite
def wrong_annotations(draw):
    split = draw(st.sampled_from(sorted(FILES)))
    document = draw(hostile_json(json.loads(TREE[FILES[split]])))
    return {**TREE, FILES[split]: json.dumps(document).encode()}


@fuzz(
    120,
    st.one_of(wrong_annotations(), hostile_tree(TREE)),
    st.sampled_from(["stop", "skip"]),
    st.sampled_from([None, 3]),
    st.booleans(),
)
def test_coco_sets_are_read_or_refused(tree, on_error, num_classes, keep_aspect):
    with folder() as root:
        write_tree(root, tree)
        data = CocoData(
            str(root),
            image_size=16,
            batch_size=2,
            augmentation=DetectionAugmentation(),
            num_workers=0,
            num_classes=num_classes,
            on_error=on_error,
            keep_aspect=keep_aspect,
        )
        ends_well(lambda: images_of(data), root)
