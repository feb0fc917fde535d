import cv2
import numpy as np
import pytest
import torch

from painting import GRAY, HEIGHT, WIDTH, extent, image
from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.data.segmentation.palette import voc_palette
from parcnet_train.visualize.class_maps import OPACITY, draw_classes, segmentation_pairs
from parcnet_train.visualize.pictures import LONGER_SIDE, WHITE

NAMES = ["background", "cat", "dog"]
TALL = LONGER_SIDE * HEIGHT // WIDTH  # height of a picture, in pixels; the legend is below


def over(label, color=GRAY):
    """Blend a color of the image with the color of a class."""
    mixed = OPACITY * voc_palette()[label] + (1 - OPACITY) * np.array(color)
    return mixed.round().astype(np.uint8)


def mask(*rectangles, fill=0):
    """Build a mask from rectangles `(label, left, top, right, bottom)`; the rest is `fill`."""
    made = np.full((HEIGHT, WIDTH), fill, dtype=np.uint8)
    for label, left, top, right, bottom in rectangles:
        made[top:bottom, left:right] = label
    return made


def legend_has(picture, label):
    return (picture[TALL:] == voc_palette()[label]).all(axis=-1).sum() > 100


def test_each_class_has_its_color_over_the_image():
    original = image()
    picture = draw_classes(original, mask((1, 10, 20, 40, 50), (2, 60, 0, 120, 60)), NAMES)
    # Four times as large, including the last pixels of the upsampled rectangles.
    assert extent(picture[:TALL], over(1)) == [40, 80, 159, 199]
    assert extent(picture[:TALL], over(2)) == [240, 0, 479, 239]
    assert (picture[:80, :240] == over(0)).all()
    assert (original == GRAY).all()


def test_ignored_pixels_are_hatched():
    picture = draw_classes(image(), mask((1, 0, 0, 60, 60), fill=IGNORED), NAMES)
    right = picture[:TALL, 240:]
    plain, black = (right == GRAY).all(axis=-1), (right == 0).all(axis=-1)
    assert (plain | black).all()
    assert 0.05 < black.mean() < 0.3


def test_legend_lists_the_visible_classes():
    picture = draw_classes(image(), mask((2, 10, 20, 40, 50)), NAMES)
    assert [legend_has(picture, label) for label in (1, 2)] == [False, True]
    with_line = draw_classes(image(), mask((2, 10, 20, 40, 50), (IGNORED, 0, 0, 1, 60)), NAMES)
    assert with_line.shape == picture.shape
    assert not (with_line[TALL:] == picture[TALL:]).all()  # because of the ignored pixels
    alone = draw_classes(image(), mask(fill=2), NAMES)
    # Letters reach below their line and are not cut off.
    assert (alone[-1] == WHITE).all()
    assert (alone[TALL:, 24:60] != WHITE).any()


@pytest.mark.parametrize("shape", [(60, 120), (400, 150)])
def test_long_legend_is_broken_into_lines(shape):
    names = [f"a class of number {number}" for number in range(30)]
    classes = np.arange(30, dtype=np.uint8)[:, None]
    classes = cv2.resize(classes, shape[::-1], interpolation=cv2.INTER_NEAREST)
    picture = draw_classes(image(), classes, names)
    legend = picture[round(LONGER_SIDE * shape[0] / max(shape)) :]
    for color in voc_palette()[:30]:
        assert (legend == color).all(axis=-1).sum() >= 12 * 12
    assert (legend[:, -1] == WHITE).all()  # no name is cut off


def test_picture_narrower_than_a_class_name_is_drawn():
    assert draw_classes(image(), np.zeros((300, 2), np.uint8), NAMES).shape[1] == 3


def segmentation_batch():
    """A padding sample and two images of other aspect ratios, stretched, and centered on gray."""
    images = torch.full((3, 3, 64, 64), 200, dtype=torch.uint8)
    images[1] = images[2, :, 16:48] = GRAY[0]
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


def test_ground_truth_and_prediction_cover_the_image_without_its_padding():
    batch = segmentation_batch()
    same = [each.long() for each in batch.originals]
    other = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    other[:, 60:] = 2
    pairs = list(segmentation_pairs(batch, [same[0], same[1], other], NAMES))
    assert len(pairs) == 2  # without the padding sample
    for truth, _ in pairs:
        assert extent(truth[:TALL], over(1)) == [40, 80, 159, 199]
        # The padding of the network's input is cut off.
        assert (truth[:80] == over(0)).all()
        assert (truth[200:TALL] == over(0)).all()
    np.testing.assert_array_equal(*pairs[0])
    found = pairs[1][1]
    assert extent(found[:TALL], over(2)) == [240, 0, 479, 239]
    assert [legend_has(found, label) for label in (1, 2)] == [False, True]
