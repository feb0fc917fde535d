import io
import sys

import numpy as np
import pytest
from PIL import Image

from packing import packed, write_shards
from parcnet_train.data.decoding import decode
from parcnet_train.data.prepare import pack
from parcnet_train.data.prepare.pack import reduced
from parcnet_train.data.stores.roots import open_root
from parcnet_train.data.stores.store import StoreError
from parcnet_train.errors import ConfigError, DataError


@pytest.fixture
def target(tmp_path_factory):
    return tmp_path_factory.mktemp("target") / "packed"


def stored(target):
    return open_root(str(target), "unused", 0.0)


def test_all_files_stay_as_they_are(voc_folder, target, monkeypatch):
    done = packed(voc_folder, target, monkeypatch)
    files = [path for path in voc_folder.rglob("*") if path.is_file()]
    assert done.images + done.others == len(files)
    assert done.shards > 1
    for path in files:
        assert (
            stored(target) / str(path.relative_to(voc_folder))
        ).read_bytes() == path.read_bytes()


def test_second_call_finds_the_result(image_folder, target, monkeypatch):
    first = packed(image_folder, target, monkeypatch)
    monkeypatch.setattr(pack, "write_shards", lambda *_: pytest.fail("it packs again"))
    again = pack.pack(image_folder, target, None)
    assert again == first._replace(was_complete=True)
    with pytest.raises(ConfigError, match=r"^prepare\.output=.*with other settings"):
        pack.pack(image_folder, target, 8)


def test_interrupted_call_is_repeated(image_folder, target, monkeypatch):
    def fail(images, folder, short_side):
        write_shards(images[:3], folder, short_side)
        raise KeyboardInterrupt

    monkeypatch.setattr(pack, "write_shards", fail)
    with pytest.raises(KeyboardInterrupt):
        pack.pack(image_folder, target, None)
    assert not target.exists()
    assert packed(image_folder, target, monkeypatch).images == 18


def test_lost_image_is_refused(image_folder, target, monkeypatch):
    monkeypatch.setattr(pack, "write_shards", lambda images, *rest: write_shards(images[1:], *rest))
    with pytest.raises(DataError, match=r"the shards have 17 images; expected the 18"):
        pack.pack(image_folder, target, None)
    assert not target.exists()


@pytest.mark.parametrize("fault", ["changed", "cut", "absent", "index"])
def test_damaged_shard_is_refused(image_folder, target, monkeypatch, fault):
    packed(image_folder, target, monkeypatch)
    shard = target / "chunk-0-0.bin"
    content = shard.read_bytes()
    if fault == "absent":
        shard.unlink()
    elif fault == "index":
        (target / "packed.npz").write_bytes((target / "packed.npz").read_bytes()[:-50])
    else:
        shard.write_bytes(content[:-1] + (b"" if fault == "cut" else bytes([content[-1] ^ 1])))
    with pytest.raises(StoreError, match=r"^\S*/(packed\.npz|chunk-0-0\.bin).*; expected"):
        [
            (stored(target) / f"train/ant/{name}").read_bytes()
            for name in ("0.png", "1.jpg", "2.png")
        ]


def picture(size, orientation=1):
    pixels = np.kron(np.arange(24).reshape(4, 6, 1), np.ones((64, 64, 3))) * 10
    image = Image.fromarray(pixels.astype(np.uint8)).resize(size)
    path = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, "JPEG", exif=exif, quality=95)
    return path.getvalue()


def test_large_images_are_reduced_to_the_short_side():
    content = picture((384, 256))
    image = decode(reduced(content, 128))
    assert image.shape == (128, 192, 3)
    expected = np.asarray(Image.fromarray(decode(content)).resize((192, 128), Image.Resampling.BOX))
    assert np.abs(image.astype(int) - expected).mean() < 3
    assert decode(reduced(picture((384, 256), orientation=6), 128)).shape == (192, 128, 3)


@pytest.mark.parametrize("content", [picture((384, 256)), b"\xff\xd8 damaged", b""])
def test_small_and_damaged_images_stay_as_they_are(content):
    assert reduced(content, 256) == content


def test_sets_with_boxes_or_masks_are_not_reduced(coco_folder, voc_folder, target):
    for folder in (coco_folder, voc_folder):
        with pytest.raises(ConfigError, match=r"^prepare\.short_side=32: .*boxes or masks"):
            pack.pack(folder, target, 32)


def test_folder_without_images_is_refused(tmp_path, target):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"^prepare\.input=.*contains no image"):
        pack.pack(tmp_path, target, None)


def test_missing_package_is_reported(image_folder, target, monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(ConfigError, match=r"pip install 'parcnet-train\[pack\]'"):
        pack.pack(image_folder, target, None)
