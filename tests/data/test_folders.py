"""Listing of class folders: images, other files, and faults."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from class_folders import make_data
from parcnet_train.data.folders import class_folders, labels_of, list_images
from parcnet_train.errors import DataError

LABELS = labels_of(["ant", "bee", "cat"])


def test_classes_are_the_sorted_folders(image_folder):
    (image_folder / "train" / "README.txt").touch()
    assert class_folders(image_folder / "train") == ["ant", "bee", "cat"]
    assert make_data(image_folder).class_names == ["ant", "bee", "cat"]


def test_images_are_sorted_by_class_and_name(image_folder):
    paths, labels, _ = list_images(image_folder / "train", LABELS)
    assert [path.decode() for path in paths] == [
        f"{name}/{file}"
        for name in ("ant", "bee", "cat")
        for file in ("0.png", "1.jpg", "2.png", "3.jpg")
    ]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert labels.dtype == np.int64


def test_uppercase_suffixes_are_images_and_other_files_are_not(image_folder):
    folder = image_folder / "train" / "ant"
    (folder / "0.png").rename(folder / "0.PNG")
    (folder / "1.jpg").rename(folder / "1.JPEG")
    (folder / "notes.txt").write_text("no image")
    paths, _, _ = list_images(image_folder / "train", LABELS)
    names = ["ant/0.PNG", "ant/1.JPEG", "ant/2.png", "ant/3.jpg"]
    assert [path.decode() for path in paths[:4]] == names


def test_folders_of_operating_systems_are_not_classes(image_folder):
    for name in ("__MACOSX", "@eaDir", "lost+found"):
        folder = image_folder / "train" / name / "ant"
        folder.mkdir(parents=True)
        shutil.copy(image_folder / "train" / "ant" / "0.png", folder / "0.png")
    shutil.copytree(image_folder / "train" / "@eaDir", image_folder / "train" / "ant" / "@eaDir")
    data = make_data(image_folder)
    data.check_files("fit")
    assert data.class_names == ["ant", "bee", "cat"]
    assert len(data.make_train_set()) == 12


def test_images_of_every_readable_format_are_listed(image_folder):
    image = Image.new("RGB", (9, 8), (200, 0, 0))
    for name, kind in {
        "a.avif": "AVIF",
        "b.GIF": "GIF",
        "c.jfif": "JPEG",
        "d.jpe": "JPEG",
        "e.jp2": "JPEG2000",
        "f.ppm": "PPM",
        "g.webp": "WEBP",
        "h.Tif": "TIFF",
        "i.bmp": "BMP",
    }.items():
        image.save(image_folder / "train" / "ant" / name, kind)
    dataset = make_data(image_folder).make_train_set()
    for sample, path in enumerate(dataset.paths[4:13].tolist(), start=4):
        pixels = dataset.look(sample)
        assert pixels.shape == (8, 9, 3), path
        assert pixels[..., 0].min() > 150 > pixels[..., 1:].max(), path
    assert len(dataset) == 12 + 9


def test_images_in_nested_folders_are_sorted_by_path(image_folder):
    ant = image_folder / "train" / "ant"
    (ant / "1").mkdir()
    (ant / "z" / "y").mkdir(parents=True)
    for target in ("1/0.png", "z/y/3.jpg", "z/0.png"):
        shutil.copy(ant / "0.png", ant / target)
    paths, labels, _ = list_images(image_folder / "train", LABELS)
    expected = ["0.png", "1.jpg", "1/0.png", "2.png", "3.jpg", "z/0.png", "z/y/3.jpg"]
    assert [path.decode() for path in paths[:7]] == [f"ant/{name}" for name in expected]
    assert labels.tolist() == [0] * 7 + [1] * 4 + [2] * 4


def test_linked_folders_are_listed_once_and_loops_end(image_folder):
    ant, elsewhere = image_folder / "train" / "ant", image_folder / "elsewhere"
    shutil.copytree(ant, elsewhere)
    (ant / "a link").symlink_to(elsewhere)
    (ant / "another").symlink_to(elsewhere)
    (ant / "back").symlink_to(ant)
    paths, _, left_out = list_images(image_folder / "train", LABELS)
    names = ["0.png", "1.jpg", "2.png", "3.jpg"]
    expected = sorted([*names, *(f"a link/{name}" for name in names)])
    assert [path.decode() for path in paths[:8]] == [f"ant/{name}" for name in expected]
    assert left_out == []


def test_left_out_files_give_one_warning(image_folder, caplog):
    ant = image_folder / "train" / "ant"
    for name in ("b.heic", "a.HEIC", "x.jxl", "notes.txt", "Thumbs.db", ".DS_Store", "._0.png"):
        (ant / name).touch()
    (ant / "gone.jpg").symlink_to(ant / "nowhere.jpg")
    (ant / "self.jpg").symlink_to(ant / "self.jpg")
    os.mkfifo(ant / "fifo.png")
    (image_folder / "train" / "lost.png").touch()
    data = make_data(image_folder)
    with caplog.at_level("WARNING"):
        data.check_files("fit")
    (message,) = [record.getMessage() for record in caplog.records]
    for fact in ("2 .heic (first ant/a.HEIC)", "1 .jxl", "(first ant/fifo.png)", "lost.png"):
        assert fact in message
    assert "3 broken links" in message
    for name in ("notes", "Thumbs", "DS_Store", "._0"):
        assert name not in message
    assert len(data.make_train_set()) == 12


def test_class_folder_with_unsupported_formats_only_is_refused(image_folder):
    (image_folder / "train" / "dog").mkdir()
    (image_folder / "train" / "dog" / "a.heic").touch()
    with pytest.raises(
        DataError, match=r"train/dog contains no image .*1 \.heic \(first a\.heic\)"
    ):
        make_data(image_folder).setup("fit")


def test_root_without_class_folders_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").touch()
    with pytest.raises(DataError, match=r"data\.root: .*train contains no class folders"):
        make_data(tmp_path).setup("fit")


def test_empty_class_folder_is_refused(image_folder):
    (image_folder / "train" / "dog").mkdir()
    with pytest.raises(
        DataError, match=r"class folder .*train/dog contains no image \(\.jpg .*remove"
    ):
        make_data(image_folder).setup("fit")


def test_hidden_folders_are_not_classes(image_folder):
    (image_folder / "train" / ".cache").mkdir()
    assert class_folders(image_folder / "train") == ["ant", "bee", "cat"]


def test_link_to_the_whole_disk_is_not_followed(image_folder):
    folder = image_folder / "train"
    (folder / "ant" / "link").symlink_to("/")
    assert len(list_images(folder, labels_of(class_folders(folder))).paths) == 12


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[0m"])
def test_class_names_that_cannot_be_written_are_refused(image_folder, name):
    (image_folder / "train" / "bee").rename(image_folder / "train" / os.fsdecode(name))
    with pytest.raises(
        DataError, match=r"name of the class folder .* expected printable"
    ) as raised:
        class_folders(image_folder / "train")
    assert str(raised.value).isprintable()
