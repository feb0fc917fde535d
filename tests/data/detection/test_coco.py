"""Reading of annotations in COCO's format, compared with pycocotools."""

import json
import os

import numpy as np
import pytest
from pycocotools.coco import COCO

from coco_files import TRAIN, changed, read, with_value, write_annotations
from parcnet_train.data.detection import coco
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.errors import DataError


def test_annotations_are_read_into_arrays(tmp_path):
    annotations = read(tmp_path, TRAIN)
    assert annotations.class_names == ["background", "ant", "bee", "cat"]
    assert annotations.category_ids.tolist() == [-1, 2, 7, 90]
    assert not annotations.is_parent.any()
    assert annotations.files.tolist() == [b"a.png", b"b.jpg", b"c.png", b"d.png"]
    assert annotations.image_ids.tolist() == [30, 10, 20, 40]
    assert annotations.sizes.tolist() == [[40, 60], [50, 30], [64, 64], [32, 48]]
    assert annotations.starts.tolist() == [0, 1, 4, 5, 5]
    assert annotations.boxes.tolist() == [
        [5.5, 6, 30, 20],
        [3, 4, 10, 20],
        [20, 30, 25, 30],
        [9, 9, 0, 5],
        [0, 0, 64, 64],
    ]
    assert annotations.labels.tolist() == [3, 2, 1, 1, 1]
    assert annotations.areas.tolist() == [600, 120.5, 750, 0, 4096]
    assert annotations.is_crowd.tolist() == [False, False, False, False, True]
    assert len(annotations) == 4
    assert annotations.of(1) == slice(1, 4)


def random_document(images=60, boxes=400):
    rng = np.random.default_rng(0)
    ids = rng.permutation(10 * images)[:images].tolist()
    categories = rng.permutation(90)[:13].tolist()
    return {
        "images": [
            {"id": i, "file_name": f"{i:012}.jpg", "height": 480, "width": 640} for i in ids
        ],
        "annotations": [
            {
                "id": number + 1,
                "image_id": int(rng.choice(ids)),
                "category_id": int(rng.choice(categories)),
                "bbox": rng.uniform(0, 300, 4).round(2).tolist(),
                "area": float(rng.uniform(0, 9e4)),
                "iscrowd": int(rng.random() < 0.1),
                "segmentation": [rng.uniform(0, 300, 8).tolist()],
            }
            for number in range(boxes)
        ],
        "categories": [{"id": i, "name": f"kind {i}", "supercategory": "x"} for i in categories],
    }


def test_annotations_match_pycocotools(tmp_path):
    file = write_annotations(tmp_path, "train", random_document())
    annotations, reference = read_annotations(file), COCO(str(file))
    names = {each["id"]: each["name"] for each in reference.loadCats(reference.getCatIds())}
    assert annotations.category_ids.tolist() == [-1, *sorted(reference.getCatIds())]
    for label, category in list(enumerate(annotations.category_ids.tolist()))[1:]:
        assert annotations.class_names[label] == names[category]
    assert sum(map(len, reference.imgToAnns.values())) == len(annotations.boxes) == 400
    for number, image in enumerate(annotations.image_ids.tolist()):
        rows = annotations.of(number)
        expected = reference.imgToAnns[image]
        assert annotations.boxes[rows].tolist() == [each["bbox"] for each in expected]
        assert annotations.areas[rows].tolist() == [each["area"] for each in expected]
        assert annotations.is_crowd[rows].tolist() == [each["iscrowd"] for each in expected]
        found = annotations.category_ids[annotations.labels[rows]].tolist()
        assert found == [each["category_id"] for each in expected]
        listed = reference.loadImgs(image)[0]
        assert os.fsdecode(annotations.files[number]) == listed["file_name"]
        assert annotations.sizes[number].tolist() == [listed["height"], listed["width"]]


def test_annotations_are_cached_until_the_file_changes(tmp_path, monkeypatch):
    first = read(tmp_path, TRAIN)
    file = write_annotations(tmp_path, "val", changed(annotations=[]))
    monkeypatch.setattr(coco, "parse", None)  # must not be called
    with pytest.raises(TypeError):
        read_annotations(file)
    file = tmp_path / "annotations" / "instances_train2017.json"
    assert read_annotations(file) is first
    monkeypatch.undo()
    assert read(tmp_path, changed(annotations=TRAIN["annotations"][:2])).labels.tolist() == [3, 2]


def test_images_without_boxes_are_read(tmp_path):
    annotations = read(tmp_path, changed(annotations=[]))
    assert annotations.starts.tolist() == [0] * 5
    assert annotations.boxes.shape == (0, 4)


def test_non_ascii_names_and_byte_order_mark_are_read(tmp_path):
    document = with_value("images", 0, "file_name", "été/ü 1.png")
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document, ensure_ascii=False), "utf-8-sig")
    assert os.fsdecode(read_annotations(file).files[0]) == "été/ü 1.png"


def test_missing_annotations_file_is_reported(tmp_path):
    for file, reason in ((tmp_path / "a.json", "No such file or directory"), (tmp_path, "Is a ")):
        with pytest.raises(DataError) as raised:
            read_annotations(file)
        assert str(raised.value).startswith(f"{file} cannot be read ({reason}")
        for key in ("data.root", "data.train_annotations", "data.val_annotations"):
            assert key in str(raised.value)


def test_message_about_missing_annotations_suggests_similar_name(tmp_path):
    (tmp_path / "Instances.JSON").touch()
    with pytest.raises(DataError, match=r"instances\.json cannot be read.*/Instances\.JSON"):
        read_annotations(tmp_path / "instances.json")


def test_truncated_file_is_refused(tmp_path):
    text = json.dumps(TRAIN)
    for length in range(0, len(text) - 1, 7):
        file = tmp_path / f"{length}.json"
        file.write_text(text[:length])
        message = rf"{length}\.json is not JSON, or is truncated \(.*\)"
        with pytest.raises(DataError, match=message):
            read_annotations(file)


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00 packed", b"\xff\xd8\xff\xe0 a photo", b"[" * 10**6, b"9" * 10**4, b"<x/>"],
)
def test_file_that_is_not_json_is_refused(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not JSON, or is truncated"):
        read_annotations(file)


def test_reading_annotations_from_a_fifo_fails_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json .*FIFO"):
        read_annotations(tmp_path / "a.json")
