"""Small versions of ImageNet's official files: same formats, three classes, few images."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets.imagenet as reference

from parcnet_train.data.prepare.official import imagenet as module
from parcnet_train.data.prepare.official.imagenet import DEVKIT, TRAIN, VAL, prepare_imagenet
from parcnet_train.data.prepare.official.imagenet_devkit import LABELS, META, Counts
from parcnet_train.errors import DataError

SCRIPT = Path(__file__).parents[4] / "scripts" / "prepare_imagenet.py"

# In the order of the labels, which is not the order of the names.
WORDS = {
    "n02119789": "kit fox, Vulpes macrotis",
    "n01440764": "tench, Tinca tinca",
    "n09835506": "ballplayer, baseball player",
}
TRUTH = [3, 1, 1, 2, 3, 2, 1]
TRAIN_COUNTS = {"n02119789": 3, "n01440764": 5, "n09835506": 2}
COUNTS = Counts(train=10, val=7, classes=3)


@pytest.fixture(autouse=True)
def unflushed(monkeypatch):
    """Turn off flushing, which takes a second for each of many folders."""
    monkeypatch.setattr(os, "sync", lambda: None)


def tar(members, mode="w"):
    """Return an archive of files, given by name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def meta(words=WORDS):
    """Return a `meta.mat` like the kit's: leaves first, then inner nodes of the hierarchy."""
    names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
    names += ("wordnet_height", "num_train_images")
    synsets = np.zeros((len(words) + 2, 1), dtype=[(name, object) for name in names])
    for row, (wnid, text) in enumerate(words.items()):
        synsets[row, 0] = (row + 1, wnid, text, "a gloss", 0, np.zeros((1, 0)), 0, 1300)
    for row, wnid in enumerate(("n00001740", "n00001930"), len(words)):
        synsets[row, 0] = (row + 1, wnid, "entity", "a gloss", 2, np.array([[1, 2]]), 3, 0)
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"synsets": synsets})
    return stream.getvalue()


def devkit(words=WORDS, truth=TRUTH):
    content = {META: meta(words), LABELS: "".join(f"{n}\n" for n in truth).encode()}
    return tar({**content, "ILSVRC2012_devkit_t12/readme.txt": b"hello"}, "w:gz")


def images(wnid, count):
    rng = np.random.default_rng(int(wnid[1:]))
    # Contents do not matter; sizes are below, at and above the block size of a tar.
    sizes = (100, 512, 1300, 7, 5000)
    return {f"{wnid}_{17 * i}.JPEG": rng.bytes(sizes[i]) for i in range(count)}


def class_tars():
    return {f"{wnid}.tar": tar(images(wnid, n)) for wnid, n in sorted(TRAIN_COUNTS.items())}


def val_images():
    rng = np.random.default_rng(0)
    return {f"ILSVRC2012_val_{i:08d}.JPEG": rng.bytes(200 * i) for i in range(1, len(TRUTH) + 1)}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / TRAIN).write_bytes(tar(class_tars()))
    (folder / VAL).write_bytes(tar(val_images()))
    (folder / DEVKIT).write_bytes(devkit())
    return folder


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def refused(source, root=None, counts=COUNTS):
    with pytest.raises(DataError) as caught:
        prepare_imagenet(source, root or source.parent / "imagenet", counts)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unpacked_files_match_torchvision(source, tmp_path, monkeypatch):
    said = prepare_imagenet(source, tmp_path / "ours", COUNTS)
    assert said == (
        f"{tmp_path / 'ours'}: 10 training and 7 validation images of 3 classes; use data=imagenet "
        f"data.root={tmp_path / 'ours'}"
    )
    monkeypatch.setattr(reference, "_verify_archive", lambda *_: None)  # expects the real hashes
    reference.parse_devkit_archive(source)
    reference.parse_train_archive(source)
    reference.parse_val_archive(source)
    ours = tree(tmp_path / "ours")
    assert ours.pop("classes.txt").decode() == (
        "n01440764\ttench, Tinca tinca\n"
        "n02119789\tkit fox, Vulpes macrotis\n"
        "n09835506\tballplayer, baseball player\n"
    )
    theirs = {f"{s}/{k}": v for s in ("train", "val") for k, v in tree(source / s).items()}
    assert len(theirs) == 17
    assert ours == theirs


