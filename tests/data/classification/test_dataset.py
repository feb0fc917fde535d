"""Samples and batches of images in class folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from class_folders import UNREADABLE, save
from parcnet_train.data.batches import PADDING
from parcnet_train.data.classification import dataset as images
from parcnet_train.data.classification.dataset import ImageFolderDataset, LabeledImage, collate
from parcnet_train.data.folders import labels_of
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import DataError


def make_dataset(folder, class_names, on_error="stop"):
    return ImageFolderDataset(folder, labels_of(class_names), lambda image, key: image, on_error)


def key(sample):
    return SampleKey(sample, 0, (32, 32))


def test_non_ascii_names_are_read(tmp_path):
    save(np.full((8, 8, 3), 7, np.uint8), tmp_path / "été" / "bild ü.png")
    dataset = make_dataset(tmp_path, ["été"])
    image, label, _ = dataset[key(0)]
    assert (label, image.unique().tolist()) == (0, [7])


def test_sample_has_the_image_of_its_path(image_folder):
    names = ["ant", "bee", "cat"]
    dataset = make_dataset(image_folder / "train", names)
    for index, path in enumerate(sorted((image_folder / "train").glob("*/*"))):
        image, label, sample = dataset[key(index)]
        assert sample == index
        assert names[label] == path.parent.name
        with Image.open(path) as file:
            assert image.shape[1:] == file.size[::-1]
        if path.suffix == ".png":
            expected = torch.from_numpy(np.array(Image.open(path)))
            assert torch.equal(image, expected.permute(2, 0, 1))


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_image_raises_an_error_with_its_path(image_folder, content):
    (image_folder / "train" / "bee" / "2.png").write_bytes(content)
    dataset = make_dataset(image_folder / "train", ["ant", "bee", "cat"])
    dataset[key(5)]
    with pytest.raises(DataError, match=r"bee/2\.png cannot be read as an image .*data\.on_error"):
        dataset[key(6)]


ZEROS, ONES = torch.zeros(3, 4, 5).byte(), torch.ones(3, 4, 5).byte()
SAMPLES = [LabeledImage(ZEROS, 1, 7), None, LabeledImage(ONES, 9, 3)]


def test_collate_returns_a_typed_batch():
    batch = collate(SAMPLES)
    assert batch.images.shape == (3, 3, 4, 5)
    assert batch.images.dtype == torch.uint8
    assert batch.images.flatten(1).float().mean(dim=1).tolist() == [0, 1, 0]
    assert batch.labels.tolist() == [1, 9, -1]
    assert batch.labels.dtype == torch.int64
    assert (batch.samples.tolist(), batch.samples.dtype) == ([7, 3, PADDING], torch.int64)
    assert (batch.skipped.shape, batch.skipped.dtype) == ((), torch.int64)
    assert batch.skipped == 1


def test_training_replaces_unreadable_images():
    batch = collate(SAMPLES, fill=True)
    assert (batch.labels.tolist(), batch.skipped.item()) == ([1, 9, 1], 1)
    assert torch.equal(batch.images[2], batch.images[0])


def test_padding_sample_is_black_and_reads_no_file(tmp_path, monkeypatch):
    save(np.full((8, 8, 3), 7, np.uint8), tmp_path / "ant" / "0.png")
    dataset = make_dataset(tmp_path, ["ant"])
    monkeypatch.setattr(images, "read_image", None)
    image, *rest = dataset[SampleKey(PADDING, 0, (24, 40))]
    assert (image.shape, image.dtype, rest) == ((3, 24, 40), torch.uint8, [-1, PADDING])
    assert not image.any()
