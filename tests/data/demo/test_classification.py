import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.data.demo import classification as demo
from parcnet_train.data.demo.classification import DigitsData, write_digits
from running import configure


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache") / "below" / "digits"
    write_digits(root)
    return root


def images(root):
    return sorted(root.glob("*/*/*.png"))


def interrupt_after(monkeypatch, number, event):
    """Call `event` instead of writing the image file of that number."""
    write, left = Path.write_bytes, [number]

    def interrupted(path, content):
        left[0] -= 1
        if left[0] == 0:
            event()
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)


def test_demo_data_choose_the_recipe_demo_unless_another_is_typed():
    values, faults = configure([])
    assert faults == []
    assert values["choices"]["recipe"] == "demo"
    assert values["recipe"]["epochs"] == 8
    assert values["recipe"]["multi_scale"]["largest"] == 1.0
    values, faults = configure(["recipe=cifar10_30e"])
    assert faults == []
    assert (values["choices"]["recipe"], values["recipe"]["epochs"]) == ("cifar10_30e", 30)


@pytest.mark.parametrize(
    ("task", "data", "recipe", "epochs"),
    [
        ("classification", "imagenet", "imagenet_300e", 300),
        ("detection", "coco", "coco_200e", 200),
        ("segmentation", "voc", "voc_50e", 50),
    ],
)
def test_real_data_undo_the_recipe_demo(task, data, recipe, epochs):
    values, _ = configure([f"task={task}", f"data={data}", "data.root=/data"])
    assert values["choices"]["recipe"] == recipe
    assert values["recipe"]["epochs"] == epochs


def test_every_digit_is_written_once(digits):
    numbers = [int(path.stem) for path in images(digits)]
    assert sorted(numbers) == list(range(1797))
    assert [p for p in digits.rglob("*") if p.is_file() and p.suffix != ".png"] == []


def test_splits_have_their_sizes(digits):
    counts = [len(list((digits / split).glob("*/*.png"))) for split in ("train", "val")]
    assert counts == [1442, 355]


def test_every_class_is_in_both_splits(digits):
    for split in ("train", "val"):
        assert {path.name for path in (digits / split).iterdir()} == set("0123456789")
        assert all(len(list(path.iterdir())) >= 30 for path in (digits / split).iterdir())


def test_no_image_is_in_both_splits(digits):
    train, val = ({path.stem for path in (digits / s).glob("*/*")} for s in ("train", "val"))
    assert train & val == set()


def test_pixels_and_labels_match_scikit_learn(digits):
    source = sklearn.datasets.load_digits()
    for path in images(digits):
        number = int(path.stem)
        expected = source.data[number].reshape(8, 8) / 16 * 255
        assert source.target[number] == int(path.parent.name)
        # Rounded to the nearest byte.
        assert np.abs(np.array(Image.open(path)) - expected).max() <= 0.5


def test_second_call_does_nothing(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: pytest.fail("read again"))
    write_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == [tmp_path / "digits"]
    assert list((tmp_path / "digits").iterdir()) == []


def test_data_written_by_another_process_is_kept(tmp_path, monkeypatch):
    root = tmp_path / "digits"

    def rival():
        (root / "train").mkdir(parents=True)
        (root / "train" / "theirs").touch()

    interrupt_after(monkeypatch, 1700, rival)
    write_digits(root)
    assert [path for path in root.rglob("*") if path.is_file()] == [root / "train" / "theirs"]
    assert list(tmp_path.iterdir()) == [root]  # the temporary folder is gone


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_write_is_not_taken_for_the_data_set(tmp_path, monkeypatch, error):
    root = tmp_path / "digits"

    def fail():
        raise error

    with monkeypatch.context() as patch:
        interrupt_after(patch, 300, fail)
        with pytest.raises(error):
            write_digits(root)
    assert not root.exists()
    write_digits(root)
    assert len(images(root)) == 1797


def test_full_disk_is_an_error(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_digits(tmp_path / "digits")
    assert not (tmp_path / "digits").exists()


def test_folder_is_readable_by_other_users(digits):
    assert digits.stat().st_mode & 0o777 == 0o755


def test_data_module_prepares_and_reads(digits, tmp_path, caplog):
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    data = DigitsData(str(root), 32, 32, Augmentation(), num_classes=10, num_workers=0)
    with caplog.at_level("INFO", logger=demo.__name__):
        data.prepare()
    assert "demonstration data" in caplog.text
    assert "data=imagenet" in caplog.text
    data.setup("fit")
    assert data.class_names == list("0123456789")
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (32, 3, 32, 32)
    assert torch.equal(batch.images[:, 0], batch.images[:, 2])
    assert sum((batch.labels >= 0).sum() for batch in data.val_dataloader()) == 355
