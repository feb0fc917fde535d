"""YOLO's text files of Ultralytics, Roboflow, CVAT, labelImg and label-studio."""

import itertools
import math

import pytest

from faults import is_like
from parcnet_train.errors import DataError
from preparing import picture, read, text

BOX = "1 0.5 0.25 0.5 0.5\n"


def labeled(root, image, lines, labels=None):
    picture(root / image)
    labels = labels or image.replace("images", "labels").rsplit(".", 1)[0] + ".txt"
    return text(root / labels, lines)


def test_ultralytics_with_names_by_index(tmp_path):
    text(
        tmp_path / "data.yaml",
        "path: .\ntrain: images/train\nval: [images/val, images/more]\ntest: # optional\n"
        "names:\n  0: cat\n  1: dog\n",
    )
    labeled(tmp_path, "images/train/a.jpg", BOX + "0 0.1 0.1 0.1 0.1\n\n")
    labeled(tmp_path, "images/val/b.png", BOX)
    picture(tmp_path / "images/more/c.jpg")  # no labels: it shows nothing
    found = read("yolo", tmp_path)
    assert found.classes == ["cat", "dog"]
    assert [(image.name, image.split) for image in found.images] == [
        ("images/train/a.jpg", "train"),
        ("images/val/b.png", "val"),
        ("images/more/c.jpg", "val"),
    ]
    assert [len(image.objects) for image in found.images] == [2, 1, 0]
    assert found.images[0].objects[0].box == (0.25, 0.0, 0.75, 0.5)
    assert found.images[0].objects[0].name == "dog"
    assert all(image.is_relative for image in found.images)


@pytest.mark.parametrize(
    ("shape", "line"),
    [([2, 2], "0.1 0.2 0.3 0.4"), ([3, 3], "0.1 0.2 2 0 0 0 0.3 0.4 1"), ([17, 2], "0 0 " * 17)],
    ids=str,
)
def test_lines_with_keypoints_are_boxes(tmp_path, shape, line):
    text(tmp_path / "data.yaml", f"train: images\nnames: [cat, dog]\nkpt_shape: {shape}\n")
    file = labeled(tmp_path, "images/a.jpg", f"{BOX.strip()} {line}\n{BOX}")
    found = read("yolo", tmp_path)
    assert found.tasks == ["detection"]
    assert [each.box for each in found.images[0].objects] == [(0.25, 0.0, 0.75, 0.5)] * 2
    text(file, "1 0.1 0.1 0.9 0.1 0.9 0.9\n")
    numbers = math.prod(shape)
    with pytest.raises(DataError) as caught:
        read("yolo", tmp_path)
    assert is_like(
        str(caught.value),
        "lines of labels with a wrong number of numbers: 1 (first: labels/a.txt:1); expected 5 or "
        f"{5 + numbers}, since kpt_shape gives {numbers} to the keypoints of an object",
    )


@pytest.mark.parametrize("shape", ["17", "[a, b]", "[0, 2]", "[3, 17]", "[1, 2, 3]", "[true, 2]"])
def test_shape_of_keypoints_is_checked(tmp_path, shape):
    text(tmp_path / "data.yaml", f"train: images\nnames: [cat, dog]\nkpt_shape: {shape}\n")
    labeled(tmp_path, "images/a.jpg", BOX)
    with pytest.raises(DataError) as caught:
        read("yolo", tmp_path)
    assert is_like(
        str(caught.value), "data.yaml: kpt_shape: expected [N, 2] or [N, 3] with N > 0 keypoints"
    )


def test_roboflow_with_paths_from_elsewhere(tmp_path):
    text(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cat', 'dog']\nroboflow:\n  workspace: mine\n",
    )
    for folder in ("train", "valid", "test"):
        labeled(tmp_path, f"{folder}/images/a_jpg.rf.12.jpg", BOX)
    found = read("yolo", tmp_path)
    assert [image.split for image in found.images] == ["train", "val", "test"]


def test_lists_of_images(tmp_path):
    text(tmp_path / "coco.yaml", "path: .\ntrain: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    text(tmp_path / "train.txt", "./images/a.jpg\nimages/b.jpg\n")
    text(tmp_path / "val.txt", f"{tmp_path}/images/c.jpg\n")
    for stem in "abc":
        labeled(tmp_path, f"images/{stem}.jpg", BOX)
    found = read("yolo", tmp_path / "coco.yaml")
    assert [(image.name[-5], image.split) for image in found.images] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "val"),
    ]