def test_killed_call_is_resumed_with_the_same_result(source, tmp_path, monkeypatch):
    prepare_imagenet(source, tmp_path / "whole", COUNTS)
    write = Path.write_bytes
    for left in range(17):
        root = tmp_path / f"killed{left}"
        written = []

        def killed(path, content, left=left, written=written):
            written.append(path)
            if len(written) > left:
                write(path, content[: len(content) // 2])
                raise KeyboardInterrupt
            return write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare_imagenet(source, root, COUNTS)
        unfinished = [path for path in root.glob("*/*") if not path.name.startswith(".")]
        assert not (root / "val").exists()
        assert all(
            len(list(path.iterdir())) == TRAIN_COUNTS[path.name]
            for path in unfinished
            if path.parent.name == "train"
        )
        again = []
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", lambda p, c: (again.append(p), write(p, c))[1])  # noqa: B023
            prepare_imagenet(source, root, COUNTS)
        assert len(again) == 17 - left  # the incomplete file and those not started
        assert tree(root) == tree(tmp_path / "whole")
        assert not list(root.glob("**/.*"))


def test_folder_is_flushed_before_it_is_renamed(source, tmp_path, monkeypatch):
    rename, done = Path.rename, []
    monkeypatch.setattr(os, "sync", lambda: done.append("flushed"))
    monkeypatch.setattr(Path, "rename", lambda p, t: (done.append(t.name), rename(p, t))[1])
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)
    assert done[::2] == ["flushed"] * (len(TRAIN_COUNTS) + 1)
    assert done[1::2] == [*sorted(TRAIN_COUNTS), "val"]


def test_finished_data_set_is_only_counted(source, tmp_path, monkeypatch):
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("written again"))
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)
    next((tmp_path / "imagenet" / "train" / "n01440764").iterdir()).unlink()
    message = refused(source)
    assert message.startswith(f"{tmp_path}/imagenet/train contains 9 images; expected 10 ")
    (tmp_path / "imagenet" / "val" / "n01440764" / "other.JPEG").touch()
    shutil.rmtree(tmp_path / "imagenet" / "train")
    monkeypatch.undo()
    assert "imagenet/val contains 8 images; expected 7" in refused(source)


def test_missing_files_are_reported(source, tmp_path):
    (source / VAL).unlink()
    (source / DEVKIT).unlink()
    assert refused(source).startswith(
        f"{source} lacks {VAL}, {DEVKIT}; expected a folder with {TRAIN}, {VAL} and {DEVKIT}"
    )
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(source), "imagenet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {source} lacks {VAL}, {DEVKIT}; ")
    assert not (tmp_path / "imagenet").exists()


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_archive_is_refused_and_the_complete_one_resumes(source, tmp_path, name, share):
    whole = (source / name).read_bytes()
    # The zeros at the end of an archive are not needed.
    content = whole.rstrip(b"\0")
    (source / name).write_bytes(content[: int(len(content) * share)])
    message = refused(source)
    assert name in message or "ILSVRC2012" in message
    assert "ownload" in message
    (source / name).write_bytes(whole)
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_wrong_file_with_the_official_name_is_refused(source, name):
    (source / name).write_bytes(b"<html>Please log in</html>" * 100)
    assert f"{source / name}: " in refused(source)
    assert "expected the complete official file" in refused(source)


def test_archives_of_another_data_set_are_refused(source):
    tars = class_tars()
    (source / TRAIN).write_bytes(tar({"n00000001.tar": b"", **dict(list(tars.items())[1:])}))
    assert "it lacks 1 of 3 class tars and contains 1 other files, first n01440764;" in refused(
        source
    )
    (source / TRAIN).write_bytes(tar(tars))
    assert "it names 3 classes (expected 1,000 wnids)" in refused(source, counts=Counts(10, 7))
    assert "it labels 7 validation images (expected 8, " in refused(source, counts=Counts(10, 8, 3))
    (source / DEVKIT).write_bytes(devkit(truth=[*TRUTH[:-1], 4]))
    assert "it labels 7 validation images (expected 7, each with a class)" in refused(source)
    (source / DEVKIT).write_bytes(devkit(words={"../../oops": "a", "n1": "b", "n2": "c"}))
    assert "it names 3 classes (expected 3 wnids)" in refused(source)
    (source / DEVKIT).write_bytes(tar({META: meta()}, "w:gz"))
    assert "not found" in refused(source)
    (source / DEVKIT).write_bytes(tar({META: b"no", LABELS: b"1"}, "w:gz"))
    assert f"{DEVKIT}: " in refused(source)


