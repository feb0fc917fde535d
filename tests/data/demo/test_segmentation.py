import numpy as np
import pytest
from PIL import Image

from parcnet_train.data.demo import scenes
from parcnet_train.data.demo import segmentation as demo_segmentation
from parcnet_train.data.demo.segmentation import SegmentationScenes, write_segmentation_scenes
from parcnet_train.data.segmentation.palette import voc_palette
from parcnet_train.data.segmentation.transforms import SegmentationAugmentation

FEW = {"train": 8, "val": 4}


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        for split, count in FEW.items():
            patch.setitem(scenes.COUNTS, split, count)
        yield


@pytest.fixture(scope="module")
def root(few, tmp_path_factory):
    root = tmp_path_factory.mktemp("cache") / "scenes"
    write_segmentation_scenes(root)
    return root


def names(root, split):
    return (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def test_files_have_the_layout_of_voc(root):
    assert names(root, "train") == [f"{number:06d}" for number in range(1, 9)]
    assert names(root, "val") == [f"{number:06d}" for number in range(9, 13)]
    listed = {*names(root, "train"), *names(root, "val")}
    for folder, kind in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        files = list((root / folder).iterdir())
        assert {file.stem for file in files} == listed
        assert {file.suffix for file in files} == {kind}
    assert (root / "classes.txt").read_text().split() == ["background", *"0123456789"]


@pytest.mark.parametrize("split", FEW)
def test_masks_are_the_plates_without_their_edges(root, split):
    for name, (_, scene) in zip(names(root, split), scenes.draw_scenes(split), strict=True):
        file = Image.open(root / "SegmentationClass" / f"{name}.png")
        assert file.mode == "P"
        mask, owners = np.array(file), scene.owners
        assert mask.shape == owners.shape
        # A pixel is on an edge if a pixel of its 3x3 neighborhood has another owner.
        padded = np.pad(owners, 1, mode="edge")
        rows, columns = owners.shape
        edge = np.zeros(owners.shape, bool)
        for y in range(3):
            for x in range(3):
                edge |= padded[y : y + rows, x : x + columns] != owners
        assert np.array_equal(mask == 255, edge)
        expected = np.zeros(owners.shape, int)
        for number, sticker in enumerate(scene.stickers, 1):
            expected[owners == number] = sticker.digit.label + 1
        assert np.array_equal(mask[~edge], expected[~edge])
        # Thin, as in VOC: one pixel on either side.
        assert 0 < edge.mean() < 0.15


@pytest.mark.parametrize("split", FEW)
def test_images_are_the_scenes(root, split):
    for name, (_, scene) in zip(names(root, split), scenes.draw_scenes(split), strict=True):
        image = np.array(Image.open(root / "JPEGImages" / f"{name}.jpg"))
        assert np.abs(image.astype(float) - scene.image).mean() < 4


def test_masks_have_the_palette_of_voc(root):
    file = Image.open(next((root / "SegmentationClass").iterdir()))
    assert file.getpalette() == voc_palette().ravel().tolist()


def test_interrupted_write_leaves_nothing(few, tmp_path, monkeypatch):
    def interrupted(split):
        yield next(scenes.draw_scenes(split))
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_segmentation, "draw_scenes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation_scenes(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []


def test_data_module_prepares_and_reads(few, tmp_path, caplog):
    augmentation = SegmentationAugmentation(flip=0)
    data = SegmentationScenes(str(tmp_path / "scenes"), 96, 4, augmentation, num_workers=0)
    assert data.writes_root
    with caplog.at_level("INFO", logger=demo_segmentation.__name__):
        data.prepare()
    assert "demonstration data" in caplog.text
    assert "data=voc data.root=/path" in caplog.text
    data.check_files("fit")
    data.setup("fit")
    assert data.class_names == ["background", *"0123456789"]
    batch = next(iter(data.train_dataloader()))
    assert batch.masks.shape == (4, 96, 96)
    assert set(batch.masks.unique().tolist()) <= {*range(11), 255}
    (batch,) = data.val_dataloader()
    for (_, scene), original in zip(scenes.draw_scenes("val"), batch.originals, strict=True):
        assert np.array_equal(original, demo_segmentation.label(scene))
