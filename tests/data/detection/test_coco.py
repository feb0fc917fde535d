"""Annotations in COCO's format: what pycocotools reads of them, and every fault by its entry."""

import copy
import json
import os

import numpy as np
import pytest
from pycocotools.coco import COCO

from coco_files import TRAIN, write_annotations
from parcnet_train.data.detection import coco
from parcnet_train.data.detection.coco import read_annotations
from parcnet_train.errors import DataError

LISTS = ("images", "annotations", "categories")


def read(folder, document):
    return read_annotations(write_annotations(folder, "train", document))


def changed(**lists):
    """The small set with other lists."""
    return {**copy.deepcopy(TRAIN), **lists}


def with_value(name, number, key, value):
    """The small set with another value in one entry."""
    document = changed()
    document[name][number][key] = value
    return document


def test_images_boxes_and_classes_are_arrays(tmp_path):
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


def test_everything_is_as_pycocotools_reads_it(tmp_path):
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


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    first = read(tmp_path, TRAIN)
    file = write_annotations(tmp_path, "val", changed(annotations=[]))
    monkeypatch.setattr(coco, "parse", None)  # is not called
    with pytest.raises(TypeError):
        read_annotations(file)
    file = tmp_path / "annotations" / "instances_train2017.json"
    assert read_annotations(file) is first
    monkeypatch.undo()
    assert read(tmp_path, changed(annotations=TRAIN["annotations"][:2])).labels.tolist() == [3, 2]


def test_images_may_be_without_boxes(tmp_path):
    annotations = read(tmp_path, changed(annotations=[]))
    assert annotations.starts.tolist() == [0] * 5
    assert annotations.boxes.shape == (0, 4)


def test_boxes_know_their_entry_in_the_file(tmp_path):
    annotations = read(tmp_path, TRAIN)
    boxes = [TRAIN["annotations"][each]["bbox"] for each in annotations.entries]
    assert annotations.boxes.tolist() == boxes


def test_boxes_of_any_finite_size_are_read(tmp_path):
    entry = {"image_id": 10, "category_id": 2, "bbox": [0, 0, 1e200, 1e200]}
    assert read(tmp_path, changed(annotations=[entry])).areas.tolist() == [np.inf]


def test_ids_of_annotations_and_outlines_are_not_needed(tmp_path):
    document = changed()
    for entry in document["annotations"]:
        del entry["id"]
        entry["segmentation"] = {"counts": [1, 2], "size": [3, 4]}
    assert np.array_equal(read(tmp_path, document).boxes, read(tmp_path, TRAIN).boxes)


def test_names_that_are_not_ascii_and_a_byte_order_mark(tmp_path):
    document = with_value("images", 0, "file_name", "été/ü 1.png")
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document, ensure_ascii=False), "utf-8-sig")
    assert os.fsdecode(read_annotations(file).files[0]) == "été/ü 1.png"


