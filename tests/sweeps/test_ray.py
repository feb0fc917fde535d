"""Sweeps on a local Ray of two cores, with Hydra's Ray launcher."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import running
from documentation import LISTED
from parcnet_train.config.compose import compose_config
from parcnet_train.runs.directories import LOCK
from parcnet_train.runs.locks import is_held
from running import TINY

pytestmark = pytest.mark.ray

LAST = Path("checkpoints") / "last.ckpt"
SAME = ("val/top1", "val/loss", "epochs", "steps")
TRAINING = (
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "recipe.schedule.warmup_steps=0",
)


@pytest.fixture
def sweep(tmp_path):
    """Start sweeps on a local Ray, and end what is left of them after the test."""
    started = []
    # The paths of Ray's sockets must be shorter than those of pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray = (
            f"+hydra.launcher.ray.init={{num_cpus: 2, include_dashboard: false, "
            f"_temp_dir: {folder}, _node_ip_address: 127.0.0.1}}"
        )

        command = (sys.executable, "-m", "parcnet_train", "-m", "hydra/launcher=ray", ray)
        modules = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        }

        def start(*overrides):
            process = subprocess.Popen(
                [*command, *TINY, *TRAINING, *overrides],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.wait()
        wait_for(lambda: not processes_of(folder))  # they end with the command that started them


def processes_of(folder):
    """Return the processes of a Ray, which all have its folder in their command lines."""
    found = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if f"{folder}/" in line]


def wait_for(is_there, seconds=600):
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(process, code=0):
    printed = process.communicate(timeout=900)[0]
    assert process.returncode == code, printed
    return printed


def folders(cwd):
    """Return the directories of the jobs by their seeds."""
    found = (path.parent for path in cwd.glob("runs/sweeps/multirun/*/run.json"))
    return {int(path.name.split("-")[1]): path for path in found}


def results(folder):
    return json.loads((folder / "results.json").read_text())


def files(folder):
    """Return the times of a job's files, without those that Hydra writes before it is skipped."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {path: path.stat().st_mtime_ns for path in found if path.parent.name != ".hydra"}


COMMANDS = [each for each in LISTED if "hydra/launcher=ray" in each.overrides]


def test_commands_of_the_guide_compose():
    assert COMMANDS
    for command in COMMANDS:
        config, faults = compose_config(list(command.overrides))
        assert faults == []
        assert config.hydra.launcher.ray.init.num_cpus == 2


def test_killed_sweep_on_ray_skips_finished_jobs_and_resumes_others(tmp_path, sweep):
    gate = tmp_path / "open"
    held = (
        f"+callbacks.gate={{_target_: sweep_gate.Gate, file: {gate}, seed: '${{seed}}', first: 2}}"
    )
    killed = sweep("seed=0,1,2,3", held)

    def are_held():
        assert killed.poll() is None, killed.communicate()
        jobs = folders(tmp_path)
        return len(jobs) == 4 and all((jobs[seed] / LAST).exists() for seed in (2, 3))

    wait_for(are_held)
    killed.kill()  # only the command; its Ray and its jobs end by themselves
    killed.communicate()
    jobs = folders(tmp_path)
    assert [(jobs[seed] / "results.json").exists() for seed in range(4)] == [True] * 2 + [False] * 2
    before = {seed: files(jobs[seed]) for seed in (0, 1)}

    # Ray takes a moment to notice, and an open gate would let its jobs finish meanwhile.
    wait_for(lambda: not any(is_held(jobs[seed] / LOCK) for seed in (2, 3)))
    gate.touch()
    printed = finish(sweep("seed=0,1,2,3", held))
    assert {seed: files(jobs[seed]) for seed in (0, 1)} == before
    assert len(folders(tmp_path)) == 4
    for seed, folder in jobs.items():
        log = (folder / "parcnet_train.log").read_text()
        assert log.count("this job is already finished") == (seed < 2)
        assert log.count(f"resuming from {folder / LAST}") == (seed >= 2)
    assert "Traceback" not in printed

    straight = running.run([*TINY, *TRAINING, "seed=3", held], tmp_path / "straight")
    resumed = results(jobs[3])
    assert [resumed[name] for name in SAME] == [straight[name] for name in SAME]


def test_failed_job_on_ray_does_not_affect_others(tmp_path, sweep):
    printed = finish(sweep("seed=0,-1,1"), 2)
    assert sorted(folders(tmp_path)) == [0, 1]
    assert all(results(folder)["status"] == "done" for folder in folders(tmp_path).values())
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: seed=-1: expected a whole number")
    assert "Traceback" not in printed
    assert "retries remaining" not in printed
