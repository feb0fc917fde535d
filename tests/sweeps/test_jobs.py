"""What an earlier start has left of a job, and one process per job."""

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
    take(config, folder).close()
    save(folder)


def save(folder):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()


def test_what_an_earlier_start_has_left(job):
    config, folder = job
    assert look(config, folder) == "new"
    take(config, folder).close()
    assert look(config, folder) == "new"  # there is no checkpoint yet
    interrupt(config, folder)
    assert look(config, folder) == "interrupted"
    finish(config, folder)
    assert look(config, folder) == "finished"
    finish(config, folder, status="failed")
    assert look(config, folder) == "interrupted"


def test_another_configuration_is_another_job(job):
    config, folder = job
    interrupt(config, folder)
    finish(config, folder)
    assert look({**config, "seed": 1}, folder) == "new"


def test_an_evaluation_is_never_finished(job):
    config, folder = job
    config["action"] = "test"
    finish(config, folder)
    assert look(config, folder) == "new"


def test_a_checkpoint_of_unknown_origin_is_not_gone_on_from(job):
    config, folder = job
    interrupt(config, folder)
    (folder / "job.lock").unlink()
    assert look(config, folder) == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_a_job_is_one_process_at_a_time(job):
    config, folder = job
    with take(config, folder), pytest.raises(TrainingError) as caught:
        take(config, folder)
    assert re.search(rf"^{folder}: .*process {os.getpid()} on ", str(caught.value))
    take(config, folder).close()
    assert (folder / "job.lock").read_text() == config_hash(config) + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_a_killed_process_gives_its_job_back(job):
    config, folder = job
    script = (
        "import time; from pathlib import Path; from parcnet_train.sweeps.jobs import take;"
        f"file = take({config!r}, Path({str(folder)!r})); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (folder / "job.lock").is_file() or not (folder / "job.lock").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(TrainingError, match="another sweep"):
            take(config, folder)
        os.kill(process.pid, signal.SIGKILL)
    take(config, folder).close()


def test_a_job_of_an_earlier_version_is_gone_on_with(job):
    config, folder = job
    save(folder)
    (folder / "job.lock").write_text(config_hash(config) + "\n")
    assert look(config, folder) == "interrupted"
    take(config, folder).close()


@pytest.mark.skipif(sys.platform == "win32", reason="locks nothing")
def test_hydras_own_launchers_keep_plain_commands_out(job):
    config, folder = job

    def resume_by_hand(_):
        with pytest.raises(TrainingError, match=f"process {os.getpid()} on "), at_work(folder):
            pytest.fail("two in one directory")

    run_once(config, resume_by_hand)
    with at_work(folder):  # a command that is over keeps nobody out
        pass


@pytest.mark.parametrize("what", ["checkpoints/last.ckpt", "results.json"])
def test_a_folder_with_another_run_stays_as_it_is(what, job):
    """Where somebody names directories that do not tell jobs apart."""
    config, folder = job
    take(config, folder).close()
    (folder / "checkpoints").mkdir()
    (folder / what).touch()
    for _ in range(2):  # in a later start, too
        with pytest.raises(TrainingError) as caught:
            take({**config, "seed": 1}, folder)
        assert str(caught.value) == (
            f"{folder} holds another run, which this job would overwrite; move it away, or name "
            "another directory: hydra.sweep.dir=PATH"
        )
    take(config, folder).close()


def test_hydras_own_launchers_do_not_go_on_from_another_run(job):
    config, folder = job
    interrupt(config, folder)
    with pytest.raises(TrainingError, match="holds another run"):
        run_once({**config, "seed": 1}, pytest.fail)


def test_a_full_disk_is_one_line(job, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Lock, "_write", write)
    with pytest.raises(TrainingError, match=r"cannot be written: No space left .*; make room, or"):
        take(*job)


def test_a_folder_that_cannot_be_written_is_one_line(job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        TrainingError, match=r"cannot be written: .*; make room, or write elsewhere"
    ):
        take(job[0], tmp_path / "file" / "job")


def test_hydras_own_launchers_do_a_job_once(job):
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
    assert seen == [None, str(folder)]  # the second one went on
    assert run_once(dict(config, ckpt=None), act) == 0.5
    assert len(seen) == 2  # the third one had nothing to do


def test_the_metric_of_a_run(job):
    config, folder = job
    assert metric_of(folder) is None
    finish(config, folder, monitor="val/miou", **{"val/miou": 0.25})
    assert metric_of(folder) == 0.25