FAULTS = {
    "nan": (
        with_value("annotations", 3, "bbox", [1, float("nan"), 3, 4]),
        r"annotations[3] (id 4, image_id 10): bbox=[1, NaN, 3, 4]: allowed are 4 finite numbers; "
        "mend or remove that entry",
    ),
    "infinite": (
        with_value("annotations", 1, "bbox", [1, 2, float("inf"), 4]),
        "annotations[1] (id 2, image_id 30): bbox=[1, 2, Infinity, 4]: allowed are 4 finite",
    ),
    "negative": (
        with_value("annotations", 4, "bbox", [10, 10, 5, -1]),
        "annotations[4] (id 5, image_id 10): bbox=[10, 10, 5, -1]: [left, top, width, height] is "
        "to have a width and a height of at least 0; mend or remove",
    ),
    "short box": (
        with_value("annotations", 2, "bbox", [1, 2, 3]),
        "annotations[2] (id 3, image_id 20): bbox=[1, 2, 3]: allowed are 4 finite numbers",
    ),
    "all boxes short": (
        changed(annotations=[{**entry, "bbox": [1, 2]} for entry in TRAIN["annotations"]]),
        "annotations[0] (id 1, image_id 10): bbox=[1, 2]: allowed are 4 finite numbers",
    ),
    "box of words": (
        with_value("annotations", 2, "bbox", ["1", "2", "3", "4"]),
        'annotations[2] (id 3, image_id 20): bbox=["1", "2", "3", "4"]: allowed are 4 finite',
    ),
    "no box": (
        with_value("annotations", 2, "bbox", None),
        "annotations[2] (id 3, image_id 20): bbox=null: allowed are 4 finite numbers",
    ),
    "negative area": (
        with_value("annotations", 0, "area", -1.0),
        "annotations[0] (id 1, image_id 10): area=-1.0: an area is at least 0",
    ),
    "nan area": (
        with_value("annotations", 0, "area", float("nan")),
        "annotations[0] (id 1, image_id 10): area=NaN: allowed is a finite number",
    ),
    "unknown image": (
        with_value("annotations", 3, "image_id", 11),
        "annotations[3] (id 4): image_id=11: no entry of images has that id; mend or remove",
    ),
    "unknown category": (
        with_value("annotations", 3, "category_id", 91),
        "annotations[3] (id 4, image_id 10): category_id=91: no entry of categories has that id",
    ),
    "background's place": (
        with_value("annotations", 3, "category_id", -1),
        "annotations[3] (id 4, image_id 10): category_id=-1: no entry of categories has that id",
    ),
    "category of a word": (
        with_value("annotations", 3, "category_id", "cat"),
        'annotations[3] (id 4, image_id 10): category_id="cat": allowed is a whole number',
    ),
    "same image id": (
        with_value("images", 2, "id", 30),
        "images[2]: id=30: another entry of images has it, too",
    ),
    "same category id": (
        with_value("categories", 2, "id", 7),
        "categories[2]: id=7: another entry of categories has it, too",
    ),
    "too many pixels": (
        with_value("images", 3, "width", 2**26 + 1),
        "images[3] (id 40): height=32, width=67108865: an image may have up to 2^31 pixels",
    ),
    "far too many pixels": (
        changed(images=[{"id": 1, "file_name": "a", "height": 2**40, "width": 2**40}]),
        "images[0] (id 1): height=1099511627776, width=1099511627776: an image may have up to",
    ),
    "no pixels": (
        with_value("images", 1, "height", 0),
        "images[1] (id 10): height=0, width=30: both are to be at least 1 pixel",
    ),
    "half a pixel": (
        with_value("images", 1, "height", 50.5),
        "images[1] (id 10): height=50.5: allowed is a whole number",
    ),
    "missing key": (
        changed(images=[{"id": 1, "height": 3, "width": 3}]),
        "images[0] has no 'file_name'; mend or remove that entry",
    ),
    "no file name": (
        with_value("images", 1, "file_name", ""),
        'images[1] (id 10): file_name="": allowed is a text',
    ),
    "no mapping": (
        changed(annotations=[[1, 2, 3, 4]]),
        "annotations[0]=[1, 2, 3, 4]: allowed is a mapping; mend or remove that entry",
    ),
    "no images": (changed(images=[]), "the list 'images' is empty; allowed is a file of annot"),
    "no categories": (changed(categories=[]), "the list 'categories' is empty; allowed is a"),
    "list missing": (
        {"images": [], "annotations": []},
        "has no list 'categories'; allowed is a file of annotations in COCO's format, with lists "
        "images, annotations and categories",
    ),
    "list of another type": (changed(annotations={}), "has no list 'annotations'; allowed is a"),
    "results": ([{"image_id": 1, "score": 0.5}], "has no list 'images'; allowed is a file of"),
}


@pytest.mark.parametrize(("document", "message"), FAULTS.values(), ids=FAULTS)
def test_every_fault_is_one_line_with_file_and_entry(tmp_path, document, message):
    with pytest.raises(DataError) as raised:
        read(tmp_path, document)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(str(tmp_path / "annotations" / "instances_train2017.json"))
    assert message in line


def test_an_image_may_have_as_many_pixels_as_are_allowed(tmp_path):
    document = with_value("images", 3, "width", 2**26)
    assert read(tmp_path, document).sizes[3].prod() == 2**31


def test_a_missing_file_is_named(tmp_path):
    for file, reason in ((tmp_path / "a.json", "No such file or directory"), (tmp_path, "Is a ")):
        with pytest.raises(DataError) as raised:
            read_annotations(file)
        assert str(raised.value).startswith(f"{file} cannot be read ({reason}")
        assert str(raised.value).endswith(
            "; set data.root, data.train_annotations, data.val_annotations"
        )


def test_a_missing_file_with_a_similar_name_is_named(tmp_path):
    (tmp_path / "Instances.JSON").touch()
    with pytest.raises(DataError, match=r"instances\.json cannot be read.*/Instances\.JSON"):
        read_annotations(tmp_path / "instances.json")


def test_a_file_that_is_cut_off_is_named(tmp_path):
    text = json.dumps(TRAIN)
    for length in range(0, len(text) - 1, 7):
        file = tmp_path / f"{length}.json"
        file.write_text(text[:length])
        message = rf"{length}\.json is not JSON, or cut off \(.*\); fetch or write it again"
        with pytest.raises(DataError, match=message):
            read_annotations(file)


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00 packed", b"\xff\xd8\xff\xe0 a photo", b"[" * 10**6, b"9" * 10**4, b"<x/>"],
)
def test_a_file_of_another_kind_is_named(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not JSON, or cut off"):
        read_annotations(file)


NONSENSE = (None, True, -1, 2**70, 1e400, -0.5, "", "x", "\0", "\ud800", [], [[]], {}, [1, "2"])


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_whatever_stands_anywhere_is_read_or_named(tmp_path, value):
    places = [
        (name, number, key)
        for name in LISTS
        for number, entry in enumerate(TRAIN[name])
        for key in entry
    ]
    for name, number, key in places:
        try:
            read(tmp_path, with_value(name, number, key, value))
        except DataError as error:
            (line,) = str(error).splitlines()
            assert f"{name}[{number}]" in line or "no entry of" in line or "another entry" in line


def test_annotations_that_are_a_fifo_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json .*FIFO"):
        read_annotations(tmp_path / "a.json")
