import cv2
import numpy as np
import pytest
import torch

from painting import GREY, HEIGHT, WIDTH, extent, image
from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.segmentation.palette import voc_palette
from parcnet_train.visualize.class_maps import OPACITY, draw_classes, segmentation_pairs
from parcnet_train.visualize.pictures import LONGER_SIDE, WHITE

NAMES = ["background", "cat", "dog"]
TALL = LONGER_SIDE * HEIGHT // WIDTH  # pixels of height of a picture, below which is the legend


def over(label, colour=GREY):
    """A colour under that of a class."""
    mixed = OPACITY * voc_palette()[label] + (1 - OPACITY) * np.array(colour)
    return mixed.round().astype(np.uint8)


def mask(*rectangles, fill=0):
    """Class indices: of rectangles `(label, left, top, right, bottom)`, and of the rest."""
    made = np.full((HEIGHT, WIDTH), fill, dtype=np.uint8)
    for label, left, top, right, bottom in rectangles:
        made[top:bottom, left:right] = label
    return made


def legend_has(picture, label):
    return (picture[TALL:] == voc_palette()[label]).all(axis=-1).sum() > 100


def test_each_class_has_its_colour_over_the_image():
    original = image()
    picture = draw_classes(original, mask((1, 10, 20, 40, 50), (2, 60, 0, 120, 60)), NAMES)
    # Four times as large; the last pixels of the enlarged rectangles included.
    assert extent(picture[:TALL], over(1)) == [40, 80, 159, 199]
    assert extent(picture[:TALL], over(2)) == [240, 0, 479, 239]
    assert (picture[:80, :240] == over(0)).all()
    assert (original == GREY).all()


def test_ignored_pixels_show_the_image_under_lines():
    picture = draw_classes(image(), mask((1, 0, 0, 60, 60), fill=IGNORED), NAMES)
    right = picture[:TALL, 240:]
    plain, black = (right == GREY).all(axis=-1), (right == 0).all(axis=-1)
    assert (plain | black).all()
    assert 0.05 < black.mean() < 0.3


def test_the_legend_names_what_is_seen():
    picture = draw_classes(image(), mask((2, 10, 20, 40, 50)), NAMES)
    assert [legend_has(picture, label) for label in (1, 2)] == [False, True]
    with_line = draw_classes(image(), mask((2, 10, 20, 40, 50), (IGNORED, 0, 0, 1, 60)), NAMES)
    assert with_line.shape == picture.shape
    assert not (with_line[TALL:] == picture[TALL:]).all()  # for the ignored pixels
    alone = draw_classes(image(), mask(fill=2), NAMES)
    # Letters reach below their line, and nothing of them is cut off.
    assert (alone[-1] == WHITE).all()
    assert (alone[TALL:, 24:60] != WHITE).any()


@pytest.mark.parametrize("shape", [(60, 120), (400, 150)])
def test_a_legend_of_many_classes_has_as_many_lines_as_it_needs(shape):
    names = [f"a class of number {number}" for number in range(30)]
    classes = np.arange(30, dtype=np.uint8)[:, None]
    classes = cv2.resize(classes, shape[::-1], interpolation=cv2.INTER_NEAREST)
    picture = draw_classes(image(), classes, names)
    legend = picture[round(LONGER_SIDE * shape[0] / max(shape)) :]
    for colour in voc_palette()[:30]:
        assert (legend == colour).all(axis=-1).sum() >= 12 * 12
    assert (legend[:, -1] == WHITE).all()  # no name is cut off


def test_a_picture_may_be_narrower_than_a_name():
    assert draw_classes(image(), np.zeros((300, 2), np.uint8), NAMES).shape[1] == 3


def segmentation_batch():
    """An empty place and two images of other proportions, stretched and in the middle of grey."""
    images = torch.full((3, 3, 64, 64), 200, dtype=torch.uint8)
    images[1] = images[2, :, 16:48] = GREY[0]
    truth = torch.from_numpy(mask((1, 10, 20, 40, 50)))
    return SegmentationBatch(
        images=images,
        masks=torch.zeros(3, 64, 64, dtype=torch.uint8),
        samples=torch.tensor([PADDING, 0, 3]),
        placements=torch.tensor(
            [[1, 1, 0, 0], [64 / 120, 64 / 60, 0, 0], [64 / 120, 64 / 120, 0, 16]]
        ),
        originals=[torch.full((1, 1), IGNORED, dtype=torch.uint8), truth, truth],
        skipped=torch.tensor(0),
    )


def test_truth_and_prediction_lie_over_the_image_alone():
    batch = segmentation_batch()
    same = [each.long() for each in batch.originals]
    other = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    other[:, 60:] = 2
    pairs = list(segmentation_pairs(batch, [same[0], same[1], other], NAMES))
    assert len(pairs) == 2  # the empty place is none
    for truth, _ in pairs:
        assert extent(truth[:TALL], over(1)) == [40, 80, 159, 199]
        # What fills up the network's input is cut off.
        assert (truth[:80] == over(0)).all()
        assert (truth[200:TALL] == over(0)).all()
    np.testing.assert_array_equal(*pairs[0])
    found = pairs[1][1]
    assert extent(found[:TALL], over(2)) == [240, 0, 479, 239]
    assert [legend_has(found, label) for label in (1, 2)] == [False, True]
