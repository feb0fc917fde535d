"""Sets of a source and what is drawn from them."""

import pytest

from faults import is_like
from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedSet
from parcnet_train.data.prepare.splitting import assign
from parcnet_train.errors import ConfigError, DataError
from preparing import picture, pixels, splitting


def labeled(*splits, names=None):
    names = names or [f"{number}.jpg" for number in range(len(splits))]
    images = [
        AnnotatedImage(name, None, split=split, label="cat")
        for name, split in zip(names, splits, strict=True)
    ]
    return AnnotatedSet(["cat"], images)


def splits_of(found, **values):
    assign(found, splitting(**values), "prepare.input=x")
    return [image.split for image in found.images]


def test_own_sets_are_kept():
    own = ["train"] * 4 + ["val"] + ["test"]
    assert splits_of(labeled(*own)) == own
    assert sorted(splits_of(labeled(*own), keep=False)) != sorted(own)


def test_missing_validation_set_comes_from_the_training_images():
    found = splits_of(labeled(*["train"] * 8, "test", "test"))
    assert found[8:] == ["test", "test"]
    assert sorted(found[:8]) == ["train"] * 6 + ["val"] * 2


def test_images_without_a_set_are_split():
    found = splits_of(labeled(*[None] * 8, "test"), test=0.25)
    assert sorted(found[:8]) == ["train"] * 6 + ["val"] * 2
    assert (
        sorted(splits_of(labeled(*[None] * 8), test=0.25))
        == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    )


def test_some_images_without_a_set_are_refused():
    with pytest.raises(DataError, match=r"none of the source's sets: 2 .*split\.keep=false"):
        splits_of(labeled("train", "val", None, None))


def test_shares_must_leave_a_training_set():
    with pytest.raises(ConfigError, match="nothing is left for the training"):
        splits_of(labeled(None), val=0.5, test=0.5)
    with pytest.raises(DataError, match="it has no training images"):
        splits_of(labeled("val", "test"))


def test_groups_and_empty_sets():
    names = [f"patient{number // 4}_{number}.jpg" for number in range(16)]
    found = splits_of(labeled(*[None] * 16, names=names), group_by=r"patient\d+")
    assert {found[start : start + 4].count("val") for start in range(0, 16, 4)} == {0, 4}
    with pytest.raises(DataError, match=r"no image is left for val: 16 images form 1 groups"):
        splits_of(labeled(*[None] * 16, names=names), group_by="patient")


def test_too_few_images_of_each_class_are_named():
    found = labeled(*[None] * 20)
    for number, image in enumerate(found.images):
        image.label = f"class{number // 2}"
    found.classes = sorted({image.label for image in found.images})
    with pytest.raises(DataError) as caught:
        splits_of(found, val=0.2)
    assert is_like(str(caught.value), "left for val: … 10 classes … 2 images … Fix: … above 0.25")
    assert "val" in splits_of(found, val=0.26)


@pytest.mark.parametrize("count", [6, 7, 30, 601])
def test_suggested_share_leaves_an_image(count):
    found = labeled(*[None] * count)
    with pytest.raises(DataError) as caught:
        splits_of(found, val=1e-5)
    share = float(str(caught.value).rpartition("above ")[2])
    assert 0.5 < count * share < 0.6
    assert "val" in splits_of(labeled(*[None] * count), val=share)


def test_near_duplicates_stay_on_one_side(tmp_path):
    images = []
    for number in range(12):
        path = picture(tmp_path / f"{number}.png", number // 3)  # three copies of each
        if number % 3:
            image = pixels(number // 3).astype(int) + number % 3
            picture(path, image=image.clip(0, 255).astype("uint8"))
        images.append(AnnotatedImage(path.name, path, label="cat"))
    found = splits_of(AnnotatedSet(["cat"], images), near_duplicates=True)
    assert {found[start : start + 3].count("val") for start in range(0, 12, 3)} == {0, 3}
