"""ImageNet's development kit; `test_imagenet.py` tests it as part of the data set."""

import io
import tarfile

import numpy as np
import pytest
import scipy.io

from parcnet_train.data.prepare.official.imagenet_devkit import (
    ILSVRC2012,
    LABELS,
    META,
    Counts,
    read_devkit,
    read_synsets,
)
from parcnet_train.errors import DataError

COUNTS = Counts(train=10, val=3, classes=2)
WORDS = {"n02119789": "kit fox, Vulpes macrotis", "n01440764": "tench"}


def meta(numbers=(2, 1, 3), wnids=("n01440764", "n02119789", "n00001740")):
    """Return a `meta.mat` with two classes not sorted by number, and an inner node."""
    names = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    synsets = np.zeros((3, 1), dtype=[(name, object) for name in names])
    words = (*reversed(WORDS.values()), "entity")
    for row, (number, wnid, text) in enumerate(zip(numbers, wnids, words, strict=True)):
        synsets[row, 0] = (number, wnid, text, 2 * (row == 2))
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"synsets": synsets})
    return stream.getvalue()


def write_kit(path, synsets, labels):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in ((META, synsets), (LABELS, labels)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_ilsvrc2012_has_the_published_numbers():
    # arXiv 1409.0575, table 2.
    assert (ILSVRC2012.train, ILSVRC2012.val, ILSVRC2012.classes) == (1_281_167, 50_000, 1_000)


def test_classes_are_sorted_by_number_without_inner_nodes():
    assert list(read_synsets(meta()).items()) == list(WORDS.items())


def test_labels_are_class_numbers(tmp_path):
    kit = write_kit(tmp_path / "kit.tar.gz", meta(), b"2\n1\n2\n")
    words, labels = read_devkit(kit, COUNTS)
    assert words == WORDS
    assert labels == ["n01440764", "n02119789", "n01440764"]


@pytest.mark.parametrize(
    ("synsets", "labels", "message"),
    [
        (meta(wnids=("a", "b", "c")), b"2\n1\n2\n", "it names 2 classes .expected 2 wnids"),
        (meta(), b"2\n1\n", "it labels 2 validation images .expected 3, each with a class"),
        (meta(), b"2\n1\n3\n", "it labels 3 validation images .expected 3, each with a class"),
        (meta(numbers=(2, 4, 3)), b"2\n1\n2\n", "are not 1, 2, 3"),
    ],
)
def test_development_kit_of_another_data_set_is_refused(synsets, labels, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_devkit(write_kit(tmp_path / "kit.tar.gz", synsets, labels), COUNTS)
