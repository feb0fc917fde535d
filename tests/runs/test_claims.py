import contextlib
import itertools
import json
import shutil
import signal
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

import parcnet_train
from parcnet_train.actions import command
from parcnet_train.errors import CheckpointError, ConfigError, ProcessError, TrainingError
from parcnet_train.runs import directories as runs
from parcnet_train.runs.claims import at_work, begin, claim, failure_noted
from parcnet_train.runs.directories import RunSpec, by_start

NAME = ("classification", "parcnet_s", "demo")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return the root folder of all runs; the time is noon."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 5, 6, 12, 7, 8)

    monkeypatch.setattr(runs, "datetime", Clock)
    return tmp_path


def start(root, action="fit", ckpt=None, overrides=(), explicit=None):
    """Claim and lock a directory as a command does, and return its name."""
    folder = claim(RunSpec(action, ckpt, str(root), *NAME), overrides, explicit)
    with at_work(folder, overrides):
        (folder / ".hydra").mkdir(exist_ok=True)
        (folder / "began.txt").touch()
    return folder.name


def finish(folder, *, results=True, checkpoint=False):
    if results:
        (folder / "results.json").write_text("{}")
    if checkpoint:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").touch()


def test_commands_of_the_same_second_have_different_directories(root):
    noon = "2024-05-06_12-07-08"
    spec = RunSpec("fit", None, str(root), *NAME)
    folders = [claim(spec, []) for _ in range(3)]  # none of them works in its directory yet
    assert [each.name for each in folders] == [noon, f"{noon}_2", f"{noon}_3"]
    assert all(each.is_dir() for each in folders)
    assert [start(root, "test") for _ in range(2)] == [f"{noon}_test", f"{noon}_test_2"]
    assert [start(root, "profile") for _ in range(2)] == [noon, f"{noon}_2"]


def test_directory_created_by_another_process_is_not_used(root, monkeypatch):
    mkdir, races = Path.mkdir, itertools.count()

    def late(path, *args, **settings):
        if next(races) == 0:
            mkdir(path, *args, **settings)
        return mkdir(path, *args, **settings)

    monkeypatch.setattr(Path, "mkdir", late)
    spec = RunSpec("fit", None, str(root), *NAME)
    assert claim(spec, []).name == "2024-05-06_12-07-08_2"


SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "1",
}


@pytest.fixture
def srun(monkeypatch):
    """Simulate a shell of `srun --pty bash`, whose commands all belong to the same task."""
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)


def test_commands_of_interactive_slurm_job_overwrite_nothing(root, srun):
    assert start(root) == "slurm-7"
    assert start(root) == "slurm-7_2"
    assert [start(root, "test") for _ in range(3)] == [
        "slurm-7_test",
        "slurm-7_test_2",
        "slurm-7_test_3",
    ]
    finish(root / "classification" / "parcnet_s-demo" / "slurm-7", checkpoint=True)
    resumed = str(root / "classification" / "parcnet_s-demo" / "slurm-7")
    assert start(root, ckpt=resumed) == "slurm-7"
    assert start(root) == "slurm-7_3"


def test_requeued_job_finds_its_directories(root, srun, monkeypatch):
    commands = [("fit", ["seed=1"]), ("fit", ["seed=2"]), ("test", ["seed=1"])]
    names = [start(root, action, overrides=overrides) for action, overrides in commands]
    assert names == ["slurm-7", "slurm-7_2", "slurm-7_test"]
    for name in names:
        finish(root / "classification" / "parcnet_s-demo" / name)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    again = [start(root, action, overrides=overrides) for action, overrides in commands]
    assert again == names
    assert start(root, overrides=["seed=3"]) == "slurm-7_3"


def test_requeued_job_of_earlier_version_finds_its_directory(root, srun, monkeypatch):
    folder = root / "classification" / "parcnet_s-demo" / "slurm-7"
    (folder / ".hydra").mkdir(parents=True)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert start(root, overrides=["seed=1"]) == "slurm-7"


