import itertools
import os
import shutil

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from PIL import Image
from pytorch_lightning import Trainer

from parcnet_train.data.batches import PADDING
from parcnet_train.data.classification import dataset as images
from parcnet_train.data.classification.dataset import ImageFolderDataset, collate
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.data.folders import class_folders, list_images
from parcnet_train.data.samplers import MultiScale, SampleKey
from parcnet_train.errors import DataError, message_of
from running import configure

UNREADABLE = {
    "empty": b"",
    "text": b"not an image",
    "header only": b"\x89PNG\r\n\x1a\n" + b"\x00" * 20,
}


def make_data(root, **settings):
    defaults = {"image_size": 32, "batch_size": 2, "augmentation": Augmentation(), "num_workers": 0}
    return ImageFolderData(str(root), **{**defaults, **settings})


def make_dataset(folder, class_names, on_error="stop"):
    return ImageFolderDataset(folder, class_names, lambda image, key: image, on_error)


def key(sample):
    return SampleKey(sample, 0, (32, 32))


def fitted(root, **settings):
    data = make_data(root, **settings)
    data.setup("fit")
    return data


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_classes_are_the_sorted_folders(image_folder):
    (image_folder / "train" / "README.txt").touch()
    assert class_folders(image_folder / "train") == ["ant", "bee", "cat"]
    assert make_data(image_folder).class_names == ["ant", "bee", "cat"]


def test_images_are_sorted_by_class_and_name(image_folder):
    paths, labels, _ = list_images(image_folder / "train", ["ant", "bee", "cat"])
    assert [path.decode() for path in paths] == [
        f"{name}/{file}"
        for name in ("ant", "bee", "cat")
        for file in ("0.png", "1.jpg", "2.png", "3.jpg")
    ]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert labels.dtype == np.int64


def test_labels_follow_the_training_set_where_validation_lacks_a_class(image_folder):
    shutil.rmtree(image_folder / "val" / "ant")
    assert fitted(image_folder).val_set.labels.tolist() == [1, 1, 2, 2]


def test_sets_have_all_images(image_folder):
    data = fitted(image_folder)
    assert (len(data.train_set), len(data.val_set)) == (12, 6)


def test_other_files_and_upper_case_extensions(image_folder):
    folder = image_folder / "train" / "ant"
    (folder / "0.png").rename(folder / "0.PNG")
    (folder / "1.jpg").rename(folder / "1.JPEG")
    (folder / "notes.txt").write_text("no image")
    paths, _, _ = list_images(image_folder / "train", ["ant", "bee", "cat"])
    names = ["ant/0.PNG", "ant/1.JPEG", "ant/2.png", "ant/3.jpg"]
    assert [path.decode() for path in paths[:4]] == names


def test_folders_of_systems_are_no_classes(image_folder):
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
        **{
            "a.avif": "AVIF",
            "b.GIF": "GIF",
            "c.jfif": "JPEG",
            "d.jpe": "JPEG",
            "e.jp2": "JPEG2000",
        },
        **{"f.ppm": "PPM", "g.webp": "WEBP", "h.Tif": "TIFF", "i.bmp": "BMP"},
    }.items():
        image.save(image_folder / "train" / "ant" / name, kind)
    dataset = make_data(image_folder).make_train_set()
    for sample, path in enumerate(dataset.paths[4:13].tolist(), start=4):
        pixels = dataset.look(sample)
        assert pixels.shape == (8, 9, 3), path
        assert pixels[..., 0].min() > 150 > pixels[..., 1:].max(), path
    assert len(dataset) == 12 + 9


