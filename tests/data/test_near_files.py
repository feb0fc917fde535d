"""Hints at a similar name for a missing file."""

import unicodedata

import pytest

from parcnet_train.data.near_files import hint, near_file

NFC, NFD = (unicodedata.normalize(form, "äpfel") for form in ("NFC", "NFD"))

SIMILAR = {
    "other case": ("a.JPG", "a.jpg"),
    "case of a folder": ("IMAGES/a.jpg", "images/a.jpg"),
    "quoted": ("my%20photo.jpg", "my photo.jpg"),
    "unquoted": ("my photo.jpg", "my%20photo.jpg"),
    "backslashes": ("images\\a.jpg", "images/a.jpg"),
    "backslashes of a path": ("C:\\data\\train\\a.jpg", "a.jpg"),
    "the folder again": ("train/a.jpg", "a.jpg"),
    "the folder within itself": ("a.jpg", "train/a.jpg"),
    "a folder less": ("a.jpg", "images/a.jpg"),
    "a folder more": ("images/a.jpg", "a.jpg"),
    "beside the folder": ("images/a.jpg", "../images/a.jpg"),
    "composed": (f"{NFC}.jpg", f"{NFD}.jpg"),
    "decomposed": (f"{NFD}.jpg", f"{NFC}.jpg"),
    "other suffix": ("a.jpg", "a.png"),
    "suffix twice": ("a.png.jpg", "a.png.jpeg"),
    "white space": (" a.jpg", "a.jpg"),
    "a folder": ("Train2017", "train2017"),
}


@pytest.mark.parametrize(("name", "existing"), SIMILAR.values(), ids=SIMILAR)
def test_similar_file_name_is_found(tmp_path, name, existing):
    folder = tmp_path / "train"
    folder.mkdir()
    file = folder / existing
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    found = near_file(folder, name)
    assert found is not None
    assert found.resolve() == file.resolve()
    assert str(found) in hint(folder, name)
    assert ("slash" in hint(folder, name)) == ("\\" in name)


def test_same_name_is_preferred_to_another_suffix(tmp_path):
    for name in ("a.png", "A.jpg"):
        (tmp_path / name).touch()
    assert near_file(tmp_path, "a.jpg") == tmp_path / "A.jpg"


def test_name_without_suffix_matches_any_image(tmp_path):
    for name in ("2007.01.txt", "2007.01.JPG", "2007.png"):
        (tmp_path / name).touch()
    assert near_file(tmp_path, "2007.01") == tmp_path / "2007.01.JPG"


def test_existing_file_gives_no_hint(tmp_path):
    for name in ("a.jpg", "A.jpg"):
        (tmp_path / name).touch()
    assert near_file(tmp_path, "a.jpg") is None


@pytest.mark.parametrize("existing", ["b.jpg", "aa.jpg", "a.txt", "a.json", "a.jpg.txt"])
def test_dissimilar_file_names_are_not_found(tmp_path, existing):
    (tmp_path / existing).touch()
    assert near_file(tmp_path, "a.jpg") is None
    assert hint(tmp_path, "a.jpg") == ""


def test_missing_folder_gives_no_hint(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert hint(tmp_path / "deep" / "er", "x/a.jpg") == ""
    assert hint(tmp_path / "deep", "a.jpg") == ""
    assert hint(tmp_path, "") == ""
