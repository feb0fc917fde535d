"""Sizes, orientations and boxes of a set."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from parcnet_train.data.prepare.annotated import AnnotatedImage, AnnotatedObject, AnnotatedSet
from parcnet_train.data.prepare.settling import settle
from parcnet_train.data.prepare.shapes import draw, encode
from parcnet_train.errors import DataError
from preparing import picture

STORED = (48, 64)


def one(path, *objects, size=None, relative=False):
    image = AnnotatedImage(path.name, path, size=size, objects=list(objects), is_relative=relative)
    return AnnotatedSet(["cat"], [image]), image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_objects_of_the_stored_image_turn_with_it(tmp_path, orientation):
    path = picture(tmp_path / "a.jpg", orientation=orientation)
    mask = np.zeros(STORED, np.uint8)
    mask[4:20, 10:40] = 1
    polygon = (10.0, 4.0, 40.0, 4.0, 40.0, 20.0, 10.0, 20.0)
    box = (10.0, 4.0, 40.0, 20.0)
    things = [
        AnnotatedObject("cat", box, (polygon,)),
        AnnotatedObject("cat", box, (), encode(mask)),
    ]
    found, image = one(path, *things, size=STORED)
    settle(found, "x", "crowd")
    shown = mask
    if orientation > 4:  # others keep the size, so the boxes are those of the image as shown
        with_exif = Image.fromarray(mask)
        with_exif.getexif()[0x0112] = orientation
        shown = np.array(ImageOps.exif_transpose(with_exif))
    assert image.size == shown.shape
    rows, columns = np.nonzero(shown)
    for thing in image.objects:
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert thing.box == pytest.approx(edges)
        assert (draw(thing, shown.shape) == shown).all()


def test_objects_of_the_shown_image_stay(tmp_path):
    path = picture(tmp_path / "a.jpg", orientation=6)
    found, image = one(path, AnnotatedObject("cat", (1, 2, 40, 60)), size=(64, 48))
    settle(found, "x", "crowd")
    assert (image.size, image.objects[0].box) == ((64, 48), (1, 2, 40, 60))


def test_shares_are_those_of_the_shown_image(tmp_path):
    path = picture(tmp_path / "a.jpg", orientation=6)
    thing = AnnotatedObject("cat", (0, 0, 0.5, 0.25), ((0, 0, 0.5, 0, 0.5, 0.25),))
    found, image = one(path, thing, relative=True)
    settle(found, "x", "crowd")
    assert image.objects[0].box == (0, 0, 24, 16)
    assert image.objects[0].polygons == ((0, 0, 24, 0, 24, 16),)


def test_other_sizes_and_unreadable_images_are_counted(tmp_path):
    found, _ = one(picture(tmp_path / "a.png"), size=(10, 20))
    (tmp_path / "b.jpg").write_bytes(b"text")
    found.images += [AnnotatedImage(name, tmp_path / name) for name in ("b.jpg", "c.jpg")]
    with pytest.raises(DataError) as caught:
        settle(found, "prepare.input=x", "crowd")
    lines = str(caught.value).splitlines()
    assert (
        "differs from that in their annotations: 1 (first: a.png: 64x48, annotated 20x10)"
        in (lines[0])
    )
    assert "cannot be read: 2 (first: b.jpg (it is not an image in a supported format)" in lines[1]


def test_boxes_are_clipped_and_empty_ones_left_out(tmp_path, caplog):
    things = [
        AnnotatedObject("cat", box) for box in ((-5, 1, 10, 90), (70, 1, 80, 5), (3, 3, 3, 9))
    ]
    found, image = one(picture(tmp_path / "a.png"), *things)
    settle(found, "prepare.input=x", "crowd")
    assert [each.box for each in image.objects] == [(0, 1, 10, 48)]
    (line,) = caplog.messages
    assert line.startswith(
        "prepare.input=x: objects without an area in their image are left out: 2"
    )


def test_crowds_stay_or_become_objects(tmp_path, caplog):
    def things():
        return [AnnotatedObject("cat", (1, 1, 9, 9), is_crowd=each) for each in (True, False)]

    found, image = one(picture(tmp_path / "a.png"), *things())
    settle(found, "x", "crowd")
    assert [each.is_crowd for each in image.objects] == [True, False]
    assert "crowd or difficult stay so: they are not trained on: 1" in caplog.text
    found, image = one(picture(tmp_path / "a.png"), *things())
    settle(found, "x", "object")
    assert [each.is_crowd for each in image.objects] == [False, False]


def test_set_of_crowds_is_refused(tmp_path):
    thing = AnnotatedObject("cat", (1, 1, 9, 9), is_crowd=True)
    found, _ = one(picture(tmp_path / "a.png"), thing)
    with pytest.raises(DataError, match=r"all 1 objects are marked.*prepare\.crowds=object"):
        settle(found, "x", "crowd")


@pytest.mark.parametrize(("orientation", "size"), [(None, None), (6, STORED)])
@pytest.mark.parametrize(
    "runs", [{"size": [5, 5], "counts": [25]}, {"size": [48, 64], "counts": [9]}], ids=str
)
def test_run_lengths_that_do_not_fit_the_image_are_refused(tmp_path, orientation, size, runs):
    path = picture(tmp_path / "a.jpg", orientation=orientation)
    found, _ = one(path, AnnotatedObject("cat", (1, 1, 5, 5), (), runs), size=size)
    with pytest.raises(DataError, match=r"run lengths do not fit their image: 1 \(first: a\.jpg"):
        settle(found, "x", "crowd")
