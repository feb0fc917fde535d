"""Quality of a segmentation on a page."""

import numpy as np
import pytest
import torch

from parcnet_train.data.batches import IGNORED, PADDING, SegmentationBatch
from parcnet_train.pages.parts import MOST_IMAGES
from parcnet_train.pages.segmentation import (
    AT_BOUNDARY,
    ELSEWHERE,
    Collector,
    Example,
    Found,
    beside,
    draw_errors,
    evaluated,
    examples,
    quality,
)


class Data:
    class_names = ("road", "sky")


def truth_of(size=40):
    """Class 1 on the right half."""
    truth = torch.zeros(size, size, dtype=torch.uint8)
    truth[:, size // 2 :] = 1
    return truth


def update(collector, wrong, samples):
    """Add images of which this many pixels are wrong, in the first row."""
    truth = [truth_of() for _ in wrong]
    found = [each.clone() for each in truth]
    for classes, count in zip(found, wrong, strict=True):
        classes[0, :count] = 2
    nothing = torch.zeros(len(wrong), 4)
    batch = SegmentationBatch(nothing, nothing, torch.tensor(samples), nothing, truth, 0)
    collector.update(batch, {"classes": found})


def test_best_and_worst_images_are_kept():
    collector = Collector()
    counts = [(7 * n) % 20 for n in range(20)]  # every number once
    for number in range(0, 20, 2):
        update(collector, counts[number : number + 2], [number, number + 1])
    update(collector, [40], [PADDING])
    for kept, order in ((collector.best, range(20)), (collector.worst, range(19, -1, -1))):
        assert [each.sample for each in kept] == [counts.index(n) for n in order][:MOST_IMAGES]
    assert round(collector.best[3].wrong * 1600, 3) == 3
    assert int((collector.worst[0].found == 2).sum()) == 19
    assert collector.by_distance.sum(axis=0).tolist() == [20 * 1600, sum(counts)]


def test_images_without_labels_are_no_examples():
    collector = Collector()
    nothing = torch.zeros(1, 4)
    truth = [torch.full((4, 4), IGNORED, dtype=torch.uint8)]
    batch = SegmentationBatch(nothing, nothing, torch.tensor([0]), nothing, truth, 0)
    collector.update(batch, {"classes": [torch.zeros(4, 4, dtype=torch.uint8)]})
    assert (collector.best, collector.measured) == ([], 0)


def test_errors_have_the_color_of_their_distance():
    truth = truth_of(480).numpy()
    found = truth.copy()
    found[100:110, 238:242] = 2  # at the boundary
    found[300:310, 50:60] = 2
    truth[400:410, 50:60], found[400:410, 50:60] = IGNORED, 2
    picture = draw_errors(np.zeros((480, 480, 3), np.uint8), truth, found)
    assert tuple(picture[105, 240]) == AT_BOUNDARY
    assert tuple(picture[305, 55]) == ELSEWHERE
    assert tuple(picture[405, 55]) == tuple(picture[0, 0]) == (150, 150, 150)


def test_page_names_the_worst_class_and_the_errors_at_boundaries():
    confusion = np.array([[90, 10], [30, 70]])
    by_distance = np.array([[50, 25], [50, 5], [100, 10], [0, 0], [0, 0], [0, 0]])
    each = evaluated(Found(confusion, by_distance, 3, [], []), None, Data)
    iou, matrix, boundary = quality(each)
    assert iou.table.rows[0] == ["sky", "100", "63.6 %", "87.5 %", "70.0 %"]  # 70 / 110
    assert "of sky, predicted as road: 30.0 % of it" in matrix.text
    assert "in 3 images. 75 % of the errors are closer than 4 pixels, where 50 %" in boundary.text
    assert boundary.table.rows[0] == ["0 to 2", "50", "25", "50.0 %"]
    assert examples(each, 2, Data) == []


def test_no_error_is_named_without_one():
    by_distance = np.array([[50, 0], *[[0, 0]] * 5])
    found = Found(np.diag([90, 70]), by_distance, 3, [], [])
    _, matrix, boundary = quality(evaluated(found, None, Data))
    assert matrix.text == "Shares of the pixels of a class, all classes."
    assert boundary.text.endswith("in 3 images.")


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_examples_of_any_channels_show_every_image_once(channels):
    classes = truth_of(8).numpy()
    view = type("View", (), {"image": np.zeros((8, 8, channels), np.uint8), "mask": classes})
    names = np.array([b"a.png", b"b.png", b"c.png"])
    methods = {"read": lambda _, __: view, "files": lambda _: names, "__len__": lambda _: 3}
    data = type("Data", (Data,), {"val_set": type("Set", (), methods)()})
    right, wrong, worse = (Example(share, n, classes) for n, share in enumerate((0.0, 0.1, 0.2)))
    found = Found(np.eye(2), np.ones((6, 2)), 3, [right, wrong, worse], [worse, wrong, right])
    best, worst = examples(evaluated(found, None, data), 2, data)
    assert [each.caption.partition(":")[0] for each in best.drawings] == ["a.png", "b.png"]
    assert [each.caption.partition(":")[0] for each in worst.drawings] == ["c.png"]
    assert len(examples(evaluated(found, None, data), 3, data)) == 1


def test_panels_stand_beside_each_other():
    picture = beside([np.zeros((3, 4, 3), np.uint8), np.zeros((5, 6, 3), np.uint8)])
    assert picture.shape == (5, 18, 3)
    assert picture[4, 0].tolist() == [255] * 3
