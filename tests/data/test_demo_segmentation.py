import numpy as np
import pytest
from PIL import Image

from parcnet_train.data import demo_segmentation, scenes
from parcnet_train.data.demo_segmentation import write_segmentation_scenes
from parcnet_train.data.palette import voc_palette

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


def test_the_layout_is_vocs(root):
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
        # A pixel is an edge's where one of its nine neighbours belongs to another.
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
        # Thin, as VOC's: one pixel on either side.
        assert 0 < edge.mean() < 0.15


@pytest.mark.parametrize("split", FEW)
def test_images_are_the_scenes(root, split):
    for name, (_, scene) in zip(names(root, split), scenes.draw_scenes(split), strict=True):
        image = np.array(Image.open(root / "JPEGImages" / f"{name}.jpg"))
        assert np.abs(image.astype(float) - scene.image).mean() < 4


def test_the_palette_is_vocs(root):
    colours = np.array(voc_palette()).reshape(256, 3)
    # The colours of VOC 2012's classes, as published with it: background to bicycle, person to
    # tvmonitor, and the edges.
    published = {
        **{0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128)},
        **{16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0), 19: (128, 192, 0)},
        **{20: (0, 64, 128), 255: (224, 224, 192)},
    }
    assert {index: tuple(colours[index]) for index in published} == published
    file = Image.open(next((root / "SegmentationClass").iterdir()))
    assert file.getpalette() == voc_palette()


def test_interrupted_write_leaves_nothing(few, tmp_path, monkeypatch):
    def interrupted(split):
        yield next(scenes.draw_scenes(split))
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_segmentation, "draw_scenes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation_scenes(tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []
