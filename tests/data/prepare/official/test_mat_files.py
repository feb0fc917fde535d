"""MAT-files: compared with SciPy's reader, and damaged at random."""

import io
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from parcnet_train.data.prepare.official.mat_files import LARGEST, read_structure
from parcnet_train.data.prepare.official.voc_sources import read_sbd

# SciPy's own tests have files that MATLAB has written, on machines of both byte orders.
OF_MATLAB = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
VERSIONS = ("6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86")
FIELDS = {"teststruct": ["stringfield", "doublefield"], "teststructarr": ["one", "two"]}
MASK = np.random.default_rng(0).integers(0, 21, (5, 7), dtype=np.uint8)
EXTREMES = [struct.pack("<I", number) for number in (0, 14, 15, 17, 2**28, 2**31 - 1, 2**32 - 1)]


def mat(variables, is_compressed=False):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=is_compressed)
    return stream.getvalue()


def as_compressed(content):
    """Return a file with one compressed element of this content."""
    packed = zlib.compress(content)
    return mat({})[:128] + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FIELDS)
def test_files_of_matlab_are_read_as_by_scipy(name, version):
    file = OF_MATLAB / f"{name}_{version}.mat"
    if not file.is_file():
        pytest.skip(f"SciPy is installed without {file.name}")
    expected = scipy.io.loadmat(file)[name]
    read = read_structure(file.read_bytes(), name, FIELDS[name])
    assert len(read) == expected.size
    for field in FIELDS[name]:
        for one, other in zip(read, expected[field].ravel(order="F"), strict=True):
            np.testing.assert_array_equal(
                one[field], other[0] if isinstance(one[field], str) else other
            )


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f4", "f8"])
def test_numbers_keep_shape_order_and_type(dtype, is_compressed):
    numbers = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    content = mat({"other": 1, "s": {"skipped": [1, 2], "n": numbers}}, is_compressed)
    ((read,),) = (each.values() for each in read_structure(content, "s", ["n"]))
    assert read.dtype == numbers.dtype
    assert np.array_equal(read, numbers)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"t": {"a": 1}}, "it has no variable s"),
        ({"s": np.ones(3)}, "its variable s is not a structure"),
        ({"s": {"b": 1}}, "it has no field a"),
        ({"s": {"a": np.array([1, "text"], object)}}, "one of its fields has an unexpected type"),
        ({"s": {"a": {"b": 1}}}, "one of its fields has an unexpected type"),
        ({"s": {"a": 1j}}, "one of its fields has an unexpected type"),
    ],
)
def test_other_variables_are_refused(variables, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_structure(mat(variables), "s", ["a"])


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\0" * 200, b"\x89HDF\r\n\x1a\n" + bytes(200)]
)
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match="it is not a MAT-file of version 5"):
        read_structure(content, "s", ["a"])


def test_little_content_that_unpacks_to_much_is_refused():
    bomb = as_compressed(bytes(4 * LARGEST))
    tracemalloc.start()
    with pytest.raises(ValueError, match="one of its variables is too large"):
        read_structure(bomb, "s", ["a"])
    assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST
    tracemalloc.stop()


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_cut_file_is_refused_at_every_length(is_compressed):
    content = mat({"GTcls": {"Segmentation": MASK}}, is_compressed)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"\w"):
            read_sbd(content[:length])


@pytest.mark.parametrize("is_compressed", [False, True])
def test_random_damage_gives_a_mask_or_a_value_error(is_compressed):
    whole = mat({"GTcls": {"Segmentation": MASK, "Text": "text"}})
    draw = random.Random(0)
    refused = 0
    for _ in range(3000):
        content = bytearray(whole[128:] if is_compressed else whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            content[at : at + 4] = draw.choice([bytes([draw.randrange(256)]), *EXTREMES])
        damaged = as_compressed(bytes(content)) if is_compressed else bytes(content)
        try:
            assert read_sbd(damaged).dtype == np.uint8
        except ValueError:
            refused += 1
    assert refused > 1000
