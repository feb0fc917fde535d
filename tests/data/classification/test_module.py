import shutil

import numpy as np
import pytest
import torch

from class_folders import UNREADABLE, fitted, make_data, save
from parcnet_train.errors import DataError
from running import configure


def test_labels_match_the_training_set_if_validation_lacks_a_class(image_folder):
    shutil.rmtree(image_folder / "val" / "ant")
    assert fitted(image_folder).val_set.labels.tolist() == [1, 1, 2, 2]


def test_both_sets_contain_all_images(image_folder):
    data = fitted(image_folder)
    assert (len(data.train_set), len(data.val_set)) == (12, 6)


@pytest.mark.parametrize("split", ["train", "val"])
def test_check_and_training_refuse_the_same_folders(image_folder, split):
    (image_folder / split / "bee" / "deep").mkdir()
    for path in (image_folder / split / "bee").glob("*.*"):
        path.unlink()
    for attempt in (lambda data: data.check_files("fit"), lambda data: data.setup("fit")):
        with pytest.raises(DataError, match=rf"data\.root: .*/{split}/bee contains no image"):
            attempt(make_data(image_folder))


def test_missing_root_is_reported(tmp_path):
    data = make_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.root: .*nowhere/train does not exist; expected"):
        data.setup("fit")


def test_missing_training_folder_is_reported_if_only_validation_exists(image_folder):
    shutil.rmtree(image_folder / "train")
    with pytest.raises(DataError, match=r"train does not exist.*set data\.root, data\.train_dir"):
        make_data(image_folder).setup("fit")


@pytest.mark.parametrize("action", ["fit", "check"])
def test_check_refuses_an_empty_class_folder(image_folder, action):
    (image_folder / "train" / "dog").mkdir()
    arguments = ["data=imagefolder", f"data.root={image_folder}", f"action={action}"]
    (fault,) = configure(arguments)[1]
    assert f"{image_folder}/train/dog contains no image" in fault


@pytest.mark.parametrize("action", ["fit", "check"])
def test_images_in_both_sets_give_a_warning(image_folder, caplog, action):
    arguments = ["data=imagefolder", f"data.root={image_folder}", f"action={action}"]
    assert configure(arguments)[1] == []
    assert caplog.messages == []
    assert configure([*arguments, "data.val_dir=train"])[1] == []
    folder = image_folder / "train"
    assert caplog.messages[0].startswith(f"{folder} contains 12 of the 12 images of {folder}")
    caplog.clear()
    shutil.copy(folder / "cat" / "0.png", image_folder / "val" / "cat")
    assert configure(arguments)[1] == []
    (line,) = caplog.messages
    assert line.startswith(f"{folder} contains 1 of the 6 images of {image_folder}/val")
    assert "cat/0.png" in line


def test_image_in_two_classes_gives_a_warning(image_folder, caplog):
    shutil.copy(image_folder / "val" / "cat" / "0.png", image_folder / "val" / "ant" / "0.png")
    make_data(image_folder).check_files("test")
    (line,) = caplog.messages
    assert line.startswith(f"{image_folder}/val contains copies of images")
    assert "ant/0.png and cat/0.png" in line


def test_message_about_missing_folder_suggests_similar_name(image_folder):
    (image_folder / "val").rename(image_folder / "VAL")
    with pytest.raises(DataError, match=r"val does not exist, but .*/VAL exists"):
        make_data(image_folder).check_files("fit")


def test_class_missing_in_the_training_set_is_refused(image_folder):
    (image_folder / "val" / "ant").rename(image_folder / "val" / "wasp")
    with pytest.raises(DataError, match=r"val/wasp: this class does not occur in the training set"):
        make_data(image_folder).setup("fit")


def test_wrong_num_classes_is_refused(image_folder):
    assert len(make_data(image_folder, num_classes=3).class_names) == 3
    expected = r"data\.num_classes=1000: .* has 3 classes; .*data\.num_classes=null"
    with pytest.raises(DataError, match=expected):
        make_data(image_folder, num_classes=1000).setup("fit")


def test_folders_can_be_renamed(image_folder):
    (image_folder / "train").rename(image_folder / "first")
    (image_folder / "val").rename(image_folder / "second")
    data = fitted(image_folder, train_dir="first", val_dir="second")
    assert (len(data.train_set), len(data.val_set)) == (12, 6)


def test_home_folder_is_expanded(image_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(image_folder.parent))
    assert len(make_data(f"~/{image_folder.name}").class_names) == 3


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_image_is_skipped_and_counted(image_folder, content):
    (image_folder / "val" / "bee" / "0.png").write_bytes(content)
    data = fitted(image_folder, batch_size=3, on_error="skip")
    first, second = data.val_dataloader()
    assert (first.labels.tolist(), first.skipped.item()) == ([0, 0, -1], 1)
    assert (second.labels.tolist(), second.skipped.item()) == ([1, 2, 2], 0)
    assert first.images.flatten(1).any(dim=1).tolist() == [True, True, False]


