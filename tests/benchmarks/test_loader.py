"""`benchmark.target=loader`: the compared loaders and the results."""

import json
import multiprocessing
import shutil

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from parcnet_train.benchmarks import loader
from parcnet_train.benchmarks.loader import OrdinaryImages, Speeds, time_loaders
from parcnet_train.benchmarks.timing import Timing
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.data.samplers import MultiScale
from parcnet_train.errors import ConfigError, DataError, message_of
from running import configure, run

OVERRIDES = ("action=benchmark", "benchmark.target=loader", "data=imagefolder")
TINY = ("benchmark.repeats=2", "recipe.image_size=32", "recipe.batch_size=4")
LOADERS = ("parcnet_train", "ordinary", "ordinary_tensors")


def make_data(root, **settings):
    return ImageFolderData(str(root), 32, 4, Augmentation(), **{"num_workers": 0, **settings})


@pytest.mark.parametrize("workers", [0, 1])
def test_results_contain_every_loader(image_folder, tmp_path_factory, workers, capsys):
    shutil.rmtree(image_folder / "val")  # not used
    output = tmp_path_factory.mktemp("run")
    overrides = [*OVERRIDES, *TINY, f"data.root={image_folder}", f"data.num_workers={workers}"]
    results = run(overrides, output)
    assert results == json.loads((output / "results.json").read_text())
    numbers = ("images_per_second", "images_per_second_min", "images_per_second_max", "ratio")
    expected = [f"loader/{name}/{number}" for name in LOADERS for number in numbers]
    assert [key for key in results if key.startswith("loader/")] == expected
    assert results["loader/ordinary/ratio"] == 1
    assert (results["target"], results["data"]) == ("loader", "imagefolder")
    assert (results["num_workers"], results["batch_size"]) == (workers, 4)
    assert (results["image_size"], results["images_per_turn"]) == ([32, 32], 16)
    assert not results["keeps_memory"]
    out = capsys.readouterr().out
    assert f"loading, 4 x 3 x 32 x 32, {workers} workers" in out
    assert all(name in out for name in LOADERS)


def test_all_loaders_read_the_same_number_of_images_at_one_size(image_folder, monkeypatch):
    turns = []
    monkeypatch.setattr(
        loader, "read", lambda batches: turns.append([images for images, *_ in batches])
    )
    scales = MultiScale(smallest=1, largest=2, count=2)
    speeds = time_loaders(make_data(image_folder, multi_scale=scales), repeats=1)
    assert speeds.images == 16
    assert len(turns) == 6
    for batches in turns:
        assert [images.shape for images in batches] == [(4, 3, 32, 32)] * 4
    highest = sorted((str(images.dtype), float(images.max())) for images, *_ in turns[3:])
    # The images are noise, which loses contrast by antialiasing.
    assert [dtype for dtype, _ in highest] == ["torch.float32", "torch.float32", "torch.uint8"]
    assert all(0.5 < value <= 1 for _, value in highest[:2])
    assert highest[2][1] > 128


def test_ordinary_loader_reads_the_same_files(image_folder):
    data = make_data(image_folder)
    data.train_set = data.make_train_set()
    ordinary = OrdinaryImages(data.train_set, v2.PILToTensor())
    assert len(ordinary) == 12
    for index, path in enumerate(sorted((image_folder / "train").glob("*/*"))):
        image, label = ordinary[index]
        with Image.open(path) as file:
            assert np.array_equal(image.permute(1, 2, 0), np.array(file))
        assert data.class_names[label] == path.parent.name


def test_speeds_are_images_per_second():
    speeds = Speeds(
        100, 2, {"ordinary": Timing((100.0, 50.0, 400.0)), "other": Timing((25.0, 25.0, 50.0))}
    )
    assert speeds.of("ordinary") == {
        "images_per_second": 1000.0,
        "images_per_second_min": 250.0,
        "images_per_second_max": 2000.0,
        "ratio": 1.0,
    }
    assert speeds.of("other")["images_per_second"] == 4000.0
    assert speeds.of("other")["ratio"] == 4.0  # median of 4, 2 and 8


def test_missing_data_is_an_error():
    assert configure(OVERRIDES)[1] == ["data.root has no value. Fix: data.root=..."]
    (fault,) = configure([*OVERRIDES, "data.root=/nowhere"])[1]
    assert fault.startswith("data.root: /nowhere/train does not exist")


@pytest.mark.parametrize("workers", [0, 1])
def test_file_that_pillow_cannot_read_is_named(image_folder, workers):
    (image_folder / "train" / "bee" / "2.png").write_bytes(b"not an image")
    data = make_data(image_folder, on_error="skip", num_workers=workers)
    with pytest.raises(DataError) as raised:
        time_loaders(data, repeats=1)
    message = message_of(raised.value)
    assert message.startswith(f"{image_folder}/train/bee/2.png cannot be read by Pillow")
    assert "benchmark.target=loader" in message
    assert message.endswith("data.root")


@pytest.mark.slow
def test_every_exception_of_pillow_becomes_a_data_error(image_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # as for a decompression bomb
    with pytest.raises(DataError, match="cannot be read by Pillow"):
        time_loaders(make_data(image_folder), repeats=1)


def test_no_process_is_left_after_an_error(image_folder):
    (image_folder / "train" / "bee" / "2.png").write_bytes(b"not an image")
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError, match="cannot be read"):  # whichever loader runs first
        time_loaders(make_data(image_folder, num_workers=1), repeats=1)
    for process in set(multiprocessing.active_children()) - before:
        process.terminate()  # as the end of the program does
        process.join(10)
        assert not process.is_alive()


def test_data_of_another_kind_is_an_error():
    with pytest.raises(ConfigError, match=r"expected folders of images.*data=imagefolder"):
        time_loaders(object(), repeats=1)
