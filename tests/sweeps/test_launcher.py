"""The launcher of jobs, with small processes that import no torch."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from parcnet_train.check import config as checking
from parcnet_train.config.compose import PlainConfig
from parcnet_train.errors import ConfigError
from parcnet_train.runs.directories import config_hash
from parcnet_train.sweeps import devices, launcher
from parcnet_train.sweeps.jobs import take
from parcnet_train.sweeps.launcher import run_jobs, tell_failed
from parcnet_train.sweeps.queue import Job

FINISH = """
import json, os, sys
from pathlib import Path
folder, identity = Path(sys.argv[1]), sys.argv[2]
results = {"status": "done", "config_hash": identity, "monitor": "val/top1", "val/top1": 0.5}
with (folder / "started").open("a") as file:
    file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "-") + "\\n")
"""
WRITE = "(folder / 'results.json').write_text(json.dumps(results))"
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


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(checking, "check", lambda config, borrowed: [])
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])


@pytest.fixture
def jobs(tmp_path):
    def make(*scripts, resuming=WRITE, gpus=1):
        made = []
        for seed, script in enumerate(scripts):
            trainer = {"accelerator": "auto", "devices": gpus}
            config = {"action": "fit", "seed": seed, "ckpt": None, "task": {}, "trainer": trainer}
            folder = tmp_path / f"seed-{seed}"
            head, tail = [sys.executable, "-c"], [str(folder), config_hash(config)]
            commands = [[*head, FINISH + body, *tail] for body in (script, resuming)]
            made.append(Job(f"seed={seed}", folder, PlainConfig(config), *commands))
        return made

    return make


def states(rows):
    return [row.state for row in rows]


def starts(job):
    file = job.folder / "started"
    return file.read_text().split() if file.is_file() else []


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


def test_a_failed_job_leaves_the_others_and_is_named(jobs, capfd):
    good, bad, other = jobs(WRITE, "print('old')\nsys.exit(3)", WRITE)
    run_jobs([bad], 1)
    capfd.readouterr()
    bad = Job(bad.name, bad.folder, bad.plain, ["sh", "-c", "seq 20; exit 2"], bad.resuming)
    rows = run_jobs([good, bad, other], 1)
    assert states(rows) == ["finished", "failed", "finished"]
    tell_failed(rows)
    errors = capfd.readouterr().err.splitlines()
    log = bad.folder / "output.log"
    assert errors[0] == f"error: seed=1 failed: exit code 2, the end of {log}:"
    assert errors[1:] == [f"  {number}" for number in range(11, 21)]
    assert log.read_text().startswith("old\n1\n")  # appended


def test_what_a_signal_has_ended_is_named_by_it(jobs, capfd):
    (job,) = jobs("os.kill(os.getpid(), 9)")
    rows = run_jobs([job], 1)
    assert states(rows) == ["failed"]
    tell_failed(rows)
    assert "error: seed=0 failed: SIGKILL, the end of" in capfd.readouterr().err


def test_a_job_that_another_sweep_has_is_left_alone(jobs, capfd):
    first, second = jobs(WRITE, WRITE)
    with take(first.config, first.folder):
        rows = run_jobs([first, second], 2)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert starts(first) == []
    assert "error: seed=0 failed: " in (errors := capfd.readouterr().err)
    assert "another sweep is at work on this job" in errors


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
    assert caught.value.faults == [
        f"seed=0 and {key}=7 would both write into {job.folder}; leave out hydra.sweep.subdir, or "
        "start a command for each, with a hydra.sweep.dir of its own"
    ]
    assert not job.folder.exists()


def test_a_directory_that_is_removed_meanwhile_fails_its_job_alone(jobs, capfd):
    gone, other = jobs("import shutil; shutil.rmtree(folder); sys.exit(1)", WRITE)
    rows = run_jobs([gone, other], 1)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert "output.log:\n  cannot be read: No such file" in capfd.readouterr().err


def test_a_job_that_cannot_be_started_fails_alone_and_gives_its_gpus_back(jobs, monkeypatch, capfd):
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0"])
    bad, other = jobs(WRITE, WRITE)
    (bad.folder / "output.log").mkdir(parents=True)
    rows = run_jobs([bad, other], 1)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert "error: seed=0 failed: it cannot be started: [Errno" in capfd.readouterr().err
    take(bad.config, bad.folder).close()


def test_jobs_at_once_have_gpus_of_their_own(jobs, monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1", "2", "3", "4"])
    wait = (
        "import time\nwhile len(list(folder.parent.glob('*/started'))) < 2: time.sleep(0.01)\n"
        + WRITE
    )
    two = jobs(wait, wait, gpus=2)
    assert states(run_jobs(two, 2)) == ["finished", "finished"]
    assert [starts(job) for job in two] == [["0,1"], ["2,3"]]
    with pytest.raises(ConfigError, match="jobs at once want 6 GPUs"):
        run_jobs(jobs(WRITE, WRITE, gpus=3), 2)


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
    assert caught.value.faults == [f"hydra.launcher.n_jobs={at_once}: allowed is 1 or more"]


def test_no_jobs_at_all():
    with pytest.raises(ConfigError, match="this sweep has no jobs; a sweep is KEY=VALUE,VALUE or"):
        run_jobs([], 1)


def test_faults_of_all_jobs_are_told_before_any_starts(jobs, monkeypatch):
    both = jobs(WRITE, WRITE)
    faults = {0: ["a: bad"], 1: ["a: bad", "b: bad"]}
    monkeypatch.setattr(checking, "check", lambda config, borrowed: faults[config["seed"]])
    with pytest.raises(ConfigError) as caught:
        run_jobs(both, 1)
    assert caught.value.faults == ["a: bad", "b: bad"]
    assert not any(job.folder.exists() for job in both)
    faults[1] = []
    assert states(run_jobs(both, 1)) == ["finished", "finished"]  # the processes would tell


def test_progress_of_an_earlier_start_is_not_shown(jobs):
    (job,) = jobs("print((folder / 'progress.json').exists())\n" + WRITE)
    job.folder.mkdir()
    (job.folder / "progress.json").write_text(json.dumps({"epoch": 7, "epochs": 8}))
    run_jobs([job], 1)
    assert (job.folder / "output.log").read_text() == "False\n"
