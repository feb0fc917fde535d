"""Categories without annotations: which of them become classes, and the warnings."""

import pytest

from coco_categories import CLASSES, OBJECTS, USED, checked, data_of
from parcnet_train.data.detection.module import CocoData
from parcnet_train.errors import DataError

CHILDREN = [{**each, "supercategory": "insects"} for each in USED]


EXTRA = {
    "a root": ([{"id": 0, "name": "insects", "supercategory": "none"}, *CHILDREN], 0, "insects"),
    "a root of the same name": (
        [
            {"id": 0, "name": "cat", "supercategory": "none"},
            *({**each, "supercategory": "cat"} for each in USED),
        ],
        0,
        "cat",
    ),
    "a second one of that name": ([*USED, {"id": 91, "name": "cat"}], 91, "cat"),
    "the background": ([{"id": 0, "name": "background"}, *USED], 0, "background"),
}


@pytest.mark.parametrize(("categories", "extra", "name"), EXTRA.values(), ids=EXTRA)
def test_exporters_categories_without_annotations_are_not_classes(
    coco_folder, caplog, categories, extra, name
):
    data = data_of(coco_folder, categories)
    (line,) = checked(data, caplog)
    assert "1 of 4 categories" in line
    assert f"id {extra} '{name}'" in line
    assert data.class_names == CLASSES
    assert data.category_ids == [-1, 2, 7, 90]
    data.setup("fit")
    assert data.train_set.annotations.labels.tolist() == [1, 2, 3]
    # Labels of the images 7, 7 and 5.
    assert data.val_set.annotations.labels.tolist() == [1, 1, 3]
    assert data.val_set.annotations.category_ids[[1, 1, 3]].tolist() == [2, 2, 90]


@pytest.mark.parametrize("name", ["a root of the same name", "a second one of that name"])
def test_classes_do_not_depend_on_validation_objects(coco_folder, name):
    categories, *_ = EXTRA[name]
    data = data_of(coco_folder, categories, val=[])
    assert data.category_ids == [-1, 2, 7, 90]
    data.train_annotations.unlink()
    assert data_of_val_alone(data).category_ids == [-1, 2, 7, 90]


def data_of_val_alone(data):
    assert not data.train_annotations.exists()
    return CocoData(str(data.root), 64, 2, data.augmentation)


def test_a_supercategory_with_annotations_is_a_class(coco_folder, caplog):
    categories = [{"id": 0, "name": "insects"}, *CHILDREN]
    entry = {"image_id": 10, "category_id": 0, "bbox": [1, 1, 9, 9]}
    # Only the training set has it; the validation set has the same classes.
    data = data_of(coco_folder, categories, train=[*OBJECTS, entry])
    assert checked(data, caplog) == []
    assert data.class_names == ["background", "insects", *CLASSES[1:]]
    data.setup("fit")
    assert data.train_set.annotations.labels.tolist() == [2, 3, 4, 1]
    assert data.val_set.annotations.labels.tolist() == [2, 2, 4]


def test_num_classes_can_keep_a_supercategory(coco_folder, caplog):
    categories = [{"id": 0, "name": "insects"}, *CHILDREN]
    (line,) = checked(data_of(coco_folder, categories), caplog)
    assert "data.num_classes=4" in line
    data = data_of(coco_folder, categories, num_classes=4)
    assert data.class_names == ["background", "insects", *CLASSES[1:]]
    (line,) = checked(data, caplog)
    assert "1 of its 4 categories have no boxes" in line
    assert line.endswith(": insects")
    assert data_of(coco_folder, categories, num_classes=3).class_names == CLASSES
    with pytest.raises(DataError, match=r"data\.num_classes=5: .* has 3 categories"):
        _ = data_of(coco_folder, categories, num_classes=5).class_names


def test_category_that_is_its_own_supercategory_is_a_class(coco_folder):
    """COCO's person is one."""
    categories = [{**each, "supercategory": each["name"]} for each in USED]
    assert data_of(coco_folder, categories).class_names == CLASSES


def test_categories_without_any_class_are_refused(coco_folder):
    data = data_of(coco_folder, [{"id": 2, "name": "background"}], train=[], val=[])
    with pytest.raises(DataError, match="none of them is a class"):
        data.check_files("test")
