"""COCO 2017 from its zip files, or from the folder that was unpacked from them."""

import json
import zipfile

import pytest

from parcnet_train.data.prepare.official.coco import prepare_coco
from parcnet_train.errors import DataError
from preparing import contents, picture

COUNTS = {"val": 1, "train": 2}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    number = 0
    for split, count in COUNTS.items():
        images = []
        for _ in range(count):
            number += 1
            name = f"{number:012d}.jpg"
            picture(root / f"{split}2017" / name, number)
            images.append({"id": number, "file_name": name, "height": 48, "width": 64})
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        file = root / "annotations" / f"instances_{split}2017.json"
        file.write_text(json.dumps(content))
    return root


@pytest.fixture
def zips(folder, tmp_path):
    target = tmp_path / "zips"
    target.mkdir()
    for name, inside in (
        ("train2017", "train2017"),
        ("val2017", "val2017"),
        ("annotations_trainval2017", "annotations"),
    ):
        with zipfile.ZipFile(target / f"{name}.zip", "w") as archive:
            for path in sorted((folder / inside).iterdir()):
                archive.write(path, f"{inside}/{path.name}")
    return target


def test_zips_and_folders_give_the_same_result(folder, zips, tmp_path):
    said = prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    assert "2 training and 1 validation images" in said
    prepare_coco(folder, tmp_path / "b", counts=COUNTS)
    prepare_coco(folder, tmp_path / "c", "symbolic", COUNTS)
    first, *others = (
        {name: content for name, (content, _) in contents(tmp_path / each).items()}
        for each in "abc"
    )
    assert len(first) == 5
    assert others == [first, first]


def test_call_is_resumed(zips, tmp_path):
    prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    before = contents(tmp_path / "a")
    (name,) = [each for each in before if each.startswith("val2017")]
    (tmp_path / "a" / name).unlink()
    prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    after = contents(tmp_path / "a")
    assert {each for each in before if before[each] != after[each]} == {name}


def test_missing_and_damaged_files_are_named(zips, tmp_path):
    with pytest.raises(DataError, match=r"lists 1 images \(expected 5,000\)"):
        prepare_coco(zips, tmp_path / "a")
    (zips / "val2017.zip").write_bytes(b"text")
    with pytest.raises(DataError, match=r"val2017\.zip: File is not a zip file; expected"):
        prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    (zips / "val2017.zip").unlink()
    with pytest.raises(DataError, match=r"contains neither val2017\.zip nor a folder val2017"):
        prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    with pytest.raises(DataError, match="it is the source, which is only read"):
        prepare_coco(zips, zips)
