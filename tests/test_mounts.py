"""A run directory that cannot be written: read-only, on another mount, or of another user."""

import os
import subprocess

import pytest

from hanging import command, only_error
from mounts import needs_root
from parcnet_train.checkpoints.reading import read_checkpoint

MORE = "trainer.max_epochs=2"
# Root writes anywhere, unless it gives up the right to.
AS_ANOTHER_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directory of a run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = command(folder)
    assert done.returncode == 0, done.stderr
    return folder


def content(folder):
    """Return all files of a folder with their bytes."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@needs_root
def test_read_only_mount_is_one_line(tmp_path):
    mount = f"mount -t tmpfs -o ro tmpfs {tmp_path}"
    line = only_error(command(tmp_path / "run", mount=mount))
    assert "cannot be written: Read-only file system. Fix: hydra.run.dir=PATH" in line


@pytest.mark.slow
@needs_root
def test_run_on_a_read_only_mount_is_not_resumed_and_stays_whole(finished):
    mount = f"mount --bind {finished} {finished} && mount -o remount,bind,ro {finished}"
    before = content(finished)
    line = only_error(command(finished, f"ckpt={finished}", MORE, mount=mount))
    assert "cannot be written: Read-only file system" in line
    assert content(finished) == before


@pytest.mark.slow
@needs_root
def test_run_of_another_user_is_not_resumed_and_stays_whole(finished):
    before = content(finished)
    for path in (finished, *finished.rglob("*")):
        os.chown(path, 65534, 65534)
    try:
        line = only_error(command(finished, f"ckpt={finished}", MORE, prefix=AS_ANOTHER_USER))
    finally:
        for path in (finished, *finished.rglob("*")):
            os.chown(path, 0, 0)
    assert "cannot be written: Permission denied" in line
    assert content(finished) == before


@pytest.mark.slow
@needs_root
def test_run_on_another_mount_is_written_and_resumed(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        assert command(disk / "run").returncode == 0
        done = command(disk / "run", f"ckpt={disk / 'run'}", MORE)
        assert done.returncode == 0, done.stderr
        last = read_checkpoint(disk / "run" / "checkpoints" / "last.ckpt")
        assert last["position"]["epoch"] == 2
    finally:
        subprocess.run(["umount", disk], check=True)