def test_image_with_too_many_pixels_raises_or_is_skipped(image_folder):
    # Three of the six validation images have 40x56 pixels, the other three 64x48.
    data = fitted(image_folder, max_pixels=40 * 56)
    with pytest.raises(
        DataError, match=r"ant/1\.jpg .*48x64.*data\.max_pixels=2240.*on_error=skip"
    ):
        list(data.val_dataloader())
    data = fitted(image_folder, max_pixels=40 * 56, on_error="skip")
    assert sum(batch.skipped.item() for batch in data.val_dataloader()) == 3


def test_batch_of_unreadable_images_is_refused(image_folder):
    for path in (image_folder / "val" / "bee").iterdir():
        path.write_bytes(b"")
    loader = fitted(image_folder, on_error="skip").val_dataloader()
    with pytest.raises(DataError, match="all 2 images of a batch are unreadable"):
        list(loader)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "webp", "tif"])
def test_images_are_rgb(tmp_path, extension):
    red = np.zeros((40, 50, 3), np.uint8)
    red[..., 0] = 255
    for split in ("train", "val"):
        for name in ("red", "scarlet"):
            save(red, tmp_path / split / name / f"0.{extension}")
    data = fitted(tmp_path, batch_size=2)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        (batch,) = loader
        assert batch.images[:, 0].min() >= 250
        assert batch.images[:, 1:].max() <= 5


def test_single_class_is_refused(tmp_path):
    save(np.zeros((40, 50, 3), np.uint8), tmp_path / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match="has only one class; expected two or more"):
        _ = fitted(tmp_path).class_names


def test_batches_are_uint8_of_the_input_size(image_folder):
    data = fitted(image_folder, image_size=(24, 40), batch_size=5)
    for loader, count in ((data.train_dataloader(), 3), (data.val_dataloader(), 2)):
        batches = list(loader)
        assert [batch.images.shape for batch in batches] == [(5, 3, 24, 40)] * count
        assert all(batch.images.dtype == torch.uint8 for batch in batches)
        channels_last = torch.channels_last
        assert all(b.images.is_contiguous(memory_format=channels_last) for b in batches)


def test_validation_set_alone_can_be_used(image_folder):
    shutil.rmtree(image_folder / "train")
    data = make_data(image_folder, num_classes=3)
    data.setup("validate")
    labels = torch.cat([batch.labels for batch in data.val_dataloader()])
    assert data.class_names == ["ant", "bee", "cat"]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_validation_does_not_list_training_images(image_folder):
    data = make_data(image_folder)
    data.setup("validate")
    assert not hasattr(data, "train_set")


def with_test_set(root):
    """Copy the validation set of class folders as a test set, without one of its images."""
    shutil.copytree(root / "val", root / "test")
    (root / "test" / "ant" / "0.png").unlink()
    return root


def test_test_split_is_evaluated_instead_of_validation_set(image_folder):
    data = make_data(with_test_set(image_folder), split="test")
    data.check_files("test")
    data.setup("validate")
    assert data.val_set.folder == image_folder / "test"
    assert len(data.val_set) == 5
    found = data.fingerprint()
    assert (found["train_images"], found["test_images"]) == (None, 5)
    assert "val_images" not in found
    shutil.copytree(image_folder / "test", image_folder / "other")
    other = make_data(image_folder, split="test", test_dir="other")
    other.setup("validate")
    assert other.val_set.folder == image_folder / "other"


def test_classes_of_test_split_are_those_of_training_set(image_folder):
    with_test_set(image_folder)
    shutil.rmtree(image_folder / "test" / "bee")
    assert make_data(image_folder, split="test").class_names == ["ant", "bee", "cat"]
    shutil.rmtree(image_folder / "train")
    assert make_data(image_folder, split="test").class_names == ["ant", "bee", "cat"]
    shutil.rmtree(image_folder / "val")
    assert make_data(image_folder, split="test").class_names == ["ant", "cat"]


def test_missing_test_split_is_refused(image_folder):
    with pytest.raises(DataError, match=r"test does not exist.*data\.test_dir"):
        make_data(image_folder, split="test").check_files("test")


def test_images_shared_by_training_and_test_split_give_warning(image_folder, caplog):
    shutil.copytree(image_folder / "train", image_folder / "test")
    with caplog.at_level("WARNING"):
        make_data(image_folder, split="test").check_files("fit")
    assert "12 of the 12 images of" in caplog.text
    assert "test with the same name" in caplog.text
