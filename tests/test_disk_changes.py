"""A disk that becomes full, or read-only, at the moment at which a file is written."""

import json
import subprocess

import pytest

from moments import run_with
from mounts import needs_root
from parcnet_train.checkpoints.reading import read_checkpoint
from running import TINY

pytestmark = [pytest.mark.slow, needs_root]

SPACE = "No space left on device"
READ_ONLY = "Read-only file system"
JOBS = ("task.pictures=0", "-m", "seed=0,1")


@pytest.fixture
def disk(tmp_path):
    """Return the folder of a disk of 300 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def command(disk, tmp_path):
    """Return a function that runs a command, in which the disk changes as a file is written."""

    def run(file, *overrides, kind="fill_disk"):
        arguments = ["-m", "parcnet_train", *overrides, f"paths.cache={tmp_path / 'cache'}"]
        done = run_with(kind, file, tmp_path / "fault", arguments, disk)
        assert "Traceback" not in done.stderr
        assert not list(disk.rglob("*.partial"))
        for checkpoint in disk.rglob("*.ckpt"):  # whatever is there is whole
            read_checkpoint(checkpoint)
        return done

    return run


def errors(done):
    return [each for each in done.stderr.splitlines() if each.startswith("error: ")]


def content(folder):
    """Return all files of a run with their bytes, except its log, which `fill_disk` changes."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".log")
    return {file: file.read_bytes() for file in files}


def test_full_disk_at_the_results_of_a_training(disk, command):
    run = disk / "run"
    training = [*TINY, "trainer.max_epochs=2", f"hydra.run.dir={run}"]
    done = command("run/results.json", *training)
    assert done.returncode == 2
    assert errors(done) == [
        f"error: {run / 'results.json'} cannot be written: {SPACE}; the training is complete and "
        f"saved. Fix: free some disk space, then repeat the command with ckpt={run}, which "
        "evaluates it"
    ]
    assert not (run / "results.json").exists()
    again = command("nothing", *training, f"ckpt={run}")
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "results.json").read_text())["steps"] == 4
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("file", ["report.json", "report.html"])
def test_full_disk_at_the_page_of_an_evaluation_is_a_warning(disk, command, file):
    run, output = disk / "run", disk / "out"
    assert command("nothing", *TINY, f"hydra.run.dir={run}").returncode == 0
    before = content(run)
    done = command(file, "action=test", f"ckpt={run}", f"hydra.run.dir={output}")
    assert done.returncode == 0, done.stderr
    assert f"{output / file} cannot be written: {SPACE}" in done.stdout
    assert content(run) == before
    assert (output / "results.json").is_file()
    assert not (output / "report.html").exists()


@pytest.mark.parametrize("action", ["test", "compare"])
def test_full_disk_at_the_results_of_an_action(disk, command, action):
    run, output = disk / "run", disk / "out"
    assert command("nothing", *TINY, "task.pictures=0", f"hydra.run.dir={run}").returncode == 0
    before = content(run)
    settings = [f"ckpt={run}"] if action == "test" else [f"report.runs={run}"]
    arguments = [f"action={action}", *settings, f"hydra.run.dir={output}"]
    done = command("out/results.json", *arguments)
    assert done.returncode == 2
    (line,) = errors(done)
    assert f"{output / 'results.json'} cannot be written: {SPACE}" in line
    assert content(run) == before
    assert command("nothing", *arguments).returncode == 0


def test_full_disk_keeps_the_rows_of_metrics_csv(disk, command):
    run = disk / "run"
    training = [*TINY, "task.pictures=0", "trainer.max_epochs=2", f"hydra.run.dir={run}"]
    # The columns of the validation are new, so the file is written anew.
    done = command("version_0/metrics.csv.partial", *training)
    assert done.returncode == 2
    (line,) = errors(done)
    assert "best.ckpt cannot be written" in line
    assert f"CSVLogger failed: {run / 'csv' / 'version_0' / 'metrics.csv'} cannot be" in done.stdout
    rows = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3  # the header and two steps


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("multirun.yaml", 2, "the directory of the sweep cannot be written"),
        ("output.log", 1, "seed=0 failed: exit code"),
        ("report/table.md", 2, "table.md cannot be written"),
        ("report/table.csv", 2, "table.csv cannot be written"),
    ],
)
def test_full_disk_in_a_sweep(disk, command, file, code, said):
    arguments = [*TINY, *JOBS, f"hydra.sweep.dir={disk / 'sweep'}"]
    done = command(file, *arguments)
    assert done.returncode == code, done.stderr
    assert said in errors(done)[0]
    assert SPACE in done.stderr
    before = {path: path.read_bytes() for path in disk.glob("sweep/seed*/results.json")}
    assert len(before) == (2 if "table" in file else 0)
    again = command("nothing", *arguments)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert (disk / "sweep" / "report" / "table.csv").is_file()


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("csv/version_0/metrics.csv", "no such checkpoint exists yet"),
        ("report.json", "the previous checkpoint is kept"),
        ("checkpoints/last.ckpt", "no such checkpoint exists yet"),
    ],
)
def test_directory_that_becomes_read_only_during_a_training(disk, command, file, kept):
    run = disk / "run"
    done = command(
        file, *TINY, "trainer.max_epochs=2", f"hydra.run.dir={run}", kind="make_read_only"
    )
    assert done.returncode == 2
    (line,) = errors(done)
    assert f"error: {run / 'checkpoints'}/" in line
    assert f".ckpt cannot be written: {READ_ONLY}; {kept}. Fix: make the folder writable" in line


def test_directory_that_becomes_read_only_at_the_results(disk, command):
    run = disk / "run"
    training = [*TINY, "task.pictures=0", f"hydra.run.dir={run}"]
    done = command("run/results.json", *training, kind="make_read_only")
    assert done.returncode == 2
    (line,) = errors(done)
    assert f"{run / 'results.json'} cannot be written: {READ_ONLY}" in line
    assert command("nothing", *training, f"ckpt={run}").returncode == 0
