import numpy as np
import pytest

from parcnet_train.data.stores.copies import DIGEST, chosen
from parcnet_train.data.stores.listing import Listed, make_listing

NAMES = ["a.jpg", "train/ant/1.jpg", "train/ant/10.jpg", "train/ant-2/1.jpg", "train/bee/x/y.jpg"]


@pytest.fixture
def listing():
    return make_listing(Listed(name.encode(), len(name), b"v") for name in reversed(NAMES))


def test_entries_are_those_of_a_folder(listing):
    assert list(listing.entries(b"")) == [(b"a.jpg", False), (b"train", True)]
    assert dict(listing.entries(b"train")) == {b"ant": True, b"ant-2": True, b"bee": True}
    assert [name for name, _ in listing.entries(b"train/ant")] == [b"1.jpg", b"10.jpg"]
    assert list(listing.entries(b"nowhere")) == []


def test_files_and_folders_are_found(listing):
    assert listing.names[listing.position(b"train/ant/10.jpg")] == b"train/ant/10.jpg"
    assert listing.position(b"train/ant") is None
    assert listing.position(b"train/ant/10.jpg and a name longer than any other") is None
    assert listing.has_folder(b"train/ant")
    assert not listing.has_folder(b"train/an")
    assert not listing.has_folder(b"a.jpg")


def test_digest_changes_with_name_size_and_version(listing):
    others = [
        make_listing(Listed(name.encode() + b"x", len(name), b"v") for name in NAMES),
        make_listing(Listed(name.encode(), 1 + len(name), b"v") for name in NAMES),
        make_listing(Listed(name.encode(), len(name), b"w") for name in NAMES),
    ]
    assert len({listing.digest(), *(each.digest() for each in others)}) == 4


@pytest.mark.parametrize("bound", [0, 100, 5000, 10**6])
def test_copies_never_exceed_their_bound(bound):
    sizes = np.random.default_rng(0).integers(1, 200, 100)
    listing = make_listing(Listed(b"%03d" % n, int(size), b"") for n, size in enumerate(sizes))
    taken = chosen(listing, bound)
    total = int((listing.sizes + DIGEST)[taken].sum())
    assert total <= bound
    assert taken.all() if bound == 10**6 else total > bound - 250
