"""Files of folders and archives by name, and atomic file writes."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from parcnet_train.data.prepare.sources import (
    Folder,
    in_one_line,
    open_source,
    place,
    refuse_missing,
    write_file,
)
from parcnet_train.errors import DataError
from parcnet_train.files import whole_link

INSIDE = "kit/set"
FILES = {
    f"{folder}/{i}.bin": np.random.default_rng(i).bytes(300 * i)
    for folder, numbers in (("b", (4, 1)), ("a", (3, 0)))
    for i in numbers
}


def tar(path, mode="w", extra=()):
    """Write an archive of FILES in the official folder, and extra members."""
    members = [(f"{INSIDE}/{name}", content) for name, content in FILES.items()]
    with tarfile.open(path, mode) as archive:
        for name, content in [*members, *extra]:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def folder(path):
    for name, content in FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


SOURCES = {
    "tar": lambda path: tar(path / "set.tar"),
    "tgz": lambda path: tar(path / "set.tgz", "w:gz"),
    "folder": lambda path: folder(path / "set"),
    "folder around it": lambda path: folder(path / "downloads" / INSIDE).parents[1],
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_files_are_read_from_any_source(tmp_path, make):
    with open_source(make(tmp_path), INSIDE, "set.tar") as source:
        assert {name: source.size(name) for name in FILES} == {k: len(v) for k, v in FILES.items()}
        assert source.size("a/1.bin") is None
        assert source.size("a") is None
        assert dict(source.read(FILES)) == FILES
        assert dict(source.read(["a/3.bin"])) == {"a/3.bin": FILES["a/3.bin"]}
        refuse_missing(source, FILES)
        with pytest.raises(DataError) as caught:
            refuse_missing(source, ["a/3.bin", "a/2.bin", "a/1.bin"])
        message = str(caught.value)
        assert message.startswith(
            f"{source.path}: it lacks 2 of 3 files that are needed, first a/1"
        )
        assert "expected the complete official file" in message


def test_archive_is_read_in_its_own_order(tmp_path):
    with open_source(tar(tmp_path / "set.tgz", "w:gz"), INSIDE, "set.tgz") as source:
        assert [name for name, _ in source.read(sorted(FILES))] == list(FILES)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_an_archive_are_not_files(tmp_path, kind):
    link = tarfile.TarInfo(f"{INSIDE}/c")
    link.type, link.linkname = kind, "/etc/passwd"
    with open_source(tar(tmp_path / "set.tar", extra=[(link, b"")]), INSIDE, "set.tar") as source:
        assert source.size("c") is None


@pytest.mark.parametrize("outside", ["../planted", f"{INSIDE}/../../../planted", "/tmp/planted"])
def test_names_that_lead_out_of_an_archive_are_not_unpacked(tmp_path, outside):
    archive = tar(tmp_path / "set.tar", extra=[(outside, b"planted")])
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    with open_source(archive, INSIDE, "set.tar") as source:
        place(source, {name: root / name for name in FILES}, "files", "copy")
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {archive, *(root / name for name in FILES)}
    assert not Path("/tmp/planted").exists()


def test_missing_source_is_refused(tmp_path):
    with (
        pytest.raises(DataError) as caught,
        open_source(tmp_path / "no.tar", INSIDE, "set.tar"),
    ):
        pass
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}/no.tar does not exist; expected set.tar, or the folder kit/"
    )


def damaged(content):
    middle = len(content) // 2
    return content[:middle] + bytes(200) + content[middle + 200 :]


CONTENT = {
    "text": lambda content: b"<html>Please log in</html>" * 50,
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content.rstrip(bytes(1))) // 2],
    "damaged": damaged,
}


def read_all(path):
    with open_source(path, INSIDE, "set.tar") as source:
        refuse_missing(source, FILES)
        return dict(source.read(FILES))


# An uncompressed tar has no checksums of its contents.
@pytest.mark.parametrize(
    ("mode", "change"), [("w", name) for name in list(CONTENT)[:3]] + [("w:gz", k) for k in CONTENT]
)
def test_damaged_archive_is_refused(tmp_path, mode, change):
    path = tar(tmp_path / "set.tar", mode)
    path.write_bytes(CONTENT[change](path.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "expected the complete official file" in message
    assert "\n" not in message


def test_target_of_a_leftover_link_is_not_overwritten(tmp_path):
    source, path = tmp_path / "source", tmp_path / "x"
    source.write_bytes(b"theirs")

    def killed(partial):
        partial.symlink_to(source)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole_link(path, killed)
    write_file(path, b"ours")
    assert (source.read_bytes(), path.read_bytes()) == (b"theirs", b"ours")
    whole_link(path, lambda partial: partial.symlink_to(source))
    assert path.readlink() == source
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_existing_files_of_the_right_size_are_kept(tmp_path, make):
    targets = {name: tmp_path / "out" / name.replace("/", "_") for name in FILES}
    (tmp_path / "out").mkdir()
    kept, short = targets["a/3.bin"], targets["b/4.bin"]
    kept.write_bytes(bytes(900))
    short.write_bytes(bytes(900))
    with open_source(make(tmp_path), INSIDE, "set.tar") as source:
        place(source, targets, "files")
    assert kept.read_bytes() == bytes(900)
    placed = {name: target.read_bytes() for name, target in targets.items() if target != kept}
    assert placed == {name: FILES[name] for name in placed}
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_linked_files_are_not_modified(tmp_path, link, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths would start here
    source = Folder(Path("set"))
    folder(source.path)
    targets = {name: Path("out") / name.replace("/", "_") for name in FILES}
    Path("out").mkdir()
    broken_link = targets["a/3.bin"]
    broken_link.symlink_to(tmp_path / "gone")
    place(source, targets, "files", link)
    for name, target in targets.items():
        assert target.samefile(source.path / name)
        assert target.is_symlink() == (link == "symbolic")
    # A changed source is copied; the linked file is not overwritten.
    Folder(Path("set2"))
    (folder(Path("set2")) / "a/3.bin").write_bytes(b"another")
    place(Folder(Path("set2")), targets, "files")
    assert targets["a/3.bin"].read_bytes() == b"another"
    assert (source.path / "a/3.bin").read_bytes() == FILES["a/3.bin"]


def test_archive_files_are_unpacked_even_if_links_are_requested(tmp_path):
    targets = {"a/3.bin": tmp_path / "3.bin"}
    with open_source(tar(tmp_path / "set.tar"), INSIDE, "set.tar") as source:
        place(source, targets, "files", "hard")
    assert (tmp_path / "3.bin").read_bytes() == FILES["a/3.bin"]


def test_hard_link_to_another_disk_is_refused(tmp_path, monkeypatch):
    def other_disk(path, target):
        raise OSError(18, "Invalid cross-device link", str(target))

    monkeypatch.setattr(Path, "hardlink_to", other_disk)
    with pytest.raises(DataError) as caught:
        place(Folder(folder(tmp_path / "set")), {"a/3.bin": tmp_path / "x"}, "files", "hard")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/set/a/3.bin cannot be linked from {tmp_path} (Invalid ")
    assert "link symbolically, or copy" in message


def test_gzip_file_that_is_not_a_tar_is_refused(tmp_path):
    (tmp_path / "set.tgz").write_bytes(gzip.compress(b"hello" * 1000))
    with (
        pytest.raises(DataError, match=r"set.tgz: .*; expected the complete official file"),
        open_source(tmp_path / "set.tgz", INSIDE, "set.tgz"),
    ):
        pass


def test_a_very_long_name_is_shortened_in_a_message(tmp_path):
    expected = pytest.raises(DataError, match=r"x\.\.\.: File name too long\. Fix: ")
    with expected as caught, in_one_line(tmp_path):
        (tmp_path / ("x" * 3000)).stat()
    assert len(str(caught.value)) < 700
