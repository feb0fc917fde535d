"""Masks of a source as class indices."""

import numpy as np
import pytest
from PIL import Image

from parcnet_train.data.prepare.annotated import AnnotatedImage, Palette
from parcnet_train.data.prepare.masks import indices_of
from parcnet_train.data.prepare.readers.color_masks import VOID
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.errors import DataError
from preparing import picture

PALETTE = Palette({0: 0, 0xFF0000: 1, 0x00FF00: 2, VOID: 255}, is_colored=True)
SIZE = (48, 64)


def indices(count):
    """Return the palette of masks that contain the indices of some classes."""
    return Palette({255: 255, **{index: index for index in range(count)}}, is_colored=False)


def masked(root, mask, size=SIZE, orientation=None):
    path = picture(root / "a.jpg", orientation=orientation)
    file = root / "a.png"
    if mask.ndim == 2:
        write_mask(file, mask)
    else:
        picture(file, image=mask)
    return AnnotatedImage("a.jpg", path, size=size, mask=file)


def colored():
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:10], mask[10:20], mask[20:22] = (255, 0, 0), (0, 255, 0), (224, 224, 192)
    return mask


def test_colors_become_indices_and_void_is_ignored(tmp_path):
    found = indices_of(masked(tmp_path, colored()), PALETTE)
    assert [np.unique(found[rows]).tolist() for rows in (slice(10), slice(10, 20))] == [[1], [2]]
    assert (found[20:22] == 255).all()
    assert (found[22:] == 0).all()


def test_palette_images_and_transparency_are_colors_too(tmp_path):
    image = masked(tmp_path, colored())
    expected = indices_of(image, PALETTE)
    with Image.open(image.mask) as file:
        content = file.copy()
    for mode in ("P", "RGBA"):
        content.quantize(8).save(image.mask) if mode == "P" else content.convert(mode).save(
            image.mask
        )
        assert (indices_of(image, PALETTE) == expected).all()


def test_unknown_colors_and_values_are_named(tmp_path):
    mask = colored()
    mask[0, :3] = (9, 8, 7)
    with pytest.raises(
        DataError, match=r"1 colors that the palette lacks, in 3 pixels \(first: 9,8,7"
    ):
        indices_of(masked(tmp_path, mask), PALETTE)
    with pytest.raises(DataError, match=r"has the value 7; expected 0 to 2, or 255"):
        indices_of(masked(tmp_path, np.full(SIZE, 7, np.uint8)), indices(3))


def test_masks_of_the_stored_image_turn_with_it(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[:10] = 1  # the top of the stored image is at the right when it is turned clockwise
    found = indices_of(masked(tmp_path, mask, (64, 48), orientation=6), indices(2))
    assert found.shape == (64, 48)
    assert (found[:, -10:] == 1).all()
    assert found.sum() == mask.sum()


def test_other_sizes_and_unreadable_masks_are_refused(tmp_path):
    image = masked(tmp_path, np.zeros((10, 20), np.uint8))
    with pytest.raises(DataError, match=r"has 20x10 pixels, but its image a\.jpg has 64x48"):
        indices_of(image, indices(2))
    image.mask.write_bytes(b"text")
    with pytest.raises(DataError, match="cannot be read as a mask"):
        indices_of(image, PALETTE)


def test_damaged_masks_of_any_format_are_refused(tmp_path):
    image = masked(tmp_path, colored())
    file = tmp_path / "a.avif"
    Image.fromarray(colored()).save(file)
    image.mask.write_bytes(file.read_bytes()[:-100])  # Pillow raises a RuntimeError
    with pytest.raises(DataError, match=r"a\.png cannot be read as a mask \("):
        indices_of(image, PALETTE)