def test_images_in_nested_folders_are_listed_after_their_paths(image_folder):
    ant = image_folder / "train" / "ant"
    (ant / "1").mkdir()
    (ant / "z" / "y").mkdir(parents=True)
    for target in ("1/0.png", "z/y/3.jpg", "z/0.png"):
        shutil.copy(ant / "0.png", ant / target)
    paths, labels, _ = list_images(image_folder / "train", ["ant", "bee", "cat"])
    expected = ["0.png", "1.jpg", "1/0.png", "2.png", "3.jpg", "z/0.png", "z/y/3.jpg"]
    assert [path.decode() for path in paths[:7]] == [f"ant/{name}" for name in expected]
    assert labels.tolist() == [0] * 7 + [1] * 4 + [2] * 4


def test_linked_folders_are_read_once_and_loops_end(image_folder):
    ant, elsewhere = image_folder / "train" / "ant", image_folder / "elsewhere"
    shutil.copytree(ant, elsewhere)
    (ant / "a link").symlink_to(elsewhere)
    (ant / "another").symlink_to(elsewhere)
    (ant / "back").symlink_to(ant)
    paths, _, left_out = list_images(image_folder / "train", ["ant", "bee", "cat"])
    names = ["0.png", "1.jpg", "2.png", "3.jpg"]
    expected = sorted([*names, *(f"a link/{name}" for name in names)])
    assert [path.decode() for path in paths[:8]] == [f"ant/{name}" for name in expected]
    assert left_out == []


def test_files_that_may_be_images_are_counted_and_named_once(image_folder, caplog):
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


def test_a_class_folder_of_unread_formats_is_refused_with_what_it_has(image_folder):
    (image_folder / "train" / "dog").mkdir()
    (image_folder / "train" / "dog" / "a.heic").touch()
    with pytest.raises(DataError, match=r"train/dog holds no image .*1 \.heic \(first a\.heic\)"):
        make_data(image_folder).setup("fit")


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_check_refuses_what_a_training_refuses(image_folder, split):
    (image_folder / split / "bee" / "deep").mkdir()
    for path in (image_folder / split / "bee").glob("*.*"):
        path.unlink()
    for attempt in (lambda data: data.check_files("fit"), lambda data: data.setup("fit")):
        with pytest.raises(DataError, match=rf"data\.root: class folder .*/{split}/bee holds no"):
            attempt(make_data(image_folder))


def test_names_that_are_not_ascii(tmp_path):
    save(np.full((8, 8, 3), 7, np.uint8), tmp_path / "été" / "bild ü.png")
    dataset = make_dataset(tmp_path, ["été"])
    image, label = dataset[key(0)]
    assert (label, image.unique().tolist()) == (0, [7])


def test_a_sample_is_the_image_of_its_path(image_folder):
    names = ["ant", "bee", "cat"]
    dataset = make_dataset(image_folder / "train", names)
    for index, path in enumerate(sorted((image_folder / "train").glob("*/*"))):
        image, label = dataset[key(index)]
        assert names[label] == path.parent.name
        with Image.open(path) as file:
            assert image.shape[1:] == file.size[::-1]
        if path.suffix == ".png":
            expected = torch.from_numpy(np.array(Image.open(path)))
            assert torch.equal(image, expected.permute(2, 0, 1))


def test_missing_root_is_named(tmp_path):
    data = make_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.root: .*nowhere/train does not exist; allowed is"):
        data.setup("fit")


def test_missing_training_folder_is_named_where_only_validation_is_there(image_folder):
    shutil.rmtree(image_folder / "train")
    with pytest.raises(DataError, match=r"train does not exist.*set data\.root, data\.train_dir"):
        make_data(image_folder).setup("fit")


def test_root_without_class_folders(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").touch()
    with pytest.raises(DataError, match=r"data\.root: .*train holds no class folders"):
        make_data(tmp_path).setup("fit")


def test_empty_class_folder_is_named(image_folder):
    (image_folder / "train" / "dog").mkdir()
    with pytest.raises(
        DataError, match=r"class folder .*train/dog holds no image \(\.jpg .*remove"
    ):
        make_data(image_folder).setup("fit")


@pytest.mark.parametrize("action", ["fit", "check"])
def test_a_check_refuses_an_empty_class_folder(image_folder, action):
    (image_folder / "train" / "dog").mkdir()
    arguments = ["data=imagefolder", f"data.root={image_folder}", f"action={action}"]
    (fault,) = configure(arguments)[1]
    assert f"{image_folder}/train/dog holds no image" in fault


@pytest.mark.parametrize("action", ["fit", "check"])
def test_images_of_both_sets_are_reported(image_folder, caplog, action):
    arguments = ["data=imagefolder", f"data.root={image_folder}", f"action={action}"]
    assert configure(arguments)[1] == []
    assert caplog.messages == []
    assert configure([*arguments, "data.val_dir=train"])[1] == []
    folder = image_folder / "train"
    assert caplog.messages[0].startswith(f"{folder} has 12 of the 12 images of {folder}")
    caplog.clear()
    shutil.copy(folder / "cat" / "0.png", image_folder / "val" / "cat")
    assert configure(arguments)[1] == []
    (line,) = caplog.messages
    assert line.startswith(f"{folder} has 1 of the 6 images of {image_folder}/val")
    assert "cat/0.png" in line


def test_an_image_in_two_classes_is_reported(image_folder, caplog):
    shutil.copy(image_folder / "val" / "cat" / "0.png", image_folder / "val" / "ant" / "0.png")
    make_data(image_folder).check_files("test")
    (line,) = caplog.messages
    assert line.startswith(f"{image_folder}/val has images more than once in different folders")
    assert "ant/0.png and cat/0.png" in line


def test_an_absent_folder_with_a_similar_name_is_named(image_folder):
    (image_folder / "val").rename(image_folder / "VAL")
    with pytest.raises(DataError, match=r"val does not exist, but .*/VAL exists"):
        make_data(image_folder).check_files("fit")


def test_class_that_only_validation_has(image_folder):
    (image_folder / "val" / "ant").rename(image_folder / "val" / "wasp")
    with pytest.raises(DataError, match=r"val/wasp is a class that the training set has not"):
        make_data(image_folder).setup("fit")


def test_number_of_classes_is_checked(image_folder):
    assert len(make_data(image_folder, num_classes=3).class_names) == 3
    expected = r"data\.num_classes=1000, but .* has 3 classes; data\.num_classes=null counts them"
    with pytest.raises(DataError, match=expected):
        make_data(image_folder, num_classes=1000).setup("fit")


def test_names_of_the_folders_can_be_chosen(image_folder):
    (image_folder / "train").rename(image_folder / "first")
    (image_folder / "val").rename(image_folder / "second")
    data = fitted(image_folder, train_dir="first", val_dir="second")
    assert (len(data.train_set), len(data.val_set)) == (12, 6)


def test_home_folder_is_expanded(image_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(image_folder.parent))
    assert len(make_data(f"~/{image_folder.name}").class_names) == 3


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_image_stops_with_its_name(image_folder, content):
    (image_folder / "train" / "bee" / "2.png").write_bytes(content)
    dataset = make_dataset(image_folder / "train", ["ant", "bee", "cat"])
    dataset[key(5)]
    with pytest.raises(DataError, match=r"bee/2\.png cannot be read as an image .*data\.on_error"):
        dataset[key(6)]


def test_unreadable_image_in_a_worker_has_the_same_message(image_folder):
    (image_folder / "val" / "ant" / "0.png").write_bytes(b"")
    data = fitted(image_folder, num_workers=1)
    with pytest.raises(DataError) as raised:
        list(data.val_dataloader())
    assert message_of(raised.value).startswith(f"{image_folder}/val/ant/0.png cannot be read")
    assert message_of(raised.value).endswith("data.on_error=skip")
    data.end_workers()


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_image_is_left_out_and_counted(image_folder, content):
    (image_folder / "val" / "bee" / "0.png").write_bytes(content)
    data = fitted(image_folder, batch_size=3, on_error="skip")
    first, second = data.val_dataloader()
    assert (first.labels.tolist(), first.skipped.item()) == ([0, 0, -1], 1)
    assert (second.labels.tolist(), second.skipped.item()) == ([1, 2, 2], 0)
    assert first.images.flatten(1).any(dim=1).tolist() == [True, True, False]


def test_an_image_of_more_pixels_than_allowed_stops_or_is_left_out(image_folder):
    # Of the six validation images the smallest have 40x56 pixels, the other three 64x48.
    data = fitted(image_folder, max_pixels=40 * 56)
    with pytest.raises(
        DataError, match=r"ant/1\.jpg .*48x64.*data\.max_pixels=2240.*on_error=skip"
    ):
        list(data.val_dataloader())
    data = fitted(image_folder, max_pixels=40 * 56, on_error="skip")
    assert sum(batch.skipped.item() for batch in data.val_dataloader()) == 3


def test_whole_batch_unreadable(image_folder):
    for path in (image_folder / "val" / "bee").iterdir():
        path.write_bytes(b"")
    loader = fitted(image_folder, on_error="skip").val_dataloader()
    with pytest.raises(DataError, match="all 2 images of a batch are unreadable"):
        list(loader)


SAMPLES = [(torch.zeros(3, 4, 5).byte(), 1), None, (torch.ones(3, 4, 5).byte(), 9)]


def test_collate_gives_typed_batches():
    batch = collate(SAMPLES)
    assert batch.images.shape == (3, 3, 4, 5)
    assert batch.images.dtype == torch.uint8
    assert batch.images.flatten(1).float().mean(dim=1).tolist() == [0, 1, 0]
    assert batch.labels.tolist() == [1, 9, -1]
    assert batch.labels.dtype == torch.int64
    assert (batch.skipped.shape, batch.skipped.dtype) == ((), torch.int64)
    assert batch.skipped == 1


def test_training_fills_the_places_of_unreadable_images():
    batch = collate(SAMPLES, fill=True)
    assert (batch.labels.tolist(), batch.skipped.item()) == ([1, 9, 1], 1)
    assert torch.equal(batch.images[2], batch.images[0])


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


def test_one_class_cannot_be_classified(tmp_path):
    save(np.zeros((40, 50, 3), np.uint8), tmp_path / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match="has one class, a classifier needs two or more"):
        _ = fitted(tmp_path).class_names


def test_hidden_folders_are_no_classes(image_folder):
    (image_folder / "train" / ".cache").mkdir()
    assert class_folders(image_folder / "train") == ["ant", "bee", "cat"]


def test_batches_are_uint8_of_the_input_size(image_folder):
    data = fitted(image_folder, image_size=(24, 40), batch_size=5)
    for loader, count in ((data.train_dataloader(), 3), (data.val_dataloader(), 2)):
        batches = list(loader)
        assert [batch.images.shape for batch in batches] == [(5, 3, 24, 40)] * count
        assert all(batch.images.dtype == torch.uint8 for batch in batches)
        channels_last = torch.channels_last
        assert all(b.images.is_contiguous(memory_format=channels_last) for b in batches)


def test_an_empty_place_is_black_and_reads_no_file(tmp_path, monkeypatch):
    save(np.full((8, 8, 3), 7, np.uint8), tmp_path / "ant" / "0.png")
    dataset = make_dataset(tmp_path, ["ant"])
    monkeypatch.setattr(images, "read_image", None)
    image, label = dataset[SampleKey(PADDING, 0, (24, 40))]
    assert (image.shape, image.dtype, label) == ((3, 24, 40), torch.uint8, -1)
    assert not image.any()


def test_validation_is_filled_up_with_empty_places(image_folder):
    first, second = fitted(image_folder, batch_size=5).val_dataloader()
    assert first.labels.tolist() == [0, 0, 1, 1, 2]
    assert second.labels.tolist() == [2, -1, -1, -1, -1]
    assert first.images.flatten(1).any(dim=1).all()
    assert second.images.flatten(1).any(dim=1).tolist() == [True, False, False, False, False]


def test_images_are_repeated_on_request(image_folder):
    data = fitted(image_folder, batch_size=4, augmentation=Augmentation(repeats=2))
    batches = list(data.train_dataloader())
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]
    for batch in batches:
        assert batch.labels[::2].tolist() == batch.labels[1::2].tolist()
        assert not (batch.images[::2] == batch.images[1::2]).all()


