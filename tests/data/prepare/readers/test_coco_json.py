"""COCO's JSON files of Roboflow, CVAT and label-studio."""

import numpy as np
import pytest

from parcnet_train.data.prepare.shapes import draw
from parcnet_train.errors import DataError
from preparing import document, picture, read

ROBOFLOW = [
    {"id": 0, "name": "pets-x1", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets-x1"},
    {"id": 2, "name": "dog", "supercategory": "pets-x1"},
]
CVAT = [
    {"id": 1, "name": "cat", "supercategory": ""},
    {"id": 2, "name": "dog", "supercategory": ""},
]
LABEL_STUDIO = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]


def annotation(number, category=1, image=0, **values):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [4, 5, 10, 20],
        "area": 200,
        "segmentation": [],
        "iscrowd": 0,
        **values,
    }


def export(file, name, annotations, categories, first=0):
    names = [name] if isinstance(name, str) else name
    return document(
        file,
        {
            "info": {"year": "2024"},
            "licenses": [{"id": 1, "url": "", "name": ""}],
            "categories": categories,
            "images": [
                {"id": n, "file_name": each, "height": 48, "width": 64}
                for n, each in enumerate(names, first)
            ],
            "annotations": annotations,
        },
    )


def test_roboflow_has_a_file_per_set_and_an_unused_root(tmp_path):
    for folder in ("train", "valid", "test"):
        name = "a_jpg.rf.0123.jpg"
        picture(tmp_path / folder / name)
        annotations = [annotation(0, 1)] if folder == "train" else []
        export(tmp_path / folder / "_annotations.coco.json", name, annotations, ROBOFLOW)
    found = read("coco_export", tmp_path)
    assert found.classes == ["cat", "dog"]
    assert {image.name.split("/")[0]: image.split for image in found.images} == {
        "train": "train",
        "valid": "val",
        "test": "test",
    }
    (thing,) = next(image for image in found.images if image.split == "train").objects
    assert (thing.name, thing.box, thing.has_shape) == ("cat", (4, 5, 14, 25), False)


def test_cvat_polygons_and_run_lengths(tmp_path):
    picture(tmp_path / "images" / "default" / "sub" / "a.png")
    polygon = [4.0, 5.0, 14.0, 5.0, 14.0, 25.0]
    counts = [48 * 10 + 2, 3, 48 * 53 + 43]  # rows 2 to 4 of column 10
    export(
        tmp_path / "annotations" / "instances_default.json",
        "sub/a.png",
        [
            annotation(1, 1, 1, segmentation=[polygon]),
            annotation(2, 2, 1, segmentation={"size": [48, 64], "counts": counts}, iscrowd=1),
        ],
        CVAT,
        first=1,
    )
    found = read("coco_export", tmp_path)
    (image,) = found.images
    assert (image.name, image.split) == ("images/default/sub/a.png", None)
    cat, dog = image.objects
    assert cat.polygons == (tuple(polygon),)
    assert (cat.is_crowd, dog.is_crowd) == (False, True)
    expected = np.zeros((48, 64), bool)
    expected[2:5, 10] = True
    assert (draw(dog, (48, 64)) == expected).all()
    assert found.tasks == ["detection", "segmentation"]


def test_cvat_sets_by_the_names_of_the_files(tmp_path):
    for name in ("Train", "Validation"):
        picture(tmp_path / "images" / name / f"{name}.jpg")
        file = tmp_path / "annotations" / f"instances_{name}.json"
        export(file, f"{name}.jpg", [annotation(1)], CVAT)
    assert [image.split for image in read("coco_export", tmp_path).images] == ["train", "val"]


NAMES = {
    "beside": "images/0a1b2c3d-my cat.jpg",
    "windows": "images\\0a1b2c3d-my cat.jpg",
    "project": "images\\1/0a1b2c3d-my cat.jpg",
    "upload": "../../label-studio/data/media/upload/4/0a1b2c3d-my cat.jpg",
    "absolute": "/label-studio/data/media/upload/4/0a1b2c3d-my cat.jpg",
    "quoted": "images/0a1b2c3d-my%20cat.jpg",
    "original name": "images/ffffffff-original.jpg",
}


@pytest.mark.parametrize("case", NAMES)
def test_label_studio_names_its_files_in_many_ways(tmp_path, case):
    name = "original.jpg" if case == "original name" else "0a1b2c3d-my cat.jpg"
    picture(tmp_path / "images" / name)
    picture(tmp_path / "images" / "0a1b2c3e-another.jpg")
    export(tmp_path / "result.json", NAMES[case], [annotation(0, 0, ignore=0)], LABEL_STUDIO)
    found = read("label_studio", tmp_path)
    assert [image.name for image in found.images] == [f"images/{name}"]
    assert found.images[0].objects[0].name == "cat"
    assert found.classes == ["cat", "dog"]


def test_missing_images_are_counted(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    export(tmp_path / "result.json", ["a.jpg", "b.jpg", "c.jpg"], [], LABEL_STUDIO)
    with pytest.raises(DataError, match=r"do not exist: 2 \(first: b\.jpg, c\.jpg\); expected"):
        read("label_studio", tmp_path)


def test_faulty_outlines_are_counted(tmp_path):
    picture(tmp_path / "a.jpg")
    wrong = [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], {"counts": [1]}, "text"]
    annotations = [annotation(n, segmentation=each) for n, each in enumerate(wrong)]
    export(tmp_path / "x.json", "a.jpg", annotations, CVAT)
    with pytest.raises(DataError, match=r"run lengths: 4 \(first: annotations\[0\]"):
        read("coco_export", tmp_path)


def test_unclear_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="it contains no JSON file; expected"):
        read("coco_export", tmp_path)
    for name in "ab":
        export(tmp_path / f"{name}.json", "a.jpg", [annotation(1)], CVAT)
    with pytest.raises(DataError, match=r"it contains a\.json, b\.json; expected.*prepare\.input="):
        read("coco_export", tmp_path)
    picture(tmp_path / "a.jpg")
    assert len(read("coco_export", tmp_path / "a.json").images) == 1


@pytest.mark.parametrize(
    "outline",
    [
        [[0, 0, 5, 0, 5, float("inf")]],
        [[0, 0, 5, 0, 5, 10**400]],
        {"size": [48, float("inf")], "counts": [1]},
        {"size": [48, 64], "counts": [float("nan")]},
    ],
    ids=str,
)
def test_outlines_with_numbers_that_are_not_finite_are_refused(tmp_path, outline):
    picture(tmp_path / "a.jpg")
    export(tmp_path / "result.json", "a.jpg", [annotation(0, segmentation=outline)], LABEL_STUDIO)
    with pytest.raises(DataError, match="neither polygons nor run lengths: 1"):
        read("coco_export", tmp_path)
