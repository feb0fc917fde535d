"""A training on a disk that is full: a tmpfs of a given size, which only root can mount."""

import json
import subprocess
import sys

import pytest

from mounts import needs_root
from parcnet_train.checkpoints.reading import read_checkpoint
from running import TINY

# A checkpoint of this network takes 20.5 MB. A new one is written beside the one it replaces.
SIZES = {
    "20k": "Hydra's files of the run",
    "40k": "provenance.json, progress.json, the logger, and best.ckpt",
    "30m": "the first last.ckpt",
    "60300k": "the second last.ckpt",
}
ENOUGH = "200m"


def train(folder, *overrides):
    return subprocess.run(
        [
            *(sys.executable, "-m", "parcnet_train", *TINY, "trainer.max_epochs=2"),
            *(f"hydra.run.dir={folder / 'disk' / 'run'}", f"paths.cache={folder / 'cache'}"),
            *overrides,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def fill(path):
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def disk(request, tmp_path):
    """Mount a disk of a size; return its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", folder], check=True
    )
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("disk", SIZES, indirect=True)
def test_a_full_disk_is_one_line_and_the_run_resumes_once_there_is_space(disk, tmp_path):
    done = train(tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("error: "))
    assert "cannot be written: No space left on device" in line
    assert "Fix: free some disk space" in line
    saved = {file.name: file for file in disk.rglob("*.ckpt")}
    for file in saved.values():  # whatever is there is whole
        read_checkpoint(file)
    assert not list(disk.rglob("*.partial"))
    subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", disk], check=True)
    resumed = [f"ckpt={disk / 'run'}"] if "last.ckpt" in saved else []
    again = train(tmp_path, *resumed)
    assert again.returncode == 0, again.stderr
    assert json.loads((disk / "run" / "results.json").read_text())["epochs"] == 2


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("disk", ["200m"], indirect=True)
@pytest.mark.parametrize("action", ["test", "report"])
def test_results_and_reports_on_a_full_disk_are_one_line(disk, tmp_path, action):
    assert train(tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    (disk / "out").mkdir()
    with pytest.raises(OSError, match="No space left"):
        fill(disk / "filling")
    command = [
        *(sys.executable, "-m", "parcnet_train", f"action={action}"),
        f"ckpt={disk / 'run'}" if action == "test" else f"report.runs={disk / 'run'}",
        *(f"hydra.run.dir={disk / 'out'}", f"paths.cache={tmp_path / 'cache'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert len(lines) == 1, lines
    assert "No space left on device" in lines[0]
    assert {path: path.read_bytes() for path in before} == before
    assert not list(disk.rglob("*.partial"))
    (disk / "filling").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
