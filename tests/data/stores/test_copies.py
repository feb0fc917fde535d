import os

import pytest

from packing import count_requests, put, stored
from parcnet_train.data.stores.roots import open_root
from parcnet_train.errors import UnwritableError

NAME = "train/ant/0.png"


@pytest.fixture
def counted(monkeypatch):
    """The number of files in each request to the store."""
    return count_requests(monkeypatch)


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("stores/*/??/*"))


def test_file_is_fetched_once(image_folder, monkeypatch, cache, counted):
    url = put(image_folder, "once", monkeypatch)
    for _ in range(2):
        root = open_root(url, str(cache), 1.0)
        assert (root / NAME).read_bytes() == (image_folder / NAME).read_bytes()
    assert counted == [1]


def test_damaged_copy_is_fetched_again(image_folder, monkeypatch, cache, counted):
    root = stored(image_folder, "damaged", monkeypatch, cache)
    content = (root / NAME).read_bytes()
    (copy,) = cache.glob("stores/*/??/*")
    for damaged in (b"", copy.read_bytes()[:-1], copy.read_bytes()[:-1] + b"!"):
        copy.write_bytes(damaged)
        assert (root / NAME).read_bytes() == content
    assert counted == [1] * 4


def test_changed_object_is_fetched_again(image_folder, monkeypatch, cache, counted):
    url = put(image_folder, "changed", monkeypatch)
    (open_root(url, str(cache), 1.0) / NAME).read_bytes()
    (image_folder / NAME).write_bytes(b"something else")
    put(image_folder, "changed", monkeypatch)
    assert (open_root(url, str(cache), 1.0) / NAME).read_bytes() == b"something else"
    assert len(list(cache.glob("stores/*/??/*"))) == 1  # the other one was removed


@pytest.mark.parametrize("bound", [0, 3000, 10**6])
def test_copies_stay_within_their_bound(image_folder, monkeypatch, cache, bound):
    url = put(image_folder, f"bound{bound}", monkeypatch)
    for _ in range(2):
        root = open_root(url, str(cache), bound / 10**9)
        for path in (p for p in image_folder.rglob("*") if p.is_file()):
            name = str(path.relative_to(image_folder))
            assert (root / name).read_bytes() == path.read_bytes()
    assert size_of(cache) <= bound
    root = open_root(url, str(cache), 0.0)  # a smaller bound removes copies
    assert root.is_dir()
    assert size_of(cache) == 0


@pytest.mark.parametrize("fault", ["folder", "copy"])
def test_folder_that_cannot_be_written_only_costs_time(
    image_folder, monkeypatch, cache, counted, fault
):
    if fault == "folder":
        (cache / "stores").write_text("a file")
    root = stored(image_folder, f"unwritable-{fault}", monkeypatch, cache)
    if fault == "copy":
        monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("not used"))
        assert root.is_dir()
        for number in range(256):
            (next(cache.glob("stores/*")) / f"{number:02x}").write_text("a file")
    for _ in range(2):
        assert (root / NAME).read_bytes() == (image_folder / NAME).read_bytes()
    assert counted == [1, 1]


def test_annotations_that_cannot_be_copied_name_the_key(coco_folder, monkeypatch, cache):
    (cache / "stores").write_text("a file")
    root = stored(coco_folder, "no-copies", monkeypatch, cache)
    with pytest.raises(UnwritableError, match=r"^paths\.cache: .*cannot be written.*Fix: "):
        (root / "annotations/instances_val2017.json").open(encoding="utf-8")


def test_annotations_are_read_from_a_copy(coco_folder, monkeypatch, cache, counted):
    url = put(coco_folder, "annotations", monkeypatch)
    name = "annotations/instances_val2017.json"
    for _ in range(2):
        root = open_root(url, str(cache), 0.0)
        with (root / name).open(encoding="utf-8") as file:
            assert file.read() == (coco_folder / name).read_text()
    assert counted == [1]
