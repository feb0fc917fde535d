"""A clock that goes back, as after a correction by NTP or in a machine that was suspended."""

import json
import os
import subprocess
import sys
from datetime import datetime

import pytest

from parcnet_train.actions.watch.states import Watcher
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.runs import directories
from parcnet_train.runs.claims import at_work, claim
from parcnet_train.runs.directories import RunSpec, find_checkpoint
from running import TINY

NAME = ("classification", "parcnet_s", "demo")

# Every look at the clock of a process is a minute earlier than the one before.
BACKWARD = """
import datetime, itertools, time
now, looks = time.time(), itertools.count()
time.time = lambda: now - 60 * next(looks)
time.time_ns = lambda: int(1e9 * time.time())

class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

# Only for this package: the datetime of C extensions cannot be exchanged.
from parcnet_train.runs import claims, directories, locks, provenance
for module in (claims, directories, locks, provenance):
    if hasattr(module, "datetime"):
        module.datetime = Clock
from parcnet_train.__main__ import main
main()
"""


def test_directories_of_a_clock_that_goes_back_are_unique_and_kept(tmp_path, monkeypatch):
    hours = iter([12, 11, 12, 11, 12])

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 5, 6, next(hours))

    monkeypatch.setattr(directories, "datetime", Clock)
    folders = []
    for number in range(5):
        folder = claim(RunSpec("fit", None, str(tmp_path), *NAME), [])
        with at_work(folder):
            assert not list(folder.glob("checkpoints/*"))
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "last.ckpt").write_text(str(number))
        folders.append(folder)
    texts = [(each / "checkpoints" / "last.ckpt").read_text() for each in folders]
    assert texts == ["0", "1", "2", "3", "4"]
    assert find_checkpoint("last", str(tmp_path), "fit").parents[1] in folders


def test_a_run_that_was_written_in_the_future_is_not_silent(tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    progress = {"epoch": 1, "epochs": 2, "metric": "val/acc1", "value": 0.5}
    (run / "progress.json").write_text(json.dumps(progress))
    written = datetime(2100, 1, 1).timestamp()
    os.utime(run / "progress.json", (written, written))
    with at_work(run):
        (found,) = Watcher([tmp_path]).read()
    assert (found.silent, found.epoch) == (None, 1)


@pytest.mark.slow
def test_a_training_whose_clock_goes_back_ends_and_resumes(tmp_path):
    run = tmp_path / "run"

    def train(epochs, *overrides):
        command = [
            *(sys.executable, "-c", BACKWARD, *TINY, f"trainer.max_epochs={epochs}"),
            *("checkpoint.every_minutes=0.001", f"paths.cache={tmp_path / 'cache'}"),
            *overrides,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr

    train(2, f"hydra.run.dir={run}")
    read_checkpoint(run / "checkpoints" / "last.ckpt")
    progress = json.loads((run / "progress.json").read_text())
    assert progress.get("seconds_left") is None or progress["seconds_left"] >= 0
    results = json.loads((run / "results.json").read_text())
    assert results["epochs"] == 2
    assert results["seconds"] > 0
    train(3, f"ckpt={run}")
    assert json.loads((run / "results.json").read_text())["epochs"] == 3
