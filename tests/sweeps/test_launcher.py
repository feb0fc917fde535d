"""The launcher of jobs, with small processes that import no torch."""

import os
import signal
import threading
import time

import pytest

from parcnet_train.check import config as checking
from parcnet_train.config.compose import PlainConfig
from parcnet_train.errors import ConfigError
from parcnet_train.sweeps import launcher
from parcnet_train.sweeps.jobs import take
from parcnet_train.sweeps.launcher import run_jobs
from parcnet_train.sweeps.queue import Job
from sweep_jobs import WRITE, starts, states

# As a training: says that it is there, saves at SIGTERM.
TRAIN = """
import signal, time
def save(number, _):
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
(folder / "ready").touch()
time.sleep(600)
(folder / "slept").touch()
"""


def test_finished_jobs_are_not_done_again(jobs):
    both = jobs(WRITE, WRITE)
    assert states(run_jobs(both, 1)) == ["finished", "finished"]
    before = [file.stat().st_mtime_ns for job in both for file in sorted(job.folder.iterdir())]
    rows = run_jobs(both, 2)
    assert states(rows) == ["finished before", "finished before"]
    assert rows[0].progress["value"] == 0.5
    after = [file.stat().st_mtime_ns for job in both for file in sorted(job.folder.iterdir())]
    assert after == before
    assert [len(starts(job)) for job in both] == [1, 1]


def test_the_same_job_runs_once(jobs, caplog):
    caplog.set_level("INFO")
    (job,) = jobs(WRITE)
    twin = Job("logger=tensorboard", job.folder, job.plain, ["false"], ["false"])
    assert states(run_jobs([job, twin], 2)) == ["finished", "finished"]
    assert len(starts(job)) == 1
    assert "logger=tensorboard is the same job as seed=0" in caplog.messages


@pytest.mark.parametrize("key", ["seed", "ckpt"])
def test_different_jobs_of_one_directory_are_refused(key, jobs):
    (job,) = jobs(WRITE)
    values = PlainConfig({**job.config, key: 7})
    with pytest.raises(ConfigError) as caught:
        run_jobs([job, Job(f"{key}=7", job.folder, values, job.command, job.command)], 1)
    assert f"seed=0 and {key}=7 would both write into {job.folder}" in str(caught.value)
    assert not job.folder.exists()


def signal_when_ready(folder, *numbers):
    def wait():
        while not (folder / "ready").exists():
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_the_same_command_goes_on(number, jobs, capfd):
    handler = signal.getsignal(number)
    done, stopped, waiting = jobs(WRITE, TRAIN, WRITE)
    signal_when_ready(stopped.folder, number)
    with pytest.raises(SystemExit) as caught:
        run_jobs([done, stopped, waiting], 1)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == handler
    assert capfd.readouterr().err == "stopped; go on with the same command\n"
    assert starts(waiting) == []
    rows = run_jobs([done, stopped, waiting], 1)
    assert states(rows) == ["finished before", "finished", "finished"]
    assert [len(starts(job)) for job in (done, stopped, waiting)] == [1, 2, 1]


@pytest.mark.parametrize("how", ["a minute", "a second signal"])
def test_a_job_that_does_not_stop_is_killed(how, jobs, monkeypatch):
    if how == "a minute":
        monkeypatch.setattr(launcher, "SAVING_SECONDS", 0.3)
    (job,) = jobs(TRAIN.replace("    sys.exit(128 + number)\n", ""))
    numbers = [signal.SIGINT] * (2 if how == "a second signal" else 1)
    signal_when_ready(job.folder, *numbers)
    with pytest.raises(SystemExit) as caught:
        run_jobs([job], 1)
    assert caught.value.code == 130
    assert not (job.folder / "slept").exists()  # it did not end by itself
    take(job.config, job.folder).close()  # it is over


@pytest.mark.parametrize("at_once", [0, -1])
def test_no_jobs_at_once(at_once, jobs):
    with pytest.raises(ConfigError) as caught:
        run_jobs(jobs(WRITE), at_once)
    assert str(caught.value) == f"hydra.launcher.n_jobs={at_once}: allowed is 1 or more"


def test_no_jobs_at_all():
    with pytest.raises(ConfigError, match="this sweep has no jobs; a sweep is KEY=VALUE,VALUE or"):
        run_jobs([], 1)


def test_faults_of_all_jobs_are_told_before_any_starts(jobs, monkeypatch):
    both = jobs(WRITE, WRITE)
    faults = {0: ["a: bad"], 1: ["a: bad", "b: bad"]}
    monkeypatch.setattr(checking, "check", lambda config, borrowed: faults[config["seed"]])
    with pytest.raises(ConfigError) as caught:
        run_jobs(both, 1)
    assert str(caught.value) == "a: bad\nb: bad"
    assert not any(job.folder.exists() for job in both)
    faults[1] = []
    assert states(run_jobs(both, 1)) == ["finished", "finished"]  # the processes would tell
