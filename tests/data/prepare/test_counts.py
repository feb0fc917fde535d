"""Numbers of a prepared set."""

from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedObject, AnnotatedSet
from parcnet_train.data.prepare.counts import count


def boxed(split, *names):
    things = [AnnotatedObject(name, (0, 0, 1, 1)) for name in names]
    return AnnotatedImage("a", None, split=split, objects=things)


def test_objects_and_images_are_counted_per_set_and_class():
    images = [
        boxed("train", "cat", "cat", "dog"),
        boxed("train"),
        boxed("val", "dog", "__ignore__"),
    ]
    counts = count(AnnotatedSet(["cat", "dog", "cow"], images), "detection")
    assert counts.rows() == [
        ["class", "train images", "train objects", "val images", "val objects"],
        ["cat", "1", "2", "0", "0"],
        ["dog", "1", "1", "1", "1"],
        ["cow", "0", "0", "0", "0"],
        ["all", "2", "3", "1", "1"],
    ]
    values = counts.as_values()
    assert values["images"] == {"train": 2, "val": 1}
    assert values["objects_of_class"]["train"] == {"cat": 2, "dog": 1, "cow": 0}


def test_labels_have_no_objects():
    images = [AnnotatedImage("a", None, split="train", label="cat")] * 1200
    counts = count(AnnotatedSet(["cat"], images), "classification")
    assert counts.rows() == [["class", "train images"], ["cat", "1,200"], ["all", "1,200"]]
    assert counts.as_values()["objects_of_class"] == {}
