"""Whole sweeps as commands: killed ones, failing ones, and ones with several processes."""

import os
import signal

import pytest

import running
from parcnet_train.runs.directories import LAST
from parcnet_train.visualize.curves import read_series
from running import TINY
from sweeping import (
    SAME,
    TRAINING,
    finish,
    folders,
    kill,
    processes_with,
    results,
    saved,
    times,
    wait_for,
)

LOSSES = ("train/loss_step", "train/loss_epoch", "val/loss")


@pytest.mark.slow
def test_killed_sweep_skips_finished_jobs_resumes_and_reports_failures(tmp_path, start_sweep):
    """When the launcher is killed, one job has finished and one is running; a third one fails."""
    jobs = (*TRAINING, "seed=0,1,-1")
    killed = start_sweep(*jobs)
    wait_for(lambda: "seed-1" in saved(tmp_path), killed)
    first, second = (folders(tmp_path)[name] for name in ("seed-0", "seed-1"))
    kill(killed)  # no job may outlive the launcher
    wait_for(lambda: not processes_with(f"hydra.run.dir='{second}'"))
    assert not (second / "results.json").exists()
    before = times(first)

    printed = finish(start_sweep(*jobs), 1)
    assert "seed=0: already finished, epoch 2/2, top1" in printed
    assert times(first) == before
    assert "seed=1: resuming" in printed
    assert "seed=1: finished, epoch 2/2" in printed
    assert f"from {second / LAST}" in (second / "output.log").read_text()
    assert "error: seed=-1 failed: exit code 2" in printed
    *_, reason, last = printed.splitlines()
    assert reason.startswith("  error: seed=-1: ")
    assert last.startswith("error: 1 of 3 jobs failed")
    assert "Traceback" not in printed

    straight = running.run([*TINY, *TRAINING, "seed=1"], tmp_path / "straight")
    resumed = results(second)
    assert [straight[name] for name in SAME] == [resumed[name] for name in SAME]
    series = [read_series(folder / "csv") for folder in (second, tmp_path / "straight")]
    assert len(series[0]["train/loss_step"][0]) == 12
    assert all(series[0][name] == series[1][name] for name in LOSSES)


SEVERAL = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.mark.slow
def test_job_of_several_processes_writes_one_directory(tmp_path, start_sweep):
    """Lightning's own processes would each start the whole sweep."""
    finish(start_sweep(*SEVERAL, "seed=0,1"))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["sweeps"]
    names = [path.name for path in (tmp_path / "runs" / "sweeps" / "multirun").iterdir()]
    assert len(names) == 4
    assert {"multirun.yaml", "report"} < set(names)
    for folder in folders(tmp_path).values():
        assert (results(folder)["trainer"], results(folder)["run_dir"]) == ("ddp", str(folder))
        assert len(list((folder / "csv").iterdir())) == 1
        log = (folder / "parcnet_train.log").read_text()
        assert log.count("writing into") == log.count("epoch 1/1") == 1


@pytest.mark.slow
def test_ctrl_c_saves_and_rerun_resumes(tmp_path, start_sweep):
    stopped = start_sweep(*TRAINING, "seed=0,1", "hydra.launcher.n_jobs=2")
    wait_for(lambda: len(saved(tmp_path)) == 2, stopped)
    os.kill(stopped.pid, signal.SIGINT)
    assert "stopped; rerun the same command" in finish(stopped, 130)
    for folder in folders(tmp_path).values():
        assert "ckpt=" in (folder / "output.log").read_text()
    printed = finish(start_sweep(*TRAINING, "seed=0,1", "hydra.launcher.n_jobs=2"))
    assert printed.count(": resuming\n") == 2
    assert all(results(folder)["epochs"] == 2 for folder in folders(tmp_path).values())


@pytest.mark.slow
def test_basic_launcher_uses_the_same_directories(tmp_path, start_sweep):
    basic = ("hydra/launcher=basic", "seed=0,1")
    finish(start_sweep("seed=0,1"))
    before = {name: times(folder) for name, folder in folders(tmp_path).items()}
    printed = finish(start_sweep(*basic))
    assert printed.count("already finished") == 2
    for name, folder in folders(tmp_path).items():
        same = {path: t for path, t in times(folder).items() if path.parent.name != ".hydra"}
        assert same.items() <= before[name].items() | {
            (folder / "parcnet_train.log", same[folder / "parcnet_train.log"])
        }


@pytest.mark.slow
def test_failed_job_of_basic_launcher_does_not_affect_later_ones(tmp_path, start_sweep):
    printed = finish(start_sweep("hydra/launcher=basic", "seed=0,-1,1"), 2)
    assert sorted(folders(tmp_path)) == ["seed-0", "seed-1"]
    assert all(results(folder)["status"] == "done" for folder in folders(tmp_path).values())
    assert printed.splitlines()[-1].startswith("error: seed=-1: expected a whole number")
    assert "Traceback" not in printed
