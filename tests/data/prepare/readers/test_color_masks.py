"""Colored masks of CVAT, and palettes."""

import numpy as np
import pytest

from faults import is_like
from parcnet_train.data.prepare.annotated import Palette
from parcnet_train.data.prepare.masks import indices_of
from parcnet_train.data.prepare.readers.color_masks import VOID, read_palette
from parcnet_train.errors import DataError
from preparing import masked, picture, read, text

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:220,40,40::\ndog:0,128,64::\n"


def cvat(root, *stems, lists=("default",), labelmap=LABELMAP):
    """Write CVAT's export: each mask has a cat in its upper half and a dog below."""
    text(root / "labelmap.txt", labelmap)
    for number, stem in enumerate(stems):
        picture(root / "JPEGImages" / f"{stem}.jpg", number)
        mask = np.zeros((48, 64, 3), np.uint8)
        mask[:10], mask[30:] = (220, 40, 40), (0, 128, 64)
        picture(root / "SegmentationClass" / f"{stem}.png", image=mask)
        picture(root / "SegmentationObject" / f"{stem}.png", image=mask)
    for name in lists:
        text(root / "ImageSets" / "Segmentation" / f"{name}.txt", "".join(f"{s}\n" for s in stems))
    return root


def test_colors_become_indices(tmp_path):
    found = read("color_masks", cvat(tmp_path, "a", "sub/b"))
    assert found.classes == ["background", "cat", "dog"]
    assert found.tasks == ["segmentation"]
    assert [image.name for image in found.images] == ["JPEGImages/a.jpg", "JPEGImages/sub/b.jpg"]
    image = found.images[1]
    assert image.split is None
    image.size = (48, 64)
    mask = indices_of(image, found.palette)
    assert (mask[:10] == 1).all()
    assert (mask[10:30] == 0).all()
    assert (mask[30:] == 2).all()


def test_lists_name_the_sets(tmp_path):
    cvat(tmp_path, "a", "b")
    lists = tmp_path / "ImageSets" / "Segmentation"
    text(lists / "train.txt", "a\n")
    text(lists / "val.txt", "b\n")
    assert [image.split for image in read("color_masks", tmp_path).images] == ["train", "val"]


def test_palette_of_your_own(tmp_path):
    cvat(tmp_path / "set", "a", labelmap="")
    table = text(tmp_path / "p.csv", "name, r, g, b\ncat, 220, 40, 40\ndog, 0, 128, 64\n")
    found = read("color_masks", tmp_path / "set", palette=table)
    assert found.classes == ["background", "cat", "dog"]  # black has no line
    colors = {0: 0, 220 << 16 | 40 << 8 | 40: 1, 128 << 8 | 64: 2}
    assert found.palette == Palette({**colors, VOID: 255}, is_colored=True)


def test_ignored_color_is_no_class(tmp_path):
    file = text(tmp_path / "labelmap.txt", "__ignore__:0,0,0::\ncat:0,0,1::\ndog:0,0,2::\n")
    names, palette = read_palette(file)
    assert names == ["cat", "dog"]
    assert palette.indices == {0: 255, 1: 0, 2: 1, VOID: 255}


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize(
    ("names", "indices"),
    [
        (["background", "__ignore__", "cat", "dog"], {0: 0, 1: 255, 2: 1, 3: 2, 255: 255}),
        (["__ignore__", "background", "cat", "dog"], {0: 0, 1: 1, 2: 2, 255: 255}),
    ],
    ids=["second", "first"],
)
def test_ignored_class_of_index_masks_keeps_the_meaning_of_the_values(
    tmp_path, names, indices, has_file
):
    root = masked(tmp_path, names=names)  # the values 1 and 2
    if not has_file:
        (root / "classes.txt").unlink()
    found = read("split", root, classes=None if has_file else names)
    assert found.classes == ["background", "cat", "dog"]
    assert found.palette.indices == indices
    found.images[0].size = (48, 64)
    mask = indices_of(found.images[0], found.palette)
    assert (mask[:20] == indices[1]).all()
    assert (mask[20:] == indices[2]).all()


def test_background_comes_first(tmp_path):
    file = text(tmp_path / "labelmap.txt", "cat:1,2,3::\nbackground:0,0,0::\n")
    assert read_palette(file)[0] == ["background", "cat"]
    file = text(tmp_path / "labelmap.txt", "void:0,0,0::\ncat:1,2,3::\n")
    assert read_palette(file)[0] == ["void", "cat"]


def test_every_name_of_the_background_is_the_background(tmp_path):
    file = text(tmp_path / "labelmap.txt", "cat:1,2,3::\n_background_:0,0,0::\n")
    assert read_palette(file)[0] == ["background", "cat"]
    file = text(
        tmp_path / "labelmap.txt", "_background_:0,0,10::\ncat:0,0,1::\n__background__:0,0,0::\n"
    )
    names, palette = read_palette(file)
    assert names == ["background", "cat"]
    assert palette.indices == {0: 0, 1: 1, 10: 0, VOID: 255}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("cat\n", "the line 'cat' has no color"),
        ("cat:1,2::\n", "has no color"),
        ("cat:1,2,300::\n", "has no name or no color"),
        ("cat:1,2,3::\ncat:1,2,4::\n", "cat occurs twice"),
        ("cat:1,2,3::\ndog:1,2,3::\n", r"\(1, 2, 3\) occurs twice"),
    ],
)
def test_faulty_palettes_are_refused(tmp_path, lines, problem):
    with pytest.raises(DataError, match=problem):
        read_palette(text(tmp_path / "labelmap.txt", lines))


def test_missing_palette_masks_and_images_are_named(tmp_path):
    with pytest.raises(DataError, match=r"labelmap\.txt does not exist.*prepare\.palette=FILE"):
        read("color_masks", tmp_path)
    text(tmp_path / "labelmap.txt", LABELMAP)
    with pytest.raises(DataError, match="SegmentationClass contains no mask"):
        read("color_masks", tmp_path)
    cvat(tmp_path, "a", "b", "c")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(DataError) as caught:
        read("color_masks", tmp_path)
    assert "masks without an image: 1 (first: a)" in str(caught.value)
    assert "images without a mask in SegmentationClass: 1 (first: b)" in str(caught.value)


def test_damaged_table_of_colors_is_refused(tmp_path):
    file = text(tmp_path / "colors.csv", "name,r,g,b\n" + "x" * 200_000 + ",1,2,3\n")
    with pytest.raises(DataError, match=r"colors\.csv:2 is not CSV \(field larger"):
        read_palette(file)


def test_message_names_the_key_of_the_palette(tmp_path):
    cvat(tmp_path / "set", "a", labelmap="cat\n")
    with pytest.raises(DataError, match=r"^prepare\.input: \S+labelmap\.txt: the line 'cat'"):
        read("color_masks", tmp_path / "set")
    file = tmp_path / "colors.txt"
    for content, problem in ((b"cat\n", "the line 'cat'"), (b"\xff", "is not UTF-8 text")):
        file.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read("color_masks", tmp_path / "set", palette=file)
        assert is_like(str(caught.value), f"prepare.palette: {file}…{problem}")
    with pytest.raises(DataError, match=r"^prepare\.palette: \S+ cannot be read"):
        read("color_masks", tmp_path / "set", palette=tmp_path)


def test_long_lines_are_shortened_in_messages(tmp_path):
    file = text(tmp_path / "labelmap.txt", "x" * 5000)
    with pytest.raises(DataError, match=r"x\.\.\. has no color") as raised:
        read_palette(file)
    assert len(str(raised.value)) < 1000