def test_sizes_vary_on_request(image_folder):
    scales = MultiScale(smallest=0.5, largest=1.5, count=3)
    data = fitted(image_folder, image_size=64, batch_size=2, multi_scale=scales, num_workers=1)
    assert {batch.images.shape[2:] for batch in data.val_dataloader()} == {(64, 64)}
    loader = data.train_dataloader()
    sizes = set()
    for epoch in range(4):
        _set_sampler_epoch(loader, epoch)
        sizes |= {batch.images.shape[2:] for batch in loader}
    assert sizes == {(32, 32), (64, 64), (96, 96)}


def test_one_number_is_a_square(image_folder):
    assert make_data(image_folder, image_size=24).image_size == (24, 24)


def test_batches_do_not_depend_on_the_number_of_workers(image_folder, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(2), raising=False)
    alone, shared = fitted(image_folder, seed=3), fitted(image_folder, seed=3, num_workers=2)
    assert shared.workers() == 2
    for first, second in (
        (alone.train_dataloader(), shared.train_dataloader()),
        (alone.val_dataloader(), shared.val_dataloader()),
    ):
        assert all(itertools.starmap(equal, zip(first, second, strict=True)))


def test_persistent_workers_see_the_next_epoch(image_folder):
    loader = fitted(image_folder, num_workers=1).train_dataloader()
    assert loader.persistent_workers
    alone = fitted(image_folder).train_dataloader()
    epochs = []
    for epoch in range(2):
        _set_sampler_epoch(loader, epoch)
        _set_sampler_epoch(alone, epoch)
        epochs.append(list(loader))
        assert all(itertools.starmap(equal, zip(epochs[-1], alone, strict=True)))
    assert not any(itertools.starmap(equal, zip(*epochs, strict=True)))


