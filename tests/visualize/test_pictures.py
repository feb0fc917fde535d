import cv2
import numpy as np
import pytest

from painting import GRAY, HEIGHT, WIDTH, extent, image
from parcnet_train.visualize.pictures import LARGEST, LONGER_SIDE, WHITE, encode, grid, resize


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (None, (LONGER_SIDE * HEIGHT // WIDTH, LONGER_SIDE)),
        ((300, 200), (LONGER_SIDE, LONGER_SIDE * 2 // 3)),
        ((9000, 3), (LONGER_SIDE, 1)),
    ],
)
def test_longer_side_of_pictures_is_fixed(shape, expected):
    assert resize(image(), shape).shape == (*expected, 3)
    assert (resize(image(), shape) == GRAY).all()


def test_grid_has_one_row_per_pair_with_ground_truth_on_the_left():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    red, green, blue, yellow = map(image, colors)
    shown = grid([(red, green), (blue, yellow[:30])])
    red, green, blue, yellow = (extent(shown, color) for color in colors)
    assert red[0] == blue[0] < green[0] == yellow[0]
    assert red[1] == green[1] < blue[1] == yellow[1]
    assert yellow[3] - yellow[1] == 29
    assert shown[0, 0].tolist() == list(WHITE)


@pytest.mark.parametrize("count", [134, 135, 1000])
def test_grid_of_many_pairs_fits_a_jpeg_file(count):
    picture = np.full((LONGER_SIDE, 1, 3), GRAY, np.uint8)
    last = np.full((LONGER_SIDE, 1, 3), (200, 0, 0), np.uint8)
    shown = grid([(picture, picture)] * (count - 1) + [(picture, last)])
    assert max(shown.shape) <= LARGEST
    assert (shown[24:] == GRAY).all(axis=2).sum() == (2 * count - 1) * LONGER_SIDE
    assert (shown == (200, 0, 0)).all(axis=2).sum() == LONGER_SIDE
    read = cv2.imdecode(np.frombuffer(encode(shown), dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    assert read.shape == shown.shape


@pytest.mark.parametrize("shape", [(LARGEST + 1, 2, 3), (1, 2 * LARGEST, 3), (LARGEST, 1, 3)])
def test_oversized_picture_is_scaled_down_to_a_valid_file(shape):
    content = np.frombuffer(encode(np.full(shape, GRAY, np.uint8)), dtype=np.uint8)
    height, width, _ = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB).shape
    assert max(height, width) == LARGEST


def test_files_keep_the_order_of_the_channels():
    content = np.frombuffer(encode(image((200, 30, 60))), dtype=np.uint8)
    read = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(read[5, 5], [200, 30, 60], atol=4)
