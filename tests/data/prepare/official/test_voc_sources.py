"""Image lists of VOC and SBD, and SBD's masks."""

import io

import numpy as np
import pytest
import scipy.io

from parcnet_train.data.prepare.official.voc_sources import OFFICIAL, Counts, read_sbd, read_split
from parcnet_train.data.prepare.sources import Folder
from parcnet_train.errors import DataError


def names(*numbers):
    return [f"2007_{number:06d}" for number in numbers]


def write_list(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def sources(tmp_path):
    """Four training and two validation images; SBD has three of them and three others."""
    voc, sbd = Folder(tmp_path / "voc"), Folder(tmp_path / "sbd")
    write_list(voc.path / "ImageSets/Segmentation/train.txt", names(4, 1, 2, 3))
    write_list(voc.path / "ImageSets/Segmentation/val.txt", names(6, 5))
    write_list(sbd.path / "train.txt", names(5, 7, 1, 9))
    write_list(sbd.path / "val.txt", names(8, 2))
    return voc, sbd


def test_training_images_come_from_both_sets_without_the_validation_set(sources):
    split = read_split(*sources, Counts(4, 2, 7))
    assert split.voc_train == names(1, 2, 3, 4)
    assert split.voc_val == names(5, 6)
    assert split.sbd == names(7, 8, 9)
    assert split.train == names(1, 2, 3, 4, 7, 8, 9)


def test_official_image_counts_match_the_publications():
    # SBD has 8,498 and 2,857 images; together with VOC's there are 12,031.
    assert OFFICIAL.train + OFFICIAL.voc_val == 12_031
    assert (OFFICIAL.voc_train + OFFICIAL.voc_val, OFFICIAL.train) == (2_913, 10_582)


def refused(sources, counts=None):
    with pytest.raises(DataError) as caught:
        read_split(*sources, counts or Counts(4, 2, 7))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_invalid_lists_are_refused(sources):
    voc, sbd = sources
    place = f"{voc.path}: ImageSets/Segmentation/"
    end = "; expected the complete official file. Fix: download it again"
    assert refused(sources, Counts(5, 2, 7)) == f"{place}train.txt lists 4 images (expected 5){end}"
    assert refused(sources, Counts(4, 3, 7)) == f"{place}val.txt lists 2 images (expected 3){end}"
    reason = "train.txt and val.txt list 3 images that VOC 2012 does not list (expected 4)"
    assert refused(sources, Counts(4, 2, 8)) == f"{sbd.path}: {reason}{end}"
    write_list(sbd.path / "val.txt", ["2007_000008", "../../2007_000002"])
    reason = "val.txt names '../../2007_000002', which is not an image of VOC"
    assert refused(sources) == f"{sbd.path}: {reason}{end}"
    (sbd.path / "val.txt").write_bytes(b"\xff\xd8\xff")
    assert "val.txt names '\ufffd\ufffd\ufffd', which is not an image" in refused(sources)
    (sbd.path / "val.txt").unlink()
    reason = "it lacks 1 of 1 files that are needed, first val.txt"
    assert refused(sources) == f"{sbd.path}: {reason}{end}"


def mat(segmentation, **others):
    """Return a file of `cls` with all of its fields."""
    boundaries = np.empty((20, 1), object)
    boundaries[:, 0] = [np.zeros((2, 2), bool)] * 20
    structure = {"Boundaries": boundaries, "Segmentation": segmentation, "CategoriesPresent": 15}
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"GTcls": structure, **others}, do_compression=True)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(7, 11), (1, 5), (5, 1)])
def test_sbd_masks_are_read(shape):
    mask = np.random.default_rng(0).integers(0, 21, shape, dtype=np.uint8)
    read = read_sbd(mat(mask))
    assert read.dtype == np.uint8
    assert np.array_equal(read, mask)


def test_sbd_mask_of_another_type_is_refused():
    with pytest.raises(ValueError, match=r"GTcls.Segmentation has type float64 and shape \(2, 2\)"):
        read_sbd(mat(np.zeros((2, 2))))
