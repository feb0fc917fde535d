"""Launcher of jobs, with small processes that do not import PyTorch."""

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

# Acts like a training: reports its start, saves at SIGTERM.
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


def test_finished_jobs_are_skipped(jobs):
    both = jobs(WRITE, WRITE)
    assert states(run_jobs(both, 1)) == ["finished", "finished"]
    before = [file.stat().st_mtime_ns for job in both for file in sorted(job.folder.iterdir())]
    rows = run_jobs(both, 2)
    assert states(rows) == ["already finished"] * 2
    assert rows[0].progress["value"] == 0.5
    after = [file.stat().st_mtime_ns for job in both for file in sorted(job.folder.iterdir())]
    assert after == before
    assert [len(starts(job)) for job in both] == [1, 1]


def test_duplicate_job_runs_once(jobs, caplog):
    caplog.set_level("INFO")
    (job,) = jobs(WRITE)
    twin = Job("logger=tensorboard", job.folder, job.plain, ["false"], ["false"])
    assert states(run_jobs([job, twin], 2)) == ["finished", "finished"]
    assert len(starts(job)) == 1
    assert "logger=tensorboard is the same job as seed=0" in caplog.messages


@pytest.mark.parametrize("key", ["seed", "ckpt"])
def test_different_jobs_of_one_directory_raise(key, jobs):
    (job,) = jobs(WRITE)
    values = PlainConfig({**job.config, key: 7})
    with pytest.raises(ConfigError) as caught:
        run_jobs([job, Job(f"{key}=7", job.folder, values, job.command, job.command)], 1)
    fault = str(caught.value)
    for fact in ("hydra.sweep.subdir", "seed=0", f"{key}=7", str(job.folder), "hydra.sweep.dir"):
        assert fact in fault
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
def test_signal_stops_all_jobs_and_rerun_resumes(number, jobs, capfd, caplog):
    caplog.set_level("INFO")
    handler = signal.getsignal(number)
    done, stopped, waiting = jobs(WRITE, TRAIN, WRITE)
    signal_when_ready(stopped.folder, number)
    with pytest.raises(SystemExit) as caught:
        run_jobs([done, stopped, waiting], 1)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == handler
    assert capfd.readouterr().err == "stopped; rerun the same command to resume\n"
    assert starts(waiting) == []
    assert [m for m in caplog.messages if "seed=1" in m] == ["seed=1: running", "seed=1: stopped"]
    rows = run_jobs([done, stopped, waiting], 1)
    assert states(rows) == ["already finished", "finished", "finished"]
    assert [len(starts(job)) for job in (done, stopped, waiting)] == [1, 2, 1]


@pytest.mark.parametrize("how", ["a minute", "a second signal"])
def test_job_that_ignores_signals_is_killed(how, jobs, monkeypatch, caplog):
    caplog.set_level("INFO")
    if how == "a minute":
        monkeypatch.setattr(launcher, "SAVING_SECONDS", 0.3)
    (job,) = jobs(TRAIN.replace("    sys.exit(128 + number)\n", ""))
    numbers = [signal.SIGINT] * (2 if how == "a second signal" else 1)
    signal_when_ready(job.folder, *numbers)
    with pytest.raises(SystemExit) as caught:
        run_jobs([job], 1)
    assert caught.value.code == 130
    assert caplog.messages == ["seed=0: running", "seed=0: stopped"]
    assert not (job.folder / "slept").exists()  # the job did not end by itself
    take(job.identity, job.folder).close()  # the job has ended


@pytest.mark.parametrize("at_once", [0, -1])
def test_n_jobs_below_one_raises(at_once, jobs):
    with pytest.raises(ConfigError) as caught:
        run_jobs(jobs(WRITE), at_once)
    fault = str(caught.value)
    assert fault.startswith(f"hydra.launcher.n_jobs={at_once}: ")
    assert "at least 1" in fault


def test_sweep_without_jobs_raises():
    with pytest.raises(ConfigError, match="no jobs; expected KEY=VALUE,VALUE or"):
        run_jobs([], 1)


def test_sweep_with_only_faulty_jobs_raises_before_any_starts(jobs, monkeypatch):
    both = jobs(WRITE, WRITE)
    faults = {0: ["a: bad"], 1: ["a: bad", "b: bad"]}
    monkeypatch.setattr(checking, "check", lambda config, borrowed: faults[config["seed"]])
    with pytest.raises(ConfigError) as caught:
        run_jobs(both, 1)
    assert str(caught.value) == "a: bad\nb: bad"
    assert not any(job.folder.exists() for job in both)
    faults[1] = []
    # Faulty jobs fail in their own processes.
    assert states(run_jobs(both, 1)) == ["finished", "finished"]
