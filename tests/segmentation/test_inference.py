import itertools

import pytest
import torch
from torch.nn import functional

from parcnet_train.segmentation.inference import classes_of_windows, logits_of_scales, spans


def colours(images):
    """A network that knows red, green and blue pixels."""
    return 9 * images


def left_to_right(images):
    """A network whose classes depend on the column of its input."""
    columns = torch.arange(images.shape[3]).expand(len(images), 1, *images.shape[2:]).float()
    return torch.cat([columns, images.shape[3] - 1 - columns], dim=1)


def test_one_scale_is_the_network_itself():
    images = torch.rand(2, 3, 64, 96)
    assert torch.equal(logits_of_scales(colours, images, [1.0], mirror=False), 9 * images)


def test_scales_average_probabilities():
    images = torch.rand(2, 3, 64, 96)
    mean = 0
    for size in ((32, 64), (64, 96), (96, 128)):  # half of 96 goes to 64, 1.5 times 64 to 96
        logits = colours(functional.interpolate(images, size, mode="bilinear"))
        mean = mean + functional.interpolate(logits.softmax(1), (64, 96), mode="bilinear") / 3
    found = logits_of_scales(colours, images, [0.5, 1.0, 1.4], mirror=False).exp()
    torch.testing.assert_close(found, mean)


def test_mirrored_images_are_mirrored_back():
    images = torch.rand(1, 3, 32, 32)
    plain = colours(images).softmax(1)
    torch.testing.assert_close(logits_of_scales(colours, images, [1.0], mirror=True).exp(), plain)
    # What depends on the side alone cancels out.
    both = logits_of_scales(left_to_right, images, [1.0], mirror=True).exp()
    torch.testing.assert_close(both, torch.full_like(both, 0.5))


@pytest.mark.parametrize(
    ("length", "window"), [(64, 64), (65, 64), (128, 64), (1000, 64), (97, 32)]
)
def test_windows_cover_an_axis_once(length, window):
    found = spans(length, window)
    assert found[0].kept.start == 0
    assert found[-1].kept.stop == length
    for span, following in itertools.pairwise(found):
        assert span.kept.stop == following.kept.start
        assert span.start + window - following.start >= window // 3
    for span in found:
        assert span.start <= span.kept.start < span.kept.stop <= span.start + window


@pytest.mark.parametrize("size", [(64, 64), (150, 97), (20, 100), (30, 31)])
def test_windows_see_every_pixel_in_its_place(size):
    image = torch.rand(3, *size)
    found = classes_of_windows(colours, image, (64, 32))
    assert torch.equal(found, image.argmax(dim=0))
