"""`VocData`: files, faults reported before a training, and batches."""

import shutil

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from PIL import Image

from parcnet_train.data.batches import PADDING
from parcnet_train.data.prepare.official.voc_sources import VOC_CLASSES
from parcnet_train.data.samplers import MultiScale
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.errors import DataError
from running import configure
from voc_files import (
    NAMES,
    TRAIN,
    VAL,
    image_path,
    mask_of,
    mask_path,
    write_classes,
    write_list,
)
from voc_modules import make_data


def fitted(root, **settings):
    data = make_data(root, **settings)
    data.setup("fit")
    return data


def test_classes_are_read_from_classes_txt(voc_folder):
    data = make_data(voc_folder)
    assert data.class_names == NAMES
    assert data.window is None
    data.check_files("fit")
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (4, 3)
    assert make_data(voc_folder, num_classes=3, names=["x", "y"]).class_names == NAMES
    (voc_folder / "classes.txt").write_text("\ufeffsky\r\n\r\n road sign \r\n", "utf-8")
    assert make_data(voc_folder).class_names == ["sky", "road sign"]


def test_classes_without_classes_txt(voc_folder):
    (voc_folder / "classes.txt").unlink()
    assert make_data(voc_folder, num_classes=4).class_names == ["0", "1", "2", "3"]
    assert make_data(voc_folder, names=["x", "y"]).class_names == ["x", "y"]
    with pytest.raises(DataError) as raised:
        make_data(voc_folder).check_files("fit")
    message = str(raised.value)
    assert message.startswith(f"{voc_folder}/classes.txt does not exist")
    assert "data.names=[...] or data.num_classes=N" in message


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (
            NAMES,
            {"num_classes": 21},
            r"data\.num_classes=21: .*txt has 3 classes; .*data\.num_classes=null",
        ),
        (["a", "b", "a"], {}, r"classes\.txt has the class 'a' twice"),
        (["a"], {}, r"classes\.txt: the number of classes is 1; expected 2 to 255"),
        (
            map(str, range(256)),
            {},
            r"classes\.txt: the number of classes is 256; expected 2 to 255",
        ),
        (
            None,
            {"num_classes": 1},
            r"data\.num_classes: the number of classes is 1; expected 2 to 255",
        ),
        (None, {"names": ["a", "a"]}, r"data\.names has the class 'a' twice"),
        (None, {"names": ["a", "b"], "num_classes": 3}, r"=3: data\.names has 2 classes"),
    ],
)
def test_invalid_classes_are_refused(voc_folder, names, settings, message):
    (voc_folder / "classes.txt").unlink()
    if names is not None:
        write_classes(voc_folder, names)
    with pytest.raises(DataError, match=message):
        make_data(voc_folder, **settings).check_files("fit")


def test_classes_txt_that_is_not_text_is_refused(voc_folder):
    (voc_folder / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"classes\.txt cannot be read \(it is not UTF-8 text\)"):
        make_data(voc_folder).check_files("fit")


def test_missing_root_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"data\.root: .*nowhere does not exist; expected a fold"):
        make_data(tmp_path / "nowhere").check_files("fit")


@pytest.mark.parametrize("kind", [".tif", ".webp", ".bmp", ".avif"])
@pytest.mark.parametrize("mask_kind", [".tif", ".png"])
@pytest.mark.parametrize("style", ["{0}", "{0}{1}", "JPEGImages/{0}{1} SegmentationClass/{0}{2}"])
def test_images_and_masks_of_other_formats_are_read(voc_folder, kind, mask_kind, style):
    for name in TRAIN:
        path, mask = image_path(voc_folder, name), mask_path(voc_folder, name)
        with Image.open(path) as image:
            image.save(path.with_name(name + kind))
        path.unlink()
        with Image.open(mask) as image:
            image.load()
        mask.unlink()
        image.save(mask.with_suffix(mask_kind))
    write_list(voc_folder, "train", [style.format(n, kind, mask_kind) for n in TRAIN])
    data = make_data(voc_folder)
    data.check_files("fit")
    dataset = data.make_train_set()
    for sample, name in enumerate(TRAIN):
        assert dataset.path(sample).name == name + kind
        assert np.array_equal(dataset.read(sample).mask, mask_of(name))