def test_cvat_yolo_1_1(tmp_path):
    text(
        tmp_path / "obj.data",
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    text(tmp_path / "obj.names", "cat\ndog\n")
    text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    labeled(tmp_path, "obj_train_data/a.jpg", BOX, "obj_train_data/a.txt")
    found = read("yolo", tmp_path)
    assert found.classes == ["cat", "dog"]
    (image,) = found.images
    assert (image.name, image.split, len(image.objects)) == ("obj_train_data/a.jpg", "train", 1)


def test_labelimg_and_label_studio_have_a_list_of_classes(tmp_path):
    text(tmp_path / "classes.txt", "cat\ndog\n")
    labeled(tmp_path, "images/a.jpg", BOX)
    found = read("yolo", tmp_path)
    assert (found.classes, found.images[0].split) == (["cat", "dog"], None)
    assert found.images[0].objects[0].name == "dog"


def test_polygons(tmp_path):
    text(tmp_path / "classes.txt", "cat\n")
    labeled(tmp_path, "images/a.jpg", "0 0.1 0.2 0.5 0.2 0.5 0.75\n")
    (thing,) = read("yolo", tmp_path).images[0].objects
    assert thing.box == (0.1, 0.2, 0.5, 0.75)
    assert thing.polygons == ((0.1, 0.2, 0.5, 0.2, 0.5, 0.75),)


def test_last_folder_named_images_has_the_labels_beside_it(tmp_path):
    text(tmp_path / "classes.txt", "cat\ndog\n")
    labeled(tmp_path, "images/day/images/a.jpg", BOX, "images/day/labels/a.txt")
    assert len(read("yolo", tmp_path).images[0].objects) == 1


FAULTS = {
    "0 0.1 0.1 0.1\n": "wrong number of numbers",
    "0 0.5 0.5 0.5 0.5 0.9\n": "wrong number of numbers",  # with a confidence
    "cat 0.1 0.1 0.1 0.1\n": "are not numbers",
    "2 0.1 0.1 0.1 0.1\n": "classes that have no name",
    "0.5 0.1 0.1 0.1 0.1\n": "classes that have no name",
    "0 100 20 30 30\n": "no shares of the image",
    "0 nan 0.1 0.1 0.1\n": "wrong number of numbers",
}


@pytest.mark.parametrize("line", FAULTS)
def test_faulty_lines_are_counted_and_named(tmp_path, line):
    text(tmp_path / "classes.txt", "cat\ndog\n")
    for stem in "ab":
        labeled(tmp_path, f"images/{stem}.jpg", BOX + line)
    with pytest.raises(DataError) as caught:
        read("yolo", tmp_path)
    (message,) = str(caught.value).splitlines()
    assert FAULTS[line] in message
    assert ": 2 (first: labels/a.txt:2" in message


def test_missing_folders_and_listed_images_are_named(tmp_path):
    text(tmp_path / "data.yaml", "train: images\nval: nowhere\ntest: test.txt\nnames: [cat]\n")
    text(tmp_path / "test.txt", "images/b.jpg\n")
    labeled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError) as caught:
        read("yolo", tmp_path)
    assert "do not exist: 1 (first: val: nowhere)" in str(caught.value)
    assert "images of test.txt that do not exist: 1 (first: images/b.jpg)" in str(caught.value)


def test_names_with_a_gap_are_refused(tmp_path):
    text(tmp_path / "data.yaml", "names: {1: cat, 2: dog}\n")
    with pytest.raises(DataError, match="expected 0, 1, 2"):
        read("yolo", tmp_path)


def test_unknown_classes_can_be_given(tmp_path):
    labeled(tmp_path, "images/a.jpg", BOX)
    with pytest.raises(DataError, match=r"names of the classes are unknown.*prepare\.classes="):
        read("yolo", tmp_path)
    assert read("yolo", tmp_path, classes=["x", "y"]).images[0].objects[0].name == "y"


def test_set_without_any_labels_is_refused(tmp_path):
    text(tmp_path / "classes.txt", "cat\n")
    picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match="none of its 1 images has a file of labels"):
        read("yolo", tmp_path)


def test_two_descriptions_are_refused_unless_one_is_data_yaml(tmp_path):
    labeled(tmp_path, "images/a.jpg", BOX)
    for name in ("a", "b"):
        text(tmp_path / f"{name}.yaml", "train: images\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=r"a\.yaml, b\.yaml all describe a set"):
        read("yolo", tmp_path)
    text(tmp_path / "data.yaml", "train: images\nnames: [cat, dog]\n")
    assert len(read("yolo", tmp_path).images) == 1


def test_labels_without_an_image_are_reported(tmp_path, caplog):
    text(tmp_path / "labels" / "classes.txt", "cat\ndog\n")
    labeled(tmp_path, "images/a.jpg", BOX)
    text(tmp_path / "labels" / "b.txt", BOX)
    assert len(read("yolo", tmp_path).images) == 1
    assert "1 files of labels have no image and are left out (first: labels/b.txt)" in caplog.text


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in itertools.pairwise("abcdefghijkl")
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [cat]\ndate: 2024-99-99\n", "data.yaml is not YAML"),
        ("names: " + "[" * 5000, "data.yaml is not YAML"),
        (LAUGHS + "names: [*l]\n", r"names\[0\] is a list or a mapping"),
        (LAUGHS + "names: [cat, dog]\ntrain: [*l]\n", "that are no texts: 1"),
        ("names: {0: cat, one: dog}\n", "names has the keys"),
        ('names: "a\\0b"\n', "cannot be read"),
    ],
    ids=["date", "deep", "anchors in names", "anchors in paths", "mixed keys", "null character"],
)
def test_hostile_yaml_is_refused(tmp_path, content, message):
    text(tmp_path / "data.yaml", content)
    labeled(tmp_path, "images/train/a.jpg", BOX)
    with pytest.raises(DataError, match=message):
        read("yolo", tmp_path)
