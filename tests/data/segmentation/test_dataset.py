"""Images with masks: samples, batches, and memory of workers."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from parcnet_train.data.batches import PADDING
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation import dataset as masked_images
from parcnet_train.data.segmentation.dataset import MaskedImage, MaskedImages, collate
from parcnet_train.data.segmentation.label_checks import MaskValues
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.data.segmentation.transforms import SegmentationEvalTransform, unchanged
from parcnet_train.data.segmentation.voc_files import find_files
from parcnet_train.errors import DataError, UnreadableError
from voc_files import NAMES, TRAIN, image_path, mask_of, mask_path


def make_set(root, split="train", on_error="stop", transform=unchanged, originals=True, **settings):
    file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    files = find_files(file, root, "JPEGImages", "SegmentationClass")
    return MaskedImages(
        *files, root, MaskValues(len(NAMES)), transform, on_error, originals, **settings
    )


def key(sample, size=(32, 32)):
    return SampleKey(sample, 0, size)


def test_sample_has_the_image_and_mask_of_its_name(voc_folder):
    dataset = make_set(voc_folder)
    assert len(dataset) == 4
    for number, name in enumerate(TRAIN):
        sample = dataset[key(number)]
        image = cv2.imread(str(image_path(voc_folder, name)), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(sample.image.permute(1, 2, 0), image)
        assert np.array_equal(sample.mask, mask_of(name))  # with and without a palette
        assert torch.equal(sample.original, sample.mask)
        assert (sample.mask.dtype, sample.placement.dtype) == (torch.uint8, torch.float32)
        assert sample.placement.tolist() == [1, 1, 0, 0]
        assert sample.sample == number


def test_originals_are_not_resized(voc_folder):
    sample = make_set(voc_folder, transform=SegmentationEvalTransform(False))[key(1, (16, 24))]
    assert (sample.image.shape, sample.mask.shape) == ((3, 16, 24), (16, 24))
    assert np.array_equal(sample.original, mask_of("b"))
    assert sample.placement.tolist() == [24 / 48, 16 / 64, 0, 0]
    assert make_set(voc_folder, originals=False)[key(1)].original is None


@pytest.mark.parametrize("what", ["image", "mask"])
def test_unreadable_files_raise_or_are_skipped(voc_folder, what):
    path = {"image": image_path, "mask": mask_path}[what](voc_folder, "b")
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=rf"{path.name} cannot be read as .*repair or remove it"):
        make_set(voc_folder)[key(1)]
    assert make_set(voc_folder, on_error="skip")[key(1)] is None


def test_unreadable_image_error_suggests_on_error_skip(voc_folder):
    image_path(voc_folder, "b").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"data\.on_error=skip"):
        make_set(voc_folder)[key(1)]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_mask_of_another_size_than_its_image_is_refused(voc_folder, on_error):
    write_mask(mask_path(voc_folder, "b"), mask_of("b")[:, 1:])
    with pytest.raises(DataError) as raised:
        make_set(voc_folder, on_error=on_error)[key(1)]
    message = str(raised.value)
    assert message.startswith(f"{voc_folder}/SegmentationClass/b.png has 47x64 pixels")
    assert f"{voc_folder}/JPEGImages/b.png has 48x64" in message


def test_exif_orientation_is_applied(voc_folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated clockwise when displayed
    Image.new("RGB", (56, 40)).save(image_path(voc_folder, "a"), exif=exif)
    with pytest.raises(DataError, match=r"has 56x40 .* 40x56 .*rotate the mask too"):
        make_set(voc_folder)[key(0)]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("values", "words"),
    [([3], "3"), ([254, 4], "4, 254"), (range(9, 30), "9, 10, 11, 12, 13, ...")],
)
def test_unknown_classes_in_a_mask_are_refused(voc_folder, on_error, values, words):
    mask = mask_of("a")
    mask[5, : len(values)] = values
    write_mask(mask_path(voc_folder, "a"), mask)
    with pytest.raises(DataError) as raised:
        make_set(voc_folder, on_error=on_error)[key(0)]
    message = str(raised.value)
    assert message.startswith(f"{voc_folder}/SegmentationClass/a.png has pixels of class {words}; ")
    assert "expected 0 to 2, or 255" in message
    assert "classes.txt" in message


def test_image_with_too_many_pixels_raises_or_is_skipped(voc_folder):
    assert make_set(voc_folder, max_pixels=40 * 56)[key(0)] is not None
    with pytest.raises(UnreadableError, match=r"a\.jpg .*56x40.*data\.max_pixels=2239"):
        make_set(voc_folder, max_pixels=2239)[key(0)]
    assert make_set(voc_folder, on_error="skip", max_pixels=2239)[key(0)] is None


def test_padding_sample_is_black_and_reads_no_file(voc_folder, monkeypatch):
    monkeypatch.setattr(masked_images, "read_image", None)
    place = make_set(voc_folder)[key(PADDING, (24, 40))]
    assert (place.image.shape, place.image.dtype) == ((3, 24, 40), torch.uint8)
    assert not place.image.any()
    assert (place.mask == 255).all()
    assert place.original.tolist() == [[255]]
    assert place.sample == PADDING
    assert make_set(voc_folder, originals=False)[key(PADDING)].original is None


def masked(sample, value=1, original=None):
    """Return a sample of one color and class."""
    return MaskedImage(
        torch.full((4, 5, 3), value, dtype=torch.uint8).permute(2, 0, 1),
        torch.full((4, 5), value, dtype=torch.uint8),
        sample,
        torch.tensor([2.0, 3.0, 4.0, 5.0]),
        original,
    )


def test_evaluation_batch_has_original_masks_of_different_sizes():
    originals = [torch.ones(3, 4, dtype=torch.uint8), torch.ones(9, 2, dtype=torch.uint8)]
    batch = collate([masked(7, 1, originals[0]), masked(2, 9, originals[1])])
    assert batch.images.shape == (2, 3, 4, 5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.masks.flatten(1).unique(dim=1).tolist() == [[1], [9]]
    assert batch.samples.tolist() == [7, 2]
    assert batch.placements.tolist() == [[2, 3, 4, 5]] * 2
    assert all(map(torch.equal, batch.originals, originals))
    assert batch.skipped == 0
    dtypes = [batch.images.dtype, batch.masks.dtype, batch.samples.dtype, batch.placements.dtype]
    assert dtypes == [torch.uint8, torch.uint8, torch.int64, torch.float32]


def test_unreadable_samples_are_padded_or_replaced():
    whole = torch.ones(2, 2, dtype=torch.uint8)
    batch = collate([masked(7, 1, whole), None, masked(3, 9, whole)])
    assert batch.samples.tolist() == [7, 3, PADDING]
    assert batch.masks[:, 0, 0].tolist() == [1, 9, 255]
    assert [each.shape for each in batch.originals] == [(2, 2), (2, 2), (1, 1)]
    assert batch.originals[2] == 255
    assert batch.skipped == 1
    filled = collate([masked(7), None, masked(3, 9)], fill=True)
    assert filled.samples.tolist() == [7, 3, 7]
    assert filled.masks[:, 0, 0].tolist() == [1, 9, 1]
    assert filled.originals == []
    assert filled.skipped == 1
    with pytest.raises(DataError, match="all 2 images of a batch are unreadable"):
        collate([None, None])


def test_unreadable_image_in_a_batch_of_one_is_padded():
    batch = collate([None], alone=(3, 6, 8))
    assert batch.images.shape == (1, 3, 6, 8)
    assert (batch.masks == 255).all()
    assert [each.tolist() for each in batch.originals] == [[[255]]]
    assert batch.samples.tolist() == [PADDING]
    assert batch.skipped == 1
    assert collate([masked(4)], alone=(3, 6, 8)).images.shape == (1, 3, 4, 5)


def test_data_set_holds_only_arrays(voc_folder):
    dataset = make_set(voc_folder)
    for value in vars(dataset).values():
        if isinstance(value, np.ndarray):
            assert (value.dtype.kind, len(value)) == ("S", 4)
        else:
            assert not hasattr(value, "__len__") or isinstance(value, str)
