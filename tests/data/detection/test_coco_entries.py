"""Invalid entries of files in COCO's format are refused."""

import numpy as np
import pytest
from pycocotools import mask

from coco_files import TRAIN, changed, read, with_value
from parcnet_train.errors import DataError

LISTS = ("images", "annotations", "categories")


def test_boxes_keep_their_position_in_the_file(tmp_path):
    annotations = read(tmp_path, TRAIN)
    boxes = [TRAIN["annotations"][each]["bbox"] for each in annotations.entries]
    assert annotations.boxes.tolist() == boxes


def test_boxes_of_any_finite_size_are_read(tmp_path):
    entry = {"image_id": 10, "category_id": 2, "bbox": [0, 0, 1e200, 1e200]}
    assert read(tmp_path, changed(annotations=[entry])).areas.tolist() == [np.inf]


def test_annotation_ids_and_outlines_are_optional(tmp_path):
    document = changed()
    for entry in document["annotations"]:
        del entry["id"]
        entry["segmentation"] = {"counts": [1, 2], "size": [3, 4]}
    assert np.array_equal(read(tmp_path, document).boxes, read(tmp_path, TRAIN).boxes)


FAULTS = {
    "nan": (
        with_value("annotations", 3, "bbox", [1, float("nan"), 3, 4]),
        r"annotations[3] (id 4, image_id 10): bbox=[1, NaN, 3, 4]: expected 4 finite numbers",
    ),
    "infinite": (
        with_value("annotations", 1, "bbox", [1, 2, float("inf"), 4]),
        "annotations[1] (id 2, image_id 30): bbox=[1, 2, Infinity, 4]: expected 4 finite",
    ),
    "negative": (
        with_value("annotations", 4, "bbox", [10, 10, 5, -1]),
        "annotations[4] (id 5, image_id 10): bbox=[10, 10, 5, -1]: expected [left, top, width, "
        "height] with a width and a height of at least 0",
    ),
    "short box": (
        with_value("annotations", 2, "bbox", [1, 2, 3]),
        "annotations[2] (id 3, image_id 20): bbox=[1, 2, 3]: expected 4 finite numbers",
    ),
    "all boxes short": (
        changed(annotations=[{**entry, "bbox": [1, 2]} for entry in TRAIN["annotations"]]),
        "annotations[0] (id 1, image_id 10): bbox=[1, 2]: expected 4 finite numbers",
    ),
    "box of words": (
        with_value("annotations", 2, "bbox", ["1", "2", "3", "4"]),
        'annotations[2] (id 3, image_id 20): bbox=["1", "2", "3", "4"]: expected 4 finite',
    ),
    "no box": (
        with_value("annotations", 2, "bbox", None),
        "annotations[2] (id 3, image_id 20): bbox=null: expected 4 finite numbers",
    ),
    "negative area": (
        with_value("annotations", 0, "area", -1.0),
        "annotations[0] (id 1, image_id 10): area=-1.0: expected an area of at least 0",
    ),
    "nan area": (
        with_value("annotations", 0, "area", float("nan")),
        "annotations[0] (id 1, image_id 10): area=NaN: expected a finite number",
    ),
    "unknown image": (
        with_value("annotations", 3, "image_id", 11),
        "annotations[3] (id 4): image_id=11: no entry of images has that id",
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
        'annotations[3] (id 4, image_id 10): category_id="cat": expected an integer',
    ),
    "same image id": (
        with_value("images", 2, "id", 30),
        "images[2]: id=30: another entry of images has the same id",
    ),
    "same category id": (
        with_value("categories", 2, "id", 7),
        "categories[2]: id=7: another entry of categories has the same id",
    ),
    "too many pixels": (
        with_value("images", 3, "width", 2**26 + 1),
        "images[3] (id 40): height=32, width=67108865: expected at most 2^31 pixels",
    ),
    "far too many pixels": (
        changed(images=[{"id": 1, "file_name": "a", "height": 2**40, "width": 2**40}]),
        "images[0] (id 1): height=1099511627776, width=1099511627776: expected at most 2^31",
    ),
    "no pixels": (
        with_value("images", 1, "height", 0),
        "images[1] (id 10): height=0, width=30: expected at least 1 pixel",
    ),
    "half a pixel": (
        with_value("images", 1, "height", 50.5),
        "images[1] (id 10): height=50.5: expected an integer",
    ),
    "missing key": (
        changed(images=[{"id": 1, "height": 3, "width": 3}]),
        "images[0] has no 'file_name'",
    ),
    "no file name": (
        with_value("images", 1, "file_name", ""),
        'images[1] (id 10): file_name="": expected a non-empty string',
    ),
    "no mapping": (
        changed(annotations=[[1, 2, 3, 4]]),
        "annotations[0]=[1, 2, 3, 4]: expected an object",
    ),
    "no images": (changed(images=[]), "the list 'images' is empty; expected"),
    "no categories": (changed(categories=[]), "the list 'categories' is empty; expected"),
    "list missing": (
        {"images": [], "annotations": []},
        "has no list 'categories'; expected an annotation file in COCO's format",
    ),
    "list of another type": (changed(annotations={}), "has no list 'annotations'; expected"),
    "results": ([{"image_id": 1, "score": 0.5}], "has no list 'images'; expected"),
}


