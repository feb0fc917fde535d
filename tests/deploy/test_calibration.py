import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from parcnet_train.deploy.calibration import calibration_images, drawn_from, read_from
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.predict.tasks import ClassPredictor, PixelPredictor

NAMES = ["a", "b"]


class Images:
    """Data set of images of one color each, some of which are unreadable."""

    def __init__(self, number, shape, unreadable=()):
        self.number, self.shape, self.unreadable = number, shape, unreadable

    def __len__(self):
        return self.number

    def original(self, sample):
        if sample in self.unreadable:
            raise UnreadableError(f"{sample}.jpg cannot be read")
        return np.full((*self.shape, 3), sample, np.uint8)


class Network(nn.Module):
    """Network whose logits, of classes or of pixels, do not depend on the image."""

    def __init__(self, is_dense):
        super().__init__()
        self.is_dense, self.weight = is_dense, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        batch, _, height, width = images.shape
        return torch.zeros(batch, len(NAMES), *([height, width] if self.is_dense else []))


def calibrated(dataset, count, predictor=None, may_skip=False):
    predictor = predictor or ClassPredictor(NAMES, (8, 16))
    network = Network(isinstance(predictor, PixelPredictor))
    return calibration_images(drawn_from(dataset, may_skip), predictor, network, count)


def colors(found):
    return sorted(round(255 * float(each.mean())) for each in found)


def test_images_are_preprocessed_and_drawn_without_repetition():
    found = calibrated(Images(100, (30, 40)), 60)
    assert len(found) == 60
    assert {(each.shape, each.dtype.name) for each in found} == {((1, 3, 8, 16), "float32")}
    assert len(set(colors(found))) == 60
    assert max(colors(found)) > 60  # drawn from the whole data set, which is sorted by class
    assert all(each.flags.c_contiguous for each in found)


def test_small_data_set_gives_all_images():
    assert colors(calibrated(Images(5, (30, 40)), 60)) == [0, 1, 2, 3, 4]


def test_images_are_reproducible():
    first, second = (calibrated(Images(100, (30, 40)), 10) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_unreadable_images_are_skipped_or_an_error():
    dataset = Images(6, (30, 40), unreadable=(1, 4))
    assert colors(calibrated(dataset, 6, may_skip=True)) == [0, 2, 3, 5]
    with pytest.raises(UnreadableError, match=r"\d.jpg cannot be read"):
        calibrated(dataset, 6)


def test_data_set_without_readable_images_is_an_error():
    with pytest.raises(DataError, match=r"export\.precision=int8: no image can be read"):
        calibrated(Images(3, (30, 40), unreadable=(0, 1, 2)), 6, may_skip=True)


def test_images_of_a_folder(tmp_path):
    predictor = ClassPredictor(NAMES, (8, 16))
    for gray in range(0, 200, 10):
        Image.new("RGB", (40, 30), (gray,) * 3).save(tmp_path / f"{gray:03}.png")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8torn")
    images = list(read_from(str(tmp_path), predictor))
    grays = [int(image[0, 0, 0]) for image in images]
    assert sorted(grays) == list(range(0, 200, 10))
    assert grays != sorted(grays)
    with pytest.raises(DataError, match=r"^export\.calibration=.*none: the path does not exist"):
        next(read_from(str(tmp_path / "none"), predictor))


def test_windows_are_cut_out_of_images_at_their_own_size():
    predictor = PixelPredictor(NAMES, (8, 16), evaluation="windows")
    found = calibrated(Images(100, (8, 48)), 7, predictor)
    assert [each.shape for each in found] == [(1, 3, 8, 16)] * 7
    assert len(set(colors(found))) < 7  # several windows per image
