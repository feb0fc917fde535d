"""State of jobs after earlier starts, and locks of jobs."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from parcnet_train.errors import TrainingError
from parcnet_train.runs.claims import at_work
from parcnet_train.runs.directories import config_hash
from parcnet_train.runs.locks import Lock
from parcnet_train.sweeps.jobs import look, metric_of, run_once, take

CONFIG = {"action": "fit", "seed": 0, "ckpt": None, "task": {}}


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "job"
    return {**CONFIG, "paths": {"output": str(folder)}}, folder


def finish(config, folder, **values):
    folder.mkdir(exist_ok=True)
    results = {"status": "done", "config_hash": config_hash(config), "monitor": "val/top1"}
    (folder / "results.json").write_text(json.dumps({**results, "val/top1": 0.5, **values}))


def interrupt(config, folder):
    take(config_hash(config), folder).close()
    save(folder)


def save(folder):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()


def state(config, folder):
    return look(config["action"], config_hash(config), folder)


def test_state_of_a_job_after_earlier_starts(job):
    config, folder = job
    assert state(config, folder) == "new"
    take(config_hash(config), folder).close()
    assert state(config, folder) == "new"  # there is still no checkpoint
    interrupt(config, folder)
    assert state(config, folder) == "interrupted"
    finish(config, folder)
    assert state(config, folder) == "finished"
    finish(config, folder, status="failed")
    assert state(config, folder) == "interrupted"


def test_different_configuration_is_a_new_job(job):
    config, folder = job
    interrupt(config, folder)
    finish(config, folder)
    assert state({**config, "seed": 1}, folder) == "new"


def test_evaluation_is_never_finished(job):
    config, folder = job
    config["action"] = "test"
    finish(config, folder)
    assert state(config, folder) == "new"


def test_checkpoint_of_unknown_origin_is_not_resumed(job):
    config, folder = job
    interrupt(config, folder)
    (folder / "job.lock").unlink()
    assert state(config, folder) == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_job_is_locked_by_one_process(job):
    config, folder = job
    with take(config_hash(config), folder), pytest.raises(TrainingError) as caught:
        take(config_hash(config), folder)
    assert re.search(rf"^{folder}: .*process {os.getpid()} on ", str(caught.value))
    take(config_hash(config), folder).close()
    assert (folder / "job.lock").read_text() == config_hash(config) + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_killed_process_releases_its_job(job):
    config, folder = job
    script = (
        "import time; from pathlib import Path; from parcnet_train.sweeps.jobs import take;"
        f"file = take({config_hash(config)!r}, Path({str(folder)!r})); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (folder / "job.lock").is_file() or not (folder / "job.lock").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(TrainingError, match="another sweep"):
            take(config_hash(config), folder)
        os.kill(process.pid, signal.SIGKILL)
    take(config_hash(config), folder).close()


def test_job_of_earlier_version_is_resumed(job):
    config, folder = job
    save(folder)
    (folder / "job.lock").write_text(config_hash(config) + "\n")
    assert state(config, folder) == "interrupted"
    take(config_hash(config), folder).close()


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_job_of_basic_launcher_locks_out_plain_commands(job):
    config, folder = job

    def resume_by_hand(_):
        with pytest.raises(TrainingError, match=f"process {os.getpid()} on "), at_work(folder):
            pytest.fail("two in one directory")

    run_once(config, resume_by_hand)
    with at_work(folder):  # a finished command locks nobody out
        pass


@pytest.mark.parametrize("what", ["checkpoints/last.ckpt", "results.json"])
def test_folder_with_another_run_is_not_overwritten(what, job):
    """The command line may name directories that several jobs share."""
    config, folder = job
    take(config_hash(config), folder).close()
    (folder / "checkpoints").mkdir()
    (folder / what).touch()
    for _ in range(2):  # also in a later start
        with pytest.raises(TrainingError) as caught:
            take(config_hash({**config, "seed": 1}), folder)
        assert f"{folder} contains another run" in str(caught.value)
        assert "hydra.sweep.dir=PATH" in str(caught.value)
    take(config_hash(config), folder).close()


def test_basic_launcher_does_not_resume_another_run(job):
    config, folder = job
    interrupt(config, folder)
    with pytest.raises(TrainingError, match="contains another run"):
        run_once({**config, "seed": 1}, pytest.fail)


def test_full_disk_raises_training_error(job, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Lock, "_write", write)
    with pytest.raises(TrainingError, match=r"cannot be written: No space left .*paths\.runs=PATH"):
        take(config_hash(job[0]), job[1])


def test_unwritable_folder_raises_training_error(job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot be written: .*paths\.runs=PATH"):
        take(config_hash(job[0]), tmp_path / "file" / "job")


def test_basic_launcher_runs_each_job_once(job):
    config, folder = job
    seen = []

    def act(values):
        seen.append(values["ckpt"])
        if len(seen) == 1:
            save(folder)
            raise KeyboardInterrupt
        finish(config, folder)

    with pytest.raises(KeyboardInterrupt):
        run_once(config, act)
    assert run_once(config, act) == 0.5
    assert seen == [None, str(folder)]  # the second one resumed
    assert run_once(dict(config, ckpt=None), act) == 0.5
    assert len(seen) == 2  # the third one was skipped


def test_metric_of_a_run_is_the_monitored_one(job):
    config, folder = job
    assert metric_of(folder) is None
    finish(config, folder, monitor="val/miou", **{"val/miou": 0.25})
    assert metric_of(folder) == 0.25