@pytest.mark.parametrize(("document", "message"), FAULTS.values(), ids=FAULTS)
def test_invalid_entries_are_refused_in_one_line(tmp_path, document, message):
    with pytest.raises(DataError) as raised:
        read(tmp_path, document)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(str(tmp_path / "annotations" / "instances_train2017.json"))
    assert message in line


def test_image_with_the_largest_allowed_size_is_read(tmp_path):
    document = with_value("images", 3, "width", 2**26)
    assert read(tmp_path, document).sizes[3].prod() == 2**31


NONSENSE = (None, True, -1, 2**70, 1e400, -0.5, "", "x", "\0", "\ud800", [], [[]], {}, [1, "2"])


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_any_value_in_any_place_is_read_or_refused(tmp_path, value):
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


def without_boxes(segmentation):
    entry = {"image_id": 10, "category_id": 2, "segmentation": segmentation}
    return changed(annotations=[entry])


def test_missing_box_is_that_of_the_polygons(tmp_path):
    polygons = [[3.5, 20, 10, 4.25, 12, 9], [1, 30, 2, 31.5, 7, 28]]
    annotations = read(tmp_path, without_boxes(polygons))
    assert annotations.boxes.tolist() == [[1.0, 4.25, 11.0, 27.25]]
    assert annotations.areas.tolist() == [11.0 * 27.25]
    document = without_boxes(polygons)
    document["annotations"][0]["bbox"] = [1, 2, 3, 4]
    assert read(tmp_path, document).boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("is_compressed", [True, False])
def test_missing_box_is_that_of_the_run_lengths(tmp_path, is_compressed):
    pixels = np.zeros((50, 30), np.uint8)
    pixels[7:20, 5:9], pixels[40, 12] = 1, 1
    runs = mask.encode(np.asfortranarray(pixels))
    counts = runs["counts"].decode()
    if not is_compressed:
        flat = pixels.ravel(order="F")
        ends = np.flatnonzero(np.diff(flat, append=2)) + 1
        counts = np.diff(ends, prepend=0).tolist()
    annotations = read(tmp_path, without_boxes({"size": [50, 30], "counts": counts}))
    assert annotations.boxes.tolist() == [[5, 7, 8, 34]]


@pytest.mark.parametrize("outline", [[], [[1, 2, 3]], [["a", "b"]], {"counts": [1]}, 7])
def test_entry_without_box_and_valid_outline_is_refused(tmp_path, outline):
    with pytest.raises(DataError, match=r"annotations\[0\] has no 'bbox'"):
        read(tmp_path, without_boxes(outline))


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**64])
def test_huge_integers_beside_fractions_are_refused(tmp_path, value):
    with pytest.raises(DataError, match=r"annotations\[1\].*expected 4 finite numbers"):
        read(tmp_path, with_value("annotations", 1, "bbox", [0.5, value, 3, 4]))


@pytest.mark.parametrize("text", ["a\nb", "\x1b[0m", "a\0b", "\ud800"])
@pytest.mark.parametrize(("name", "key"), [("images", "file_name"), ("categories", "name")])
def test_names_with_control_characters_are_refused(tmp_path, name, key, text):
    with pytest.raises(DataError, match="without control characters") as raised:
        read(tmp_path, with_value(name, 1, key, text))
    assert str(raised.value).isprintable()