def test_seed_changes_order_and_augmentation(image_folder):
    first = list(fitted(image_folder, seed=0).train_dataloader())
    second = list(fitted(image_folder, seed=1).train_dataloader())
    assert [b.labels.tolist() for b in first] != [b.labels.tolist() for b in second]
    assert not any(itertools.starmap(equal, zip(first, second, strict=True)))


@pytest.mark.parametrize("cores", [(3, 8), (8, 3)], ids=["machine", "scheduler"])
def test_workers_are_never_more_than_processors(image_folder, monkeypatch, cores):
    monkeypatch.setattr(os, "cpu_count", lambda: cores[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores[1]), raising=False)
    assert make_data(image_folder, num_workers=8).workers() == 3
    assert make_data(image_folder, num_workers=2).workers() == 2
    assert make_data(image_folder, num_workers=0).workers() == 0


@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (3, 2), (4, 2), (16, 1)])
def test_processes_of_a_machine_share_its_processors(
    image_folder, processes, expected, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    data = make_data(image_folder, num_workers=8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert data.workers() == expected
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    data.trainer = Trainer(accelerator="cpu", devices=processes, logger=False)
    assert data.workers() == expected
    data.setup("fit")
    assert data.train_dataloader().num_workers == expected


def test_validation_set_alone_can_be_used(image_folder):
    shutil.rmtree(image_folder / "train")
    data = make_data(image_folder, num_classes=3)
    data.setup("validate")
    labels = torch.cat([batch.labels for batch in data.val_dataloader()])
    assert data.class_names == ["ant", "bee", "cat"]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_validation_lists_no_training_images(image_folder):
    data = make_data(image_folder)
    data.setup("validate")
    assert not hasattr(data, "train_set")
