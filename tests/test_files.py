import errno
import json
import math
import os
import stat
from pathlib import Path

import pytest

from parcnet_train.callbacks.saving import WholeFiles
from parcnet_train.checkpoints.checkpoints import write_checkpoint
from parcnet_train.data.prepare.sources import write_lines
from parcnet_train.deploy.standalone import command
from parcnet_train.errors import CheckpointError, TrainingError
from parcnet_train.files import read_regular, scratch_folder, to_json, write_once, write_whole
from parcnet_train.runs.directories import write_results
from parcnet_train.runs.provenance import Provenance

NOTE = {"paths": {"output": "."}, "overrides": []}
WRITERS = {
    "write_whole": lambda path, text: write_whole(path, text.encode()),
    "checkpoints of a training": lambda path, text: WholeFiles().save_checkpoint({text: 1}, path),
    "other checkpoints": lambda path, text: write_checkpoint(path, {text: 1}),
    "lists of a data set": lambda path, text: write_lines(path, [text]),
    "latencies of a device": command.write_whole,
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def test_a_file_is_synced_before_it_gets_its_name(write, tmp_path, monkeypatch):
    flush, rename, done = os.fsync, Path.replace, []

    def flushed(descriptor):
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            done.append("flushed")
        flush(descriptor)

    def renamed(path, target):
        done.append(f"{path.name} {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write(tmp_path / "a", "b")
    assert done == ["flushed", "a.partial a"]


def test_the_folder_of_a_file_is_synced(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_mode))
    write_whole(tmp_path / "a", b"a")
    assert [stat.S_ISDIR(mode) for mode in flushed] == [False, True]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_write_keeps_the_previous_file(stop, write, tmp_path, monkeypatch):
    def stopped(descriptor):
        raise stop

    write(tmp_path / "a", "before")
    before = (tmp_path / "a").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stopped)
        with pytest.raises((KeyboardInterrupt, OSError, TrainingError, CheckpointError)):
            write(tmp_path / "a", "after")
    assert (tmp_path / "a").read_bytes() == before
    write(tmp_path / "a", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() != before


def test_results_and_provenance_are_written_atomically(tmp_path, monkeypatch):
    renamed = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *two: (renamed.append(two[1].name), rename(*two)))
    write_results(tmp_path, {"a": 1})
    with Provenance({**NOTE, "paths": {"output": str(tmp_path)}, "seed": 0}, 1):
        pass
    assert {"results.json", "provenance.json"} <= set(renamed)


def fill(root):
    (root / "file").write_text("ours")


def test_write_once_keeps_an_existing_folder(tmp_path):
    root = tmp_path / "below" / "data"
    write_once(root, fill)
    (root / "file").write_text("changed")
    write_once(root, lambda _: pytest.fail("written again"))
    assert (root / "file").read_text() == "changed"
    assert root.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failed_write_once_leaves_nothing(tmp_path, error):
    def fail(root):
        fill(root)
        raise error

    with pytest.raises(error):
        write_once(tmp_path / "data", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_keeps_the_folder_of_the_first(tmp_path):
    root = tmp_path / "data"

    def beaten(partial):
        fill(partial)
        root.mkdir()
        (root / "theirs").touch()

    write_once(root, beaten)
    assert list(tmp_path.rglob("*")) == [root, root / "theirs"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(OSError, match="Not a directory"):
        write_once(tmp_path / "data", fill)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_a_scratch_folder_is_removed_at_the_end():
    with scratch_folder() as folder:
        (folder / "a").write_text("a")
    assert not folder.exists()


def test_a_full_scratch_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TrainingError) as refusal, scratch_folder():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(refusal.value).startswith(f"{tmp_path}: ")
    assert "cannot be written: No space left on device" in str(refusal.value)
    assert "TMPDIR=PATH" in str(refusal.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="Is a directory"), scratch_folder() as folder:
        folder.read_bytes()  # an error that is not about disk space


def test_json_has_null_for_non_finite_numbers():
    content = {"a": math.nan, "b": [1.5, math.inf, {"c": (-math.inf, 2)}], "d": "NaN"}
    text = to_json(content).decode()
    expected = {"a": None, "b": [1.5, None, {"c": [None, 2]}], "d": "NaN"}
    assert json.loads(text, parse_constant=pytest.fail) == expected


def test_reading_a_fifo_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link"):
        with pytest.raises(OSError, match="FIFO"):
            read_regular(tmp_path / name)
    with pytest.raises(OSError, match="device"):
        read_regular(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_name_with_a_null_character_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match="null"):
        read_regular(tmp_path / "a\0b")
