"""JSON files of labelme 5."""

import base64
import json

import numpy as np
import pytest

from parcnet_train.data.prepare.annotated import IGNORE
from parcnet_train.data.prepare.shapes import draw
from parcnet_train.errors import DataError
from preparing import document, picture, png_in_base64, read


def shape(label, points, kind="polygon", group=None, **more):
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        **more,
    }


def labelme(root, stem, shapes, image_path=None, flags=None, data=None, write=True):
    if write:
        picture(root / f"{stem}.jpg")
    content = {
        "version": "5.5.0",
        "flags": flags or {},
        "shapes": shapes,
        "imagePath": image_path or f"{stem}.jpg",
        "imageData": data,
        "imageHeight": 48,
        "imageWidth": 64,
    }
    return document(root / f"{stem}.json", content)


TRIANGLE = [[10.5, 4], [20, 4], [20, 30]]


def test_polygons_rectangles_and_circles(tmp_path):
    labelme(
        tmp_path,
        "a",
        [
            shape("cat", TRIANGLE),
            shape("dog", [[30, 20], [12, 2]], "rectangle"),  # dragged to the upper left
            shape("dog", [[20, 20], [26, 28]], "circle"),  # radius 10
            shape("dog", [[5, 5]], "point"),
        ],
    )
    found = read("labelme", tmp_path)
    assert found.classes == ["cat", "dog"]
    assert found.tasks == ["detection", "segmentation"]
    (image,) = found.images
    assert (image.name, image.size, image.split) == ("a.jpg", (48, 64), None)
    boxes = [each.box for each in image.objects]
    assert boxes[:2] == [(10.5, 4, 20, 30), (12, 2, 30, 20)]
    assert boxes[2] == pytest.approx((10, 10, 30, 30))
    assert draw(image.objects[2], (48, 64)).sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_mask_fills_its_box(tmp_path):
    mask = np.array([[0, 255, 255], [255, 255, 0]], np.uint8)
    labelme(tmp_path, "a", [shape("cat", [[7, 5], [9, 6]], "mask", mask=png_in_base64(mask))])
    (thing,) = read("labelme", tmp_path).images[0].objects
    assert thing.box == (7, 5, 10, 7)
    expected = np.zeros((48, 64), bool)
    expected[5:7, 7:10] = mask > 0
    assert (draw(thing, (48, 64)) == expected).all()


def test_lines_are_10_pixels_wide(tmp_path):
    labelme(tmp_path, "a", [shape("crack", [[5, 20], [55, 20]], "linestrip")])
    (thing,) = read("labelme", tmp_path).images[0].objects
    assert thing.box[3] - thing.box[1] == pytest.approx(10, abs=1)
    assert draw(thing, (48, 64)).sum() == pytest.approx(500, rel=0.1)


def test_shapes_of_a_group_are_one_object(tmp_path):
    far = [[40, 40], [50, 40], [50, 47]]
    labelme(
        tmp_path,
        "a",
        [shape("cat", TRIANGLE, group=1), shape("dog", far, group=1), shape("cat", far, group=1)],
    )
    cat, dog = read("labelme", tmp_path).images[0].objects
    assert (cat.name, dog.name) == ("cat", "dog")
    assert cat.box == (10.5, 4, 50, 47)
    assert len(cat.polygons) == 2


def test_ignored_and_background_shapes_are_no_classes(tmp_path):
    shapes = [shape(name, TRIANGLE) for name in (IGNORE, "_background_", "cat")]
    labelme(tmp_path, "a", shapes)
    found = read("labelme", tmp_path)
    assert found.classes == ["cat"]
    assert len(found.images[0].objects) == 3  # masks show them all


def test_image_paths_of_windows_and_sets_in_folders(tmp_path):
    picture(tmp_path / "images" / "b.jpg")
    labelme(tmp_path / "train", "b", [shape("cat", TRIANGLE)], "..\\images\\b.jpg", write=False)
    (image,) = read("labelme", tmp_path).images
    assert (image.name, image.split) == ("images/b.jpg", "train")


