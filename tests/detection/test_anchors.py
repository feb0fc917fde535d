import math

import pytest
import torch

from parcnet_train.detection.anchors import anchors_per_cell, make_anchors

PUBLISHED = (
    (20, 20),
    (10, 10),
    (5, 5),
    (3, 3),
    (2, 2),
    (1, 1),
)  # feature sizes of 320 x 320 pixels
# The small and the big square of each level, as the authors' release prints them.
SQUARES = (
    (0.1, 0.16073),
    (0.2583, 0.32808),
    (0.4167, 0.48947),
    (0.575, 0.64936),
    (0.7333, 0.80863),
    (0.8917, 0.96760),
)


def defined(map_sizes):
    """Compute center, width and height of all anchors one by one, in float64."""
    levels = len(map_sizes)
    scale = [0.1 + 0.95 * level / levels for level in range(levels + 1)]
    anchors = []
    for level, (height, width) in enumerate(map_sizes):
        small, big = scale[level], math.sqrt(scale[level] * scale[level + 1])
        sides = [(small, small), (big, big)]
        for ratio in (2, 3) if level < levels - 1 else (2,):
            sides.append((small * ratio**0.5, small / ratio**0.5))
            sides.append((small / ratio**0.5, small * ratio**0.5))
        for row in range(height):
            for column in range(width):
                centre = ((column + 0.5) / width, (row + 0.5) / height)
                anchors += [[min(n, 1.0) for n in (*centre, *side)] for side in sides]
    return torch.tensor(anchors, dtype=torch.float64)


@pytest.mark.parametrize(
    "map_sizes", [PUBLISHED, ((4, 10), (2, 5), (1, 3)), ((1, 1),), ((5, 2), (7, 1))], ids=str
)
def test_anchors_match_their_definition(map_sizes):
    anchors = make_anchors(map_sizes)
    assert anchors.dtype == torch.float32
    torch.testing.assert_close(anchors.double(), defined(map_sizes), atol=1e-6, rtol=0)


def test_anchors_match_published_number_and_sizes():
    anchors = make_anchors(PUBLISHED)
    assert len(anchors) == 3232
    counts = [anchors_per_cell(6)[level] * h * w for level, (h, w) in enumerate(PUBLISHED)]
    assert counts == [2400, 600, 150, 54, 24, 4]
    firsts = [part[:2, 2:] for part in anchors.split(counts)]
    expected = torch.tensor(SQUARES)[..., None].expand(-1, -1, 2)
    torch.testing.assert_close(torch.stack(firsts), expected, atol=5e-5, rtol=0)


def test_wide_boxes_come_before_tall_ones():
    _, _, wide, high, wider, higher = make_anchors(((1, 1), (1, 1)))[:6, 2:].tolist()
    assert wide == high[::-1]
    assert wider == higher[::-1]
    assert wide[0] / wide[1] == pytest.approx(2)
    assert wider[0] / wider[1] == pytest.approx(3)


def test_boxes_are_no_larger_than_the_image():
    last = make_anchors(PUBLISHED)[-2:]  # 2:1 and 1:2, whose long side is above 1 by the formula
    assert last.tolist() == [[0.5, 0.5, 1.0, last[0, 3].item()], [0.5, 0.5, last[1, 2].item(), 1.0]]


def test_an_evaluation_leaves_no_inference_tensors():
    with torch.inference_mode():
        make_anchors(PUBLISHED)
    assert not make_anchors(PUBLISHED).is_inference()


def test_smallest_anchor_scales_the_squares():
    anchors = make_anchors(PUBLISHED, smallest=0.4)
    assert anchors[0, 2:].tolist() == pytest.approx([0.4, 0.4])
    # The scales of the levels are evenly spaced up to 1.05.
    assert anchors[2400, 2:].tolist() == pytest.approx([0.4 + 0.65 / 6] * 2)
