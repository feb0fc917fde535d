"""COCO's objects as masks of VOC's classes: rectangles, with expected masks made by hand."""

import json

import numpy as np
import pytest

from parcnet_train.data.prepare.official.coco_to_voc import (
    CATEGORIES,
    CocoImage,
    make_mask,
    read_coco,
)
from parcnet_train.data.prepare.official.voc_sources import VOC_CLASSES
from parcnet_train.errors import DataError

# Ids in COCO 2017; comments are COCO's names for VOC's classes.
COCO_IDS = {
    "aeroplane": 5,  # airplane
    "bicycle": 2,
    "bird": 16,
    "boat": 9,
    "bottle": 44,
    "bus": 6,
    "car": 3,
    "cat": 17,
    "chair": 62,
    "cow": 21,
    "diningtable": 67,  # dining table
    "dog": 18,
    "horse": 19,
    "motorbike": 4,  # motorcycle
    "person": 1,
    "pottedplant": 64,  # potted plant
    "sheep": 20,
    "sofa": 63,  # couch
    "train": 7,
    "tvmonitor": 72,  # tv
}
PERSON, DOG, TRUCK = COCO_IDS["person"], COCO_IDS["dog"], 8
HEIGHT, WIDTH = 8, 10


def polygon(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def thing(category, *boxes):
    """Return an object with one polygon per box."""
    polygons = [polygon(*box) for box in boxes]
    return {"id": 7, "category_id": category, "iscrowd": 0, "segmentation": polygons}


def run_lengths(mask):
    """Return COCO's run lengths: by columns, starting with zeros."""
    values = mask.T.ravel().tolist()
    counts, now = [0], 0
    for value in values:
        if value != now:
            counts.append(0)
            now = value
        counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


def crowd(category, left, top, right, bottom, shape=(HEIGHT, WIDTH)):
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 1
    segmentation = run_lengths(mask)
    return {"id": 8, "category_id": category, "iscrowd": 1, "segmentation": segmentation}


def masks(*objects):
    """Return the masks of both rules."""
    image = CocoImage("000000000009", HEIGHT, WIDTH, list(objects))
    return make_mask(image, "released"), make_mask(image, "later-on-top")


def painted(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (left, top, right, bottom) in boxes:
        mask[top:bottom, left:right] = value
    return mask


def check(made, expected):
    for one, other in zip(made, expected, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            assert one.dtype == np.uint8
            assert one.tolist() == other.tolist()


def test_category_ids_match_the_class_names():
    assert dict(zip(VOC_CLASSES, CATEGORIES, strict=True)) == {"background": 0, **COCO_IDS}


@pytest.mark.parametrize("name", COCO_IDS)
def test_every_class_is_drawn_with_its_index(name):
    box = (2, 1, 7, 5)
    mask = painted((VOC_CLASSES.index(name), box))
    check(masks(thing(COCO_IDS[name], box)), (mask, mask))


def test_first_or_last_object_wins_an_overlap():
    first, second = (0, 0, 6, 6), (4, 4, 10, 8)
    objects = thing(PERSON, first), thing(DOG, second)
    check(
        masks(*objects),
        (painted((12, second), (15, first)), painted((15, first), (12, second))),
    )


def test_polygons_of_an_object_are_united():
    parts = (0, 0, 5, 4), (3, 2, 9, 6)  # overlapping
    mask = painted(*((15, part) for part in parts))
    check(masks(thing(PERSON, *parts)), (mask, mask))


def test_other_categories_are_background_or_ignored():
    body, truck = (0, 0, 5, 8), (3, 2, 9, 6)
    released, later = painted((15, body)), painted((15, body), (255, truck))
    check(masks(thing(PERSON, body), thing(TRUCK, truck)), (released, later))
    later = painted((255, truck), (15, body))
    check(masks(thing(TRUCK, truck), thing(PERSON, body)), (released, later))


def test_crowds_are_objects_or_ignored():
    dog, people = (0, 0, 4, 4), (2, 2, 10, 8)
    expected = painted((15, people), (12, dog)), painted((12, dog), (255, people))
    check(masks(thing(DOG, dog), crowd(PERSON, *people)), expected)
    # Crowds of another category are background, or ignored too.
    expected = painted((12, dog)), painted((12, dog), (255, people))
    check(masks(thing(DOG, dog), crowd(TRUCK, *people)), expected)


def test_images_without_objects_are_left_out():
    everything = (0, 0, WIDTH, HEIGHT)
    check(masks(thing(PERSON, everything)), (None, painted((15, everything))))
    check(masks(crowd(PERSON, 0, 0, 5, 5)), (painted((15, (0, 0, 5, 5))), None))
    covered = thing(PERSON, (1, 1, 3, 3)), thing(TRUCK, everything)
    check(masks(*covered), (painted((15, (1, 1, 3, 3))), None))
    check(masks(thing(PERSON)), (None, None))  # without a polygon
    check(masks(thing(TRUCK, (1, 1, 3, 3))), (None, None))


def document(images, annotations):
    images = [
        {"id": i, "file_name": name, "height": height, "width": width}
        for i, (name, height, width) in enumerate(images)
    ]
    annotations = [
        {"id": 900 - i, "image_id": image, "category_id": category, "iscrowd": 0}
        for i, (image, category) in enumerate(annotations)
    ]
    return {"images": images, "annotations": annotations, "categories": []}


def written(folder, content):
    path = folder / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_images_with_objects_of_the_classes_are_read(tmp_path):
    images = [
        (f"{i:012d}.jpg", *size)
        for i, size in enumerate([(256, 300), (300, 255)] + 3 * [(400, 256)])
    ]
    annotations = [(2, TRUCK), (4, PERSON), (0, DOG), (1, PERSON), (4, TRUCK), (4, DOG)]
    written(tmp_path, document(images, annotations))
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "000000000004.jpg").touch()
    with pytest.raises(DataError) as caught:
        read_coco(tmp_path, 5)
    assert str(caught.value).startswith(
        f"{tmp_path}/train2017: it lacks 1 of 2 files that are needed, first 000000000000.jpg; "
    )
    (tmp_path / "train2017" / "000000000000.jpg").touch()
    read = read_coco(tmp_path, 5)
    assert [(image.name, image.height, image.width) for image in read] == [
        ("000000000000", 256, 300),
        ("000000000004", 400, 256),
    ]
    # The order of the file decides which object wins an overlap.
    assert [each["category_id"] for each in read[1].objects] == [PERSON, TRUCK, DOG]


FAULTS = {
    "no JSON": ("<html>", 1, "it is not in COCO's format (JSONDecodeError: Expecting value"),
    "a list": ("[]", 1, "it is not in COCO's format (TypeError: list indices"),
    "no annotations": ({"images": []}, 1, "it is not in COCO's format (KeyError: 'annotations')"),
    "no category": (
        {"images": [], "annotations": [{"image_id": 1}]},
        1,
        "it is not in COCO's format (KeyError: 'category_id')",
    ),
    "number": (document([("000000000001.jpg", 300, 300)], []), 2, "it has 1 images (expected 2)"),
    "a path": (
        document([("../000000000001.jpg", 300, 300)], [(0, DOG)]),
        1,
        "it names '../000000000001', which is not an image of COCO 2017",
    ),
}


@pytest.mark.parametrize(("content", "count", "reason"), FAULTS.values(), ids=FAULTS)
def test_invalid_annotation_files_are_refused(tmp_path, content, count, reason):
    with pytest.raises(DataError) as caught:
        read_coco(written(tmp_path, content), count)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/annotations/instances_train2017.json: {reason}")
    assert "expected the complete official file" in message
    assert "\n" not in message


def test_missing_annotations_file_is_reported(tmp_path):
    with pytest.raises(DataError, match="json does not exist; expected a folder of COCO 2017"):
        read_coco(tmp_path, 1)
