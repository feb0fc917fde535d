"""Processes of a sweep: exit codes, GPUs and logs."""

import json

import pytest

from parcnet_train.errors import ConfigError
from parcnet_train.sweeps import devices
from parcnet_train.sweeps.jobs import take
from parcnet_train.sweeps.launcher import run_jobs, tell_failed
from parcnet_train.sweeps.queue import Job
from sweep_jobs import WRITE, starts, states


def test_failed_job_is_reported_and_does_not_stop_the_others(jobs, capfd):
    good, bad, other = jobs(WRITE, "print('old')\nsys.exit(3)", WRITE)
    run_jobs([bad], 1)
    capfd.readouterr()
    bad = Job(bad.name, bad.folder, bad.plain, ["sh", "-c", "seq 20; exit 2"], bad.resuming)
    rows = run_jobs([good, bad, other], 1)
    assert states(rows) == ["finished", "failed", "finished"]
    tell_failed(rows)
    errors = capfd.readouterr().err.splitlines()
    log = bad.folder / "output.log"
    assert errors[0].startswith("error: seed=1 failed: exit code 2")
    assert str(log) in errors[0]
    assert errors[1:] == [f"  {number}" for number in range(11, 21)]
    assert log.read_text().startswith("old\n1\n")  # appended


def test_failure_by_a_signal_names_the_signal(jobs, capfd):
    (job,) = jobs("os.kill(os.getpid(), 9)")
    rows = run_jobs([job], 1)
    assert states(rows) == ["failed"]
    tell_failed(rows)
    assert "error: seed=0 failed: SIGKILL" in capfd.readouterr().err


def test_job_of_another_sweep_is_not_run(jobs, capfd):
    first, second = jobs(WRITE, WRITE)
    with take(first.identity, first.folder):
        rows = run_jobs([first, second], 2)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert starts(first) == []
    assert "error: seed=0 failed: " in (errors := capfd.readouterr().err)
    assert "already running in another sweep" in errors


def test_removed_directory_fails_only_its_job(jobs, capfd):
    gone, other = jobs("import shutil; shutil.rmtree(folder); sys.exit(1)", WRITE)
    rows = run_jobs([gone, other], 1)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert "cannot be read: No such file" in capfd.readouterr().err


def test_job_that_cannot_start_fails_alone_and_frees_its_gpus(jobs, monkeypatch, capfd):
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0"])
    bad, other = jobs(WRITE, WRITE)
    (bad.folder / "output.log").mkdir(parents=True)
    rows = run_jobs([bad, other], 1)
    assert states(rows) == ["failed", "finished"]
    tell_failed(rows)
    assert "cannot be started: [Errno" in capfd.readouterr().err
    take(bad.identity, bad.folder).close()


def test_concurrent_jobs_share_no_gpus(jobs, monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1", "2", "3", "4"])
    wait = (
        "import time\nwhile len(list(folder.parent.glob('*/started'))) < 2: time.sleep(0.01)\n"
        + WRITE
    )
    two = jobs(wait, wait, gpus=2)
    assert states(run_jobs(two, 2)) == ["finished", "finished"]
    assert [starts(job) for job in two] == [["0,1"], ["2,3"]]
    with pytest.raises(ConfigError, match=r"n_jobs=2: .*6 GPUs"):
        run_jobs(jobs(WRITE, WRITE, gpus=3), 2)


def test_progress_of_earlier_start_is_not_shown(jobs):
    (job,) = jobs("print((folder / 'progress.json').exists())\n" + WRITE)
    job.folder.mkdir()
    (job.folder / "progress.json").write_text(json.dumps({"epoch": 7, "epochs": 8}))
    run_jobs([job], 1)
    assert (job.folder / "output.log").read_text() == "False\n"
