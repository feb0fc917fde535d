"""Tasks of a set, and names of its sets."""

import pytest

from parcnet_train.data.prepare.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSet,
    split_named,
)

BOX = AnnotatedObject("cat", (0, 0, 1, 1))
OUTLINE = AnnotatedObject("cat", (0, 0, 1, 1), ((0, 0, 1, 0, 1, 1),))


@pytest.mark.parametrize(
    ("values", "tasks"),
    [
        ({}, []),
        ({"label": "cat"}, ["classification"]),
        ({"objects": [BOX]}, ["detection"]),
        ({"objects": [BOX, OUTLINE]}, ["detection", "segmentation"]),
        ({"mask": "a.png"}, ["segmentation"]),
    ],
)
def test_tasks_follow_from_the_annotations(values, tasks):
    assert AnnotatedSet(["cat"], [AnnotatedImage("a.jpg", None, **values)]).tasks == tasks


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Train2017", "train"),
        ("valid", "val"),
        ("validation", "val"),
        ("val_2", "val"),
        ("TEST", "test"),
        ("default", None),
        ("trainees", None),
        ("", None),
    ],
)
def test_sets_have_many_names(name, split):
    assert split_named(name) == split