def test_pairs_of_absolute_paths_are_read(voc_folder, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    shutil.copy(image_path(voc_folder, "a"), elsewhere / "A.jpg")
    shutil.copy(mask_path(voc_folder, "a"), elsewhere / "m.png")
    lines = [f"{elsewhere}/A.jpg {elsewhere}/m.png", "/JPEGImages/b.png /SegmentationClass/b.png"]
    write_list(voc_folder, "train", lines)
    dataset = make_data(voc_folder).make_train_set()
    assert dataset.images.tolist() == [f"{elsewhere}/A.jpg".encode(), b"JPEGImages/b.png"]
    for sample, name in enumerate("ab"):
        assert np.array_equal(dataset.read(sample).mask, mask_of(name))
    write_list(voc_folder, "train", [f"{elsewhere}/A.jpg {elsewhere}/gone.png"])
    with pytest.raises(DataError, match=r"gone\.png.* 1 of 1 "):
        make_data(voc_folder).make_train_set()


def test_labelmes_ignored_class_is_not_a_class(voc_folder):
    write_classes(voc_folder, ["__ignore__", "_background_", "cat", "dog"])
    data = make_data(voc_folder, num_classes=3)
    assert data.class_names == ["_background_", "cat", "dog"]
    data.check_files("fit")
    write_mask(mask_path(voc_folder, "a"), mask_of("a") % 255 + 1)  # numbers of the lines
    with pytest.raises(DataError, match=r"a\.png has pixels of class 3; expected 0 to 2"):
        make_data(voc_folder).check_files("fit")


def test_color_masks_of_cvat_are_refused_with_a_fix(voc_folder):
    (voc_folder / "classes.txt").rename(voc_folder / "labelmap.txt")
    with pytest.raises(DataError, match=r"classes\.txt does not exist.*labelmap\.txt.*CVAT.*index"):
        make_data(voc_folder).check_files("fit")
    Image.new("RGB", (56, 40)).save(mask_path(voc_folder, "a"))
    with pytest.raises(DataError, match=r"a\.png .*RGB.*labelmap\.txt"):
        make_data(voc_folder, names=NAMES).check_files("fit")


def test_repeated_validation_images_are_refused(voc_folder):
    file = write_list(voc_folder, "val", ["e", "f", "e", "g", "f"])
    with pytest.raises(DataError) as raised:
        make_data(voc_folder).check_files("test")
    message = str(raised.value)
    assert message.startswith(
        f"{file} contains 2 of 3 images more than once (first: JPEGImages/e.jpg)"
    )
    write_list(voc_folder, "val", ["e"])
    write_list(voc_folder, "train", ["a", "a", "b"])  # allowed in a training list
    assert len(fitted(voc_folder).train_set) == 3


def test_images_in_both_lists_give_a_warning(voc_folder, caplog):
    make_data(voc_folder).check_files("fit")
    assert caplog.messages == []
    write_list(voc_folder, "train", ["a", "g", "e"])
    make_data(voc_folder).check_files("fit")
    lists = voc_folder / "ImageSets" / "Segmentation"
    (line,) = caplog.messages
    shared = f"{lists}/train.txt contains 2 of the 3 images of {lists}/val.txt (first: JPEGImages/e"
    assert line.startswith(shared)


def test_repeated_training_images_give_a_warning(voc_folder, caplog):
    write_list(voc_folder, "train", ["a", "a", "b"])
    make_data(voc_folder).check_files("fit")
    (line,) = caplog.messages
    assert "contains 1 of its 2 images more than once (first: JPEGImages/a.jpg)" in line


def test_evaluation_needs_no_training_set_and_benchmark_no_validation_set(voc_folder):
    lists = voc_folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").rename(lists / "mine.txt")
    data = make_data(voc_folder)
    data.check_files("test")
    data.setup("validate")
    assert len(data.val_set) == 3
    (lists / "val.txt").unlink()
    make_data(voc_folder, train_list="mine").check_files("benchmark")


def test_folders_and_lists_can_be_renamed(voc_folder):
    (voc_folder / "JPEGImages").rename(voc_folder / "photos")
    (voc_folder / "SegmentationClass").rename(voc_folder / "labels")
    data = make_data(
        voc_folder, images="photos", masks="labels", train_list="val", val_list="train"
    )
    data.check_files("fit")
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (3, 4)


def test_validation_has_every_image_once_and_is_padded(voc_folder):
    first, second = fitted(voc_folder).val_dataloader()
    assert [first.samples.tolist(), second.samples.tolist()] == [[0, 1], [2, PADDING]]
    assert first.images.shape == second.images.shape == (2, 3, 64, 64)
    assert first.masks.shape == (2, 64, 64)
    scales = [[64 / 70, 64 / 45, 0, 0], [64 / 45, 64 / 70, 0, 0]]
    assert np.allclose(first.placements, scales)
    originals = [*first.originals, *second.originals]
    for original, name in zip(originals, VAL, strict=False):
        assert np.array_equal(original, mask_of(name))
    assert originals[3].tolist() == [[255]]
    assert (second.masks[1] == 255).all()


def test_letterbox_keeps_the_aspect_ratio(voc_folder):
    batch, _ = fitted(voc_folder, evaluation="keep_aspect", image_size=(70, 90)).val_dataloader()
    assert batch.masks.shape == (2, 70, 90)
    scale = 90 / 70
    rows = round(45 * scale)
    assert np.allclose(batch.placements[0], [scale, rows / 45, 0, (70 - rows) // 2])
    assert np.allclose(batch.placements[1], [1, 1, 22, 0])
    assert np.array_equal(batch.masks[1, :, 22:67], mask_of("f"))
    assert [each.shape for each in batch.originals] == [(45, 70), (70, 45)]


def test_windows_keep_images_at_their_own_size(voc_folder):
    data = fitted(voc_folder, evaluation="windows", image_size=(32, 40))
    assert data.window == (32, 40)
    batches = list(data.val_dataloader())
    assert [tuple(batch.images.shape) for batch in batches] == [
        (1, 3, *size) for size in VAL.values()
    ]
    for batch, name in zip(batches, VAL, strict=True):
        assert np.array_equal(batch.masks[0], mask_of(name))
        assert torch.equal(batch.originals[0], batch.masks[0])
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (2, 3, 32, 40)


def test_unreadable_image_is_skipped_with_windows(voc_folder):
    image_path(voc_folder, "f").write_bytes(b"nothing")
    data = fitted(voc_folder, evaluation="windows", image_size=(32, 40), on_error="skip")
    batches = list(data.val_dataloader())
    assert [batch.samples.tolist() for batch in batches] == [[0], [PADDING], [2]]
    assert [int(batch.skipped) for batch in batches] == [0, 1, 0]
    assert batches[1].images.shape == (1, 3, 32, 40)


def test_epochs_differ_and_are_reproducible(voc_folder):
    def epoch(number, seed=0):
        loader = fitted(voc_folder, batch_size=4, seed=seed).train_dataloader()
        _set_sampler_epoch(loader, number)
        (batch,) = loader
        assert batch.originals == []
        assert batch.placements.isnan().all()
        return batch.images, batch.masks, batch.samples

    assert all(map(torch.equal, epoch(0), epoch(0)))
    for other in (epoch(1), epoch(0, seed=1)):
        assert other[1].shape == (4, 64, 64)
        assert not torch.equal(other[0], epoch(0)[0])
        assert not torch.equal(other[1], epoch(0)[1])


def test_batches_do_not_depend_on_workers(voc_folder):
    for make_loader in (VocData.train_dataloader, VocData.val_dataloader):
        alone = list(make_loader(fitted(voc_folder)))
        data = fitted(voc_folder, num_workers=1)
        for expected, batch in zip(alone, make_loader(data), strict=True):
            assert torch.equal(expected.images, batch.images)
            assert torch.equal(expected.masks, batch.masks)
            assert all(map(torch.equal, expected.originals, batch.originals))
        data.end_workers()


def test_multi_scale_batches_vary_in_size(voc_folder):
    scales = MultiScale(smallest=0.5, largest=1.5, count=3)
    data = fitted(voc_folder, batch_size=1, multi_scale=scales)
    loader, sizes = data.train_dataloader(), set()
    for epoch in range(6):
        _set_sampler_epoch(loader, epoch)
        sizes |= {tuple(batch.masks.shape[1:]) for batch in loader}
    assert sizes == {(32, 32), (64, 64), (96, 96)}


def faults_of(root, *overrides):
    return configure(["task=segmentation", "data=voc_format", f"data.root={root}", *overrides])[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.augmentation.short_side=[1.5,0.75]", "a list of two values, … in ascending order"),
        ("recipe.augmentation.short_side=[0,1]", "a list of two values, each a number above 0"),
        ("recipe.augmentation.pad=1", "augmentation.pad=1: expected true or false"),
        ("recipe.augmentation.flip=2", "flip=2: expected a number from 0 to 1"),
        ("recipe.augmentation.photometric=1", "photometric=1: expected true or false"),
        ("data.evaluation=window", "one of stretch, keep_aspect, windows; did you mean windows?"),
        ("data.names=cat", "data.names=cat: expected null or a list"),
    ],
)
def test_invalid_settings_are_refused(voc_folder, override, message):
    (fault,) = faults_of(voc_folder, override)
    assert all(part in fault for part in message.split(" … "))


def test_configuration_check_reports_faults_of_the_files(voc_folder):
    assert faults_of(voc_folder) == []
    (voc_folder / "SegmentationClass" / "e.png").unlink()
    (fault,) = faults_of(voc_folder)
    assert "e.png or .tif or .tiff does not exist; 1 of " in fault
    (fault,) = configure(["task=segmentation", "data=voc", f"data.root={voc_folder}"])[1]
    assert "data.num_classes=21: " in fault


def test_voc_has_its_official_class_names(tmp_path):
    values, _ = configure(["task=segmentation", "data=voc", f"data.root={tmp_path}"])
    assert values["data"]["names"] == list(VOC_CLASSES)


def test_released_recipe_never_pads():
    values, _ = configure(["task=segmentation", "recipe=voc_50e_released"])
    assert values["recipe"]["augmentation"]["pad"] is False
    values, _ = configure(["task=segmentation", "recipe=voc_50e"])
    assert values["recipe"]["augmentation"]["pad"] is True


def test_test_split_is_evaluated_instead_of_validation_set(voc_folder):
    write_list(voc_folder, "test", ["g", "e"])
    data = make_data(voc_folder, split="test")
    data.check_files("test")
    data.setup("validate")
    assert [data.val_set.path(sample).stem for sample in range(2)] == ["g", "e"]
    assert data.fingerprint()["test_images"] == 2
    assert make_data(voc_folder, split="test", test_list="val").evaluated_list.stem == "val"
    write_list(voc_folder, "test", ["g", "g"])
    with pytest.raises(DataError, match=r"test\.txt contains 1 of 1 images more than once"):
        make_data(voc_folder, split="test").check_files("test")
    (voc_folder / "ImageSets" / "Segmentation" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt cannot be read .*data\.test_list"):
        make_data(voc_folder, split="test").check_files("test")
