"""COCO 2017 from its zip files, or from the folder that was unpacked from them."""

import json
import stat
import zipfile
from pathlib import Path

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


@pytest.mark.parametrize("outside", ["../planted.jpg", "/tmp/planted.jpg", "val2017/../../b.jpg"])
def test_names_that_lead_out_are_not_unpacked(zips, tmp_path, outside):
    with zipfile.ZipFile(zips / "val2017.zip", "a") as archive:
        archive.writestr(outside, b"planted")
    prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    assert len(contents(tmp_path / "a")) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"coco", "zips", "a"}
    assert not Path("/tmp/planted.jpg").exists()
    # Nor does the annotation lead to them.
    name = "annotations/instances_val2017.json"
    with zipfile.ZipFile(zips / "annotations_trainval2017.zip") as archive:
        files = {each: archive.read(each) for each in archive.namelist()}
    document = json.loads(files[name])
    document["images"][0]["file_name"] = outside.removeprefix("val2017/")
    with zipfile.ZipFile(zips / "annotations_trainval2017.zip", "w") as archive:
        for each, content in {**files, name: json.dumps(document)}.items():
            archive.writestr(each, content)
    with pytest.raises(DataError, match="lists 1 images"):
        prepare_coco(zips, tmp_path / "b", counts=COUNTS)


def test_a_link_in_a_zip_becomes_a_file(zips, tmp_path):
    name = f"val2017/{1:012d}.jpg"
    link = zipfile.ZipInfo(name)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(zips / "val2017.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    prepare_coco(zips, tmp_path / "a", counts=COUNTS)
    placed = tmp_path / "a" / name
    assert not placed.is_symlink()
    assert placed.read_text() == "/etc/passwd"


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 77)], ids=["encrypted", "method"])
def test_an_entry_that_cannot_be_unpacked_is_one_line(zips, tmp_path, offset, value):
    path = zips / "val2017.zip"
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value  # in the list of entries
    content[content.index(b"PK\x03\x04") + offset - 2] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"val2017\.zip: [^\n]+; expected"):
        prepare_coco(zips, tmp_path / "a", counts=COUNTS)