def test_processes_of_one_run_share_a_directory_without_results(root, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        spec = RunSpec("test", None, str(root), *NAME)
        assert claim(spec, []).name == "torchrun-mine_test"
    folder = root / "classification" / "parcnet_s-demo" / "torchrun-mine_test"
    folder.mkdir(parents=True)
    finish(folder)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ConfigError, match=f"hydra.run.dir={folder}: .*results.json"):
            claim(spec, [])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert claim(spec, []) == folder


def test_torchrun_resumes_an_unfinished_run_of_the_same_name_and_command(root, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    spec, typed = RunSpec("fit", None, str(root), *NAME), ["seed=1"]
    folder = claim(spec, typed)
    with at_work(folder, typed):
        pass
    finish(folder, results=False, checkpoint=True)
    assert claim(spec, typed) == folder
    with pytest.raises(CheckpointError, match="of another training"):
        claim(spec, ["seed=2"])
    finish(folder)
    with pytest.raises(ConfigError, match=r"results\.json of an earlier run"):
        claim(spec, typed)
    # A command that names the checkpoint may go on, as always.
    resumed = replace(spec, ckpt=str(folder))
    assert claim(resumed, [*typed, f"ckpt={folder}"]) == folder


def test_only_rank_0_locks(tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with at_work(tmp_path / "run"), at_work(tmp_path / "run"):
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("action", ["fit", "test", "predict", "export", "average", "profile"])
def test_named_directory_with_results_raises(action, root):
    folder = root / "here"
    assert start(root, action, explicit=folder) == "here"
    assert start(root, action, explicit=folder) == "here"  # the first start left no results
    finish(folder)
    with pytest.raises(ConfigError, match=f"hydra.run.dir={folder}: .*results.json"):
        start(root, action, explicit=folder)


def test_training_in_named_directory_is_resumed_but_not_restarted(root):
    folder = root / "here"
    start(root, explicit=folder)
    finish(folder, checkpoint=True)
    assert start(root, ckpt=str(folder), explicit=folder) == "here"
    with pytest.raises(CheckpointError, match=f"hydra.run.dir={folder}: .*checkpoints/last.ckpt"):
        start(root, explicit=folder)
    with pytest.raises(ConfigError, match=f"hydra.run.dir={folder}: .*results.json"):
        start(root, "test", ckpt=str(folder), explicit=folder)


def test_report_may_be_overwritten(root):
    start(root, "report", explicit=root / "report")
    finish(root / "report")
    assert start(root, "report", explicit=root / "report") == "report"


def test_directory_at_work_is_locked_against_a_second_command(tmp_path):
    with at_work(tmp_path / "run"):
        before = sorted(tmp_path.rglob("*"))
        told = rf"^{tmp_path}/run: .* process \d+ on .* since \d"
        with pytest.raises(TrainingError, match=told), at_work(tmp_path / "run"):
            pytest.fail("two in one directory")
        assert sorted(tmp_path.rglob("*")) == before
    with at_work(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_command_does_not_resume_a_run_at_work(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("before")
    finish(run, results=False, checkpoint=True)
    # The checkpoint of this test is an empty file.
    monkeypatch.setattr(command, "refuse_faults", lambda *_, **__: None)
    with at_work(run):
        before = sorted(run.rglob("*"))
        with pytest.raises(TrainingError) as caught:
            parcnet_train.run(f"ckpt={run}")
        assert sorted(run.rglob("*")) == before
    assert str(caught.value).startswith(f"{run}: ")
    assert (run / ".hydra" / "config.yaml").read_text() == "before"


def test_start_of_a_run_is_recorded_once(tmp_path):
    run = tmp_path / "run"
    with at_work(run, ["seed=1"]):
        record = json.loads((run / "run.json").read_text())
    assert record["overrides"] == ["seed=1"]
    assert record["directory"] == str(run)
    assert datetime.fromisoformat(record["started"]).tzinfo is not None
    with at_work(run, ["seed=1", "ckpt=last"]):
        assert json.loads((run / "run.json").read_text()) == record


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt(), {"outcome": "stopped"}),
        (SystemExit(130), {"outcome": "stopped"}),
        (SystemExit(128 + signal.SIGTERM), {"outcome": "stopped"}),
        (ProcessError(2, 128 + signal.SIGUSR1), {"outcome": "stopped"}),
        (SystemExit(137), {"outcome": "failed", "reason": "SystemExit: 137"}),
        (TrainingError("a\nb"), {"outcome": "failed", "reason": "a"}),
        (
            ZeroDivisionError(),
            {"outcome": "failed", "reason": "ZeroDivisionError: ZeroDivisionError"},
        ),
        (
            MemoryError("all of it\nis used"),
            {"outcome": "failed", "reason": "MemoryError: all of it"},
        ),
    ],
    ids=repr,
)
def test_work_that_ends_by_an_exception_leaves_its_outcome(tmp_path, error, outcome):
    with pytest.raises(type(error)), at_work(tmp_path / "run"):
        raise error
    assert json.loads((tmp_path / "run" / "outcome.json").read_text()) == outcome
    with at_work(tmp_path / "run"):
        assert not (tmp_path / "run" / "outcome.json").exists()
    assert not (tmp_path / "run" / "outcome.json").exists()


def test_work_that_has_results_leaves_no_outcome(tmp_path):
    def predict():
        with at_work(tmp_path):
            finish(tmp_path)
            raise SystemExit(1)  # one of its images could not be read

    with pytest.raises(SystemExit):
        predict()
    assert not (tmp_path / "outcome.json").exists()


PROCESS = ProcessError(2, 1)  # of the launcher


@pytest.mark.parametrize(
    ("rank", "own", "of_launcher", "outcome"),
    [
        (0, TrainingError("a"), PROCESS, {"outcome": "failed", "reason": "a"}),
        (0, OSError("a"), PROCESS, {"outcome": "failed", "reason": "OSError: a"}),
        (1, TrainingError("a"), PROCESS, {"outcome": "failed", "reason": "a"}),
        (1, OSError("a"), PROCESS, {"outcome": "failed", "reason": str(PROCESS)}),
        # The others were ended by the launcher, since the second one failed.
        (0, SystemExit(143), PROCESS, {"outcome": "failed", "reason": str(PROCESS)}),
        # The others failed, since the second one was killed.
        (
            *(0, OSError("a"), ProcessError(2, 137)),
            {"outcome": "failed", "reason": str(ProcessError(2, 137))},
        ),
        (0, SystemExit(130), ProcessError(2, 130), {"outcome": "stopped"}),
    ],
    ids=repr,
)
def test_outcome_is_what_one_of_several_processes_failed_with(
    tmp_path, monkeypatch, rank, own, of_launcher, outcome
):
    def launch():
        with at_work(tmp_path):
            variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            with monkeypatch.context() as patched, contextlib.suppress(type(own)):
                for name, value in variables.items():
                    patched.setenv(name, value)
                with failure_noted(tmp_path):
                    raise own
            raise of_launcher

    with pytest.raises(ProcessError):
        launch()
    assert json.loads((tmp_path / "outcome.json").read_text()) == outcome


def test_an_outcome_that_cannot_be_written_hides_no_error(tmp_path):
    (tmp_path / "run" / "outcome.json.partial").mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), at_work(tmp_path / "run"):
        raise ZeroDivisionError


def test_moved_run_keeps_its_record_and_copy_gets_a_new_one(tmp_path):
    one, moved, copy = (tmp_path / name for name in ("one", "moved", "copy"))
    record = begin(one)
    one.rename(moved)
    assert begin(moved) == {**record, "directory": str(moved)}
    shutil.copytree(moved, copy)
    assert by_start([moved, copy])[-1] == moved
    of_copy = begin(copy)
    assert of_copy["id"] != record["id"]
    assert begin(moved)["id"] == record["id"]
    assert by_start([moved, copy])[-1] == copy


def test_run_without_record_is_recorded_with_its_start_time(tmp_path):
    run = tmp_path / "2024-01-01_00-00-00"
    (run / ".hydra").mkdir(parents=True)
    expected = datetime(2024, 1, 1).timestamp() + 1e-6
    assert datetime.fromisoformat(begin(run)["started"]).timestamp() == expected