def test_embedded_image_stands_for_a_missing_one(tmp_path):
    content = picture(tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").unlink()
    data = base64.b64encode(content).decode()
    labelme(tmp_path, "a", [shape("cat", TRIANGLE)], data=data, write=False)
    (image,) = read("labelme", tmp_path).images
    assert image.file is None
    assert image.annotation == tmp_path / "a.json"


def test_only_flag_is_the_class_of_an_image(tmp_path):
    labelme(tmp_path, "a", [], flags={"cat": True, "dog": False})
    labelme(tmp_path, "b", [], flags={"cat": True, "dog": True})
    found = read("labelme", tmp_path)
    assert [image.label for image in found.images] == ["cat", None]
    assert (found.classes, found.tasks) == (["cat"], ["classification"])


FAULTS = {
    "without a label": shape("", TRIANGLE),
    "not complete": shape("cat", [[1, 2], [3, 4]]),
    "unknown kind": shape("cat", TRIANGLE, "cuboid"),
    "without pixels": shape("cat", [[7, 5], [9, 6]], "mask", mask="no base64"),
    "no numbers": shape("cat", [[1, 2], [3, 4], [5, float("nan")]]),
}


@pytest.mark.parametrize("problem", FAULTS)
def test_faulty_shapes_are_counted_and_named(tmp_path, problem):
    for stem in "ab":
        labelme(tmp_path, stem, [shape("cat", TRIANGLE), FAULTS[problem]])
    with pytest.raises(DataError) as caught:
        read("labelme", tmp_path)
    (line,) = str(caught.value).splitlines()
    assert problem in line
    assert ": 2 (first: a.json, shape 1" in line


def test_missing_images_and_other_files(tmp_path):
    with pytest.raises(DataError, match="contains no JSON file of labelme"):
        read("labelme", tmp_path)
    document(tmp_path / "coco.json", {"images": []})
    labelme(tmp_path, "a", [], write=False)
    with pytest.raises(DataError, match=r"without their image: 1 \(first: a\.json \(a\.jpg\)\)"):
        read("labelme", tmp_path)
    (tmp_path / "b.json").write_text('{"shapes": [')
    with pytest.raises(DataError, match=r"b\.json is not JSON, or is truncated"):
        read("labelme", tmp_path)


@pytest.mark.parametrize("size", [(10**6, 10**6), (-5, 64), (0, 64), (True, 64)])
def test_no_memory_is_taken_for_an_absurd_size(tmp_path, size):
    file = labelme(tmp_path, "a", [shape("cat", [[1, 1], [20, 20]], "line")])
    content = json.loads(file.read_text()) | {"imageHeight": size[0], "imageWidth": size[1]}
    document(file, content)
    with pytest.raises(DataError, match=r"without pixels in the image: 1 \(first: a\.json"):
        read("labelme", tmp_path)


def test_circle_of_infinite_radius_is_refused(tmp_path):
    labelme(tmp_path, "a", [shape("cat", [[-1e308, -1e308], [1e308, 1e308]], "circle")])
    with pytest.raises(DataError, match="coordinates that are no numbers: 1"):
        read("labelme", tmp_path)


@pytest.mark.parametrize("group", [[1], {"a": 1}])
def test_group_that_is_no_number_is_no_group(tmp_path, group):
    labelme(tmp_path, "a", [shape("cat", TRIANGLE, group=group)] * 2)
    assert len(read("labelme", tmp_path).images[0].objects) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        shape("cat", TRIANGLE, ["polygon"]),
        shape("cat", TRIANGLE, {"a": 1}),
        shape("cat", [*TRIANGLE, [10**400, 1]]),
    ],
    ids=["list", "mapping", "huge integer"],
)
def test_shapes_of_wrong_types_are_refused(tmp_path, wrong):
    labelme(tmp_path, "a", [wrong])
    with pytest.raises(DataError, match=r"not complete or of an unknown kind: 1 \(first: a\.json"):
        read("labelme", tmp_path)
