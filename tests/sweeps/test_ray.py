"""Sweeps on a local Ray of two cores, with Hydra's Ray launcher."""

import tempfile

import pytest

import running
from documentation import LISTED
from parcnet_train.config.compose import compose_config
from parcnet_train.runs.directories import LAST, LOCK
from parcnet_train.runs.locks import is_held
from running import TINY
from sweeping import (
    SAME,
    finish,
    folders,
    kill,
    processes_with,
    results,
    saved,
    times,
    wait_for,
)

pytestmark = pytest.mark.ray

TRAINING = (
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "recipe.schedule.warmup_steps=0",
)


@pytest.fixture
def sweep(start_sweep):
    """Start sweeps on a local Ray, and wait for its end after the test."""
    # The paths of Ray's sockets must be shorter than those of pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray = (
            f"+hydra.launcher.ray.init={{num_cpus: 2, include_dashboard: false, "
            f"_temp_dir: {folder}, _node_ip_address: 127.0.0.1}}"
        )
        started = []

        def start(*overrides):
            options = ("hydra/launcher=ray", ray, *TRAINING, *overrides)
            started.append(start_sweep(*options, environment={"RAY_USAGE_STATS_ENABLED": "0"}))
            return started[-1]

        yield start
        for process in started:
            kill(process)
        wait_for(lambda: not processes_with(f"{folder}/"))  # they end with their command


def files(folder):
    """Return the times of a job's files, without those that Hydra writes before it is skipped."""
    found = times(folder).items()
    return {p: t for p, t in found if p.suffix != ".log" and p.parent.name != ".hydra"}


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
    wait_for(lambda: {"seed-2", "seed-3"} <= saved(tmp_path), killed)
    kill(killed)  # its Ray and its jobs end by themselves
    jobs = {seed: folders(tmp_path)[f"seed-{seed}"] for seed in range(4)}
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
    assert sorted(folders(tmp_path)) == ["seed-0", "seed-1"]
    assert all(results(folder)["status"] == "done" for folder in folders(tmp_path).values())
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: seed=-1: expected a whole number")
    assert "Traceback" not in printed
    assert "retries remaining" not in printed
