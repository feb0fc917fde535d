import pytest

from packing import stored
from parcnet_train.data.stores import remote


@pytest.fixture
def root(image_folder, monkeypatch, tmp_path):
    return stored(image_folder, "paths", monkeypatch, tmp_path)


def test_parts_are_those_of_pathlib(root):
    path = root / "train" / "ant/0.png"
    assert str(path) == "memory://paths/train/ant/0.png"
    assert (path.name, path.stem, path.suffix) == ("0.png", "0", ".png")
    assert path.parent == root / "train/ant"
    assert root / "train/../val" == root / "val"
    assert str(root / "/elsewhere/a.png") == "/elsewhere/a.png"


def test_files_and_folders_are_told_apart(root, image_folder):
    for name in ("", "train", "train/ant", "train/ant/0.png", "nothing", "train/an"):
        path, local = root / name, image_folder / name
        assert (path.is_dir(), path.is_file()) == (local.is_dir(), local.is_file())
        assert path.exists() == local.exists()
    listed = [(each.name, each.is_dir()) for each in (root / "train/ant").entries()]
    assert listed == [(path.name, False) for path in sorted((image_folder / "train/ant").iterdir())]
    assert [path.name for path in (root / "train/ant").glob("*.png")] == ["0.png", "2.png"]


def test_size_is_that_of_the_file_and_time_changes_with_the_version(
    root, image_folder, monkeypatch, tmp_path
):
    name = "train/ant/0.png"
    first = (root / name).stat()
    assert first.st_size == (image_folder / name).stat().st_size
    monkeypatch.setattr(remote, "version_of", lambda entry: b"another")
    other = stored(image_folder, "paths", monkeypatch, tmp_path)
    assert (other / name).stat().st_mtime_ns != first.st_mtime_ns


@pytest.mark.parametrize(
    ("name", "error"), [("nothing", FileNotFoundError), ("train/ant/0.png", NotADirectoryError)]
)
def test_listing_of_what_is_no_folder_is_an_error(root, name, error):
    with pytest.raises(error):
        list((root / name).entries())
