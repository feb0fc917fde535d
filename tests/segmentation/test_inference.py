import itertools

import pytest
import torch
from torch.nn import functional

from parcnet_train.data.resizing import LETTERBOX_COLOR
from parcnet_train.segmentation.inference import classes_of_windows, logits_of_scales, spans


def colours(images):
    """Classify red, green and blue pixels."""
    return 9 * images


def left_to_right(images):
    """Return logits that depend on the column of the input."""
    columns = torch.arange(images.shape[3]).expand(len(images), 1, *images.shape[2:]).float()
    return torch.cat([columns, images.shape[3] - 1 - columns], dim=1)


def test_a_single_scale_returns_the_logits_of_the_network():
    images = torch.rand(2, 3, 64, 96)
    assert torch.equal(logits_of_scales(colours, images, [1.0], mirror=False), 9 * images)


def test_several_scales_average_probabilities():
    images = torch.rand(2, 3, 64, 96)
    mean = 0
    for size in ((32, 64), (64, 96), (96, 128)):  # half of 96 goes to 64, 1.5 times 64 to 96
        logits = colours(functional.interpolate(images, size, mode="bilinear"))
        mean = mean + functional.interpolate(logits.softmax(1), (64, 96), mode="bilinear") / 3
    found = logits_of_scales(colours, images, [0.5, 1.0, 1.4], mirror=False).exp()
    torch.testing.assert_close(found, mean)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_class_of_probability_0_has_a_finite_logit(mirror):
    """Its probability is 0 in float32; upsampling -inf would give NaN."""
    found = logits_of_scales(lambda images: 1e4 * images, torch.rand(1, 3, 32, 32), [0.5], mirror)
    assert found.isfinite().all()


@pytest.mark.parametrize(("scales", "mirror"), [([1.0], True), ([1.0, 2.0], False)])
def test_images_of_scale_1_keep_their_size(scales, mirror):
    seen = []
    images = torch.rand(1, 3, 48, 80)  # multiples of 16, not of 32
    logits_of_scales(lambda x: seen.append(x) or x, images, scales, mirror)
    assert torch.equal(seen[0], images)
    assert seen[1].shape[2:] == ((48, 80) if mirror else (96, 160))


def test_mirrored_images_are_mirrored_back():
    images = torch.rand(1, 3, 32, 32)
    plain = colours(images).softmax(1)
    torch.testing.assert_close(logits_of_scales(colours, images, [1.0], mirror=True).exp(), plain)
    # Whatever depends only on the side cancels out.
    both = logits_of_scales(left_to_right, images, [1.0], mirror=True).exp()
    torch.testing.assert_close(both, torch.full_like(both, 0.5))


@pytest.mark.parametrize(
    ("length", "window"), [(64, 64), (65, 64), (128, 64), (1000, 64), (97, 32)]
)
def test_windows_cover_every_pixel_once(length, window):
    found = spans(length, window)
    assert found[0].kept.start == 0
    assert found[-1].kept.stop == length
    for span, following in itertools.pairwise(found):
        assert span.kept.stop == following.kept.start
        assert span.start + window - following.start >= window // 3
    for span in found:
        assert span.start <= span.kept.start < span.kept.stop <= span.start + window


@pytest.mark.parametrize("size", [(64, 64), (150, 97), (20, 100), (30, 31)])
def test_windows_classify_every_pixel_at_its_position(size):
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    found = classes_of_windows(lambda part: part.float(), image, (64, 32))
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), image.float().argmax(dim=0))


def test_small_images_are_padded_with_gray():
    seen = []
    image = torch.full((3, 20, 40), 7, dtype=torch.uint8)
    classes_of_windows(lambda part: seen.append(part) or part.float(), image, (32, 32))
    for part, width in zip(seen, (32, 32), strict=True):
        assert (part.shape, part.dtype) == ((1, 3, 32, 32), torch.uint8)
        assert (part[..., :20, :width] == 7).all()
        assert (part[..., 20:, :] == LETTERBOX_COLOR).all()