def special(name, kind, target=""):
    """Return a member of an archive that is no file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE = {
    "parent": "../../n01440764_1.JPEG",
    "absolute": "/tmp/n01440764_1.JPEG",
    "folder": "sub/n01440764_1.JPEG",
    "other": "n01440764_1.py",
    "another class": "n02119789_1.JPEG",
    "link": special("n01440764_1.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": special("n01440764_1.JPEG", tarfile.LNKTYPE, "/etc/passwd"),
    "device": special("n01440764_1.JPEG", tarfile.CHRTYPE),
    "pipe": special("n01440764_1.JPEG", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", HOSTILE.values(), ids=HOSTILE)
def test_malicious_archive_members_are_refused(source, tmp_path, member):
    tars = class_tars()
    tars["n01440764.tar"] = tar({**images("n01440764", 4), member: b""})
    (source / TRAIN).write_bytes(tar(tars))
    before = set(tmp_path.rglob("*"))
    name = member if isinstance(member, str) else member.name
    assert f"{name!r} is not one of its images" in refused(source)
    written = {path for path in set(tmp_path.rglob("*")) - before if not path.is_dir()}
    partial = tmp_path / "imagenet" / "train" / ".n01440764.partial"
    assert written == {partial / name for name in images("n01440764", 4)}


@pytest.mark.parametrize("member", [*HOSTILE.values(), "../ILSVRC2012_val_00000001.JPEG"])
def test_malicious_validation_images_are_refused(source, tmp_path, member):
    (source / VAL).write_bytes(tar({**val_images(), member: b""}))
    name = member if isinstance(member, str) else member.name
    assert f"{name!r} is not one of its images" in refused(source)
    assert {path.name for path in tmp_path.iterdir()} == {"downloads", "imagenet"}
    assert not list((tmp_path / "imagenet").glob("*.JPEG"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_the_development_kit_are_refused(source, kind):
    (source / DEVKIT).write_bytes(
        tar({special(META, kind, "/etc/passwd"): b"", LABELS: b"1"}, "w:gz")
    )
    assert f"{DEVKIT}: " in refused(source)


def test_surplus_images_and_images_without_label_are_refused(source):
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w") as archive:
        for _ in range(2):
            for name, content in images("n01440764", 2).items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    (source / TRAIN).write_bytes(tar({**class_tars(), "n01440764.tar": twice.getvalue()}))
    assert "n01440764.tar has the same image twice" in refused(source)
    (source / TRAIN).write_bytes(tar(class_tars()))
    for number in (0, 8):
        (source / VAL).write_bytes(tar({f"ILSVRC2012_val_{number:08d}.JPEG": b"x"}))
        assert f"ILSVRC2012_val_{number:08d}.JPEG has no label" in refused(source)


def test_class_with_a_missing_image_is_fixed_as_the_message_says(source, tmp_path):
    short = class_tars() | {"n01440764.tar": tar(images("n01440764", 4))}
    (source / TRAIN).write_bytes(tar(short))
    train = tmp_path / "imagenet" / "train"
    message = refused(source)
    assert message.startswith(f"{train} contains 9 images; expected 10 ")
    assert "remove the folder, download the archive again" in message
    (source / TRAIN).write_bytes(tar(class_tars()))
    shutil.rmtree(train)
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)


def test_too_little_disk_space_is_reported_before_anything_is_written(
    source, tmp_path, monkeypatch
):
    free = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    sizes = [len(content) for content in class_tars().values()]
    needed = sum(sizes) + (source / VAL).stat().st_size
    message = refused(source)
    assert f"imagenet: {needed / 1e9:.1f} GB are still to be unpacked, but only 0.0 GB" in message
    assert not (tmp_path / "imagenet").exists()
    # Enough space for the rest of an interrupted run.
    free = free._replace(free=needed)
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)
    free = free._replace(free=0)
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)


def test_full_disk_is_reported_in_one_line_and_the_next_call_resumes(source, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        message = refused(source)
    assert ".JPEG: No space left on device" in message
    assert "resumes" in message
    prepare_imagenet(source, tmp_path / "imagenet", COUNTS)
