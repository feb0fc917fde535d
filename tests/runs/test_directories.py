import json
import os
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from parcnet_train.errors import CheckpointError
from parcnet_train.runs import directories as runs
from parcnet_train.runs.directories import (
    RunSpec,
    by_start,
    checkpoint_of,
    config_hash,
    find_checkpoint,
    goes_on_from,
    named_runs,
    read_values,
    run_dir,
    run_of,
    started_at,
    write_results,
)

NAME = ("classification", "parcnet_s", "demo")


@pytest.fixture
def two_runs(tmp_path):
    """Create two runs of one name; the later one was interrupted before its first validation."""
    named = tmp_path / "classification" / "parcnet_s-demo"
    for start, files in (
        ("2024-01-01_00-00-00", ("best.ckpt", "last.ckpt")),
        ("2024-01-02_00-00-00", ("last.ckpt",)),
    ):
        (named / start / "checkpoints").mkdir(parents=True)
        (named / start / ".hydra").mkdir()
        begin = datetime.strptime(start, "%Y-%m-%d_%H-%M-%S").timestamp()
        os.utime(named / start / ".hydra", (begin, begin))
        for file in files:
            (named / start / "checkpoints" / file).touch()
    return named


@pytest.fixture
def noon(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 5, 6, 12, 7, 8)

    monkeypatch.setattr(runs, "datetime", Clock)
    return "2024-05-06_12-07-08"


def test_runs_of_same_task_backbone_and_data_share_a_folder():
    assert named_runs("runs", *NAME) == Path("runs/classification/parcnet_s-demo")


def test_last_is_the_newest_training_run(two_runs):
    newest = two_runs / "2024-01-02_00-00-00"
    for evaluation in ("test", "test_2", "average"):
        evaluation = f"2024-01-03_00-00-00_{evaluation}"
        (two_runs / evaluation).mkdir()
    assert (
        find_checkpoint("last", two_runs.parents[1], "fit") == newest / "checkpoints" / "last.ckpt"
    )


def test_last_does_not_depend_on_the_order_of_names(two_runs):
    for name, time in (("slurm-7", "2024-01-03"), ("torchrun-my-test", "2024-01-04")):
        first, second = (two_runs / f"2024-01-0{day}_00-00-00" for day in (1, 2))
        assert find_checkpoint("last", two_runs.parents[1], "fit").parents[1] == second
        begin = datetime.fromisoformat(time).timestamp()
        first.rename(two_runs / name)
        os.utime(two_runs / name / ".hydra", (begin, begin))
        assert find_checkpoint("last", two_runs.parents[1], "fit").parents[1] == two_runs / name
        (two_runs / name).rename(first)
        os.utime(first / ".hydra", (0, 0))


def test_resuming_does_not_make_a_run_newer(two_runs):
    first, second = (two_runs / f"2024-01-0{day}_00-00-00" for day in (1, 2))
    (first / ".hydra" / "config.yaml").touch()
    os.utime(first / ".hydra", (0, 0))
    (first / ".hydra" / "config.yaml").write_text("again")
    (first / "checkpoints" / "last.ckpt").write_text("again")
    assert find_checkpoint("last", two_runs.parents[1], "fit").parents[1] == second


def begin(run, started):
    """Create a run directory with a record of its start."""
    (run / ".hydra").mkdir(parents=True)
    record = {"started": started, "directory": str(run.resolve())}
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_last_depends_on_recorded_start_not_on_file_times(tmp_path):
    later = begin(tmp_path / "slurm-8", "2026-11-29T10:00:00.000002+00:00")
    earlier = begin(tmp_path / "slurm-9", "2026-11-29T10:00:00.000001+00:00")
    (earlier / ".hydra" / ".config.yaml.swp").touch()
    assert by_start(tmp_path.iterdir()) == [earlier, later]
    for name in ("slurm-9-copy", "a"):
        shutil.copytree(earlier, tmp_path / name)
    for name in ("later.bak", "b"):
        shutil.copytree(later, tmp_path / name)
    (tmp_path / ".notes.swp").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    ordered = by_start(tmp_path.iterdir())
    assert (ordered[2], ordered[-1]) == (earlier, later)
    assert len(ordered) == 6


def test_moved_run_is_newer_than_its_copy(tmp_path):
    run = begin(tmp_path / "old" / "run", "2026-11-29T10:00:00+00:00")
    shutil.copytree(run, tmp_path / "old" / "run (copy)")
    (tmp_path / "old").rename(tmp_path / "new")
    assert by_start((tmp_path / "new").iterdir())[-1] == tmp_path / "new" / "run"


def test_start_without_record_comes_from_name_or_provenance(tmp_path):
    names = ("2026-11-29_10-00-00", "2026-11-29_10-00-00_2", "2026-11-29_10-00-00_10", "slurm-7")
    runs = [tmp_path / name for name in names]
    for run in reversed(runs):
        (run / ".hydra").mkdir(parents=True)
    sessions = [{"started": "2026-11-30T10:00:00+00:00"}, {"started": "2020-01-01T10:00:00+00:00"}]
    (runs[3] / "provenance.json").write_text(json.dumps({"sessions": sessions}))
    for second, run in enumerate(reversed(runs)):
        os.utime(run / ".hydra", (second, second))
    assert by_start(tmp_path.iterdir()) == runs
    unnamed = tmp_path / "2026-99-99_10-00-00"
    (unnamed / ".hydra").mkdir(parents=True)
    os.utime(unnamed / ".hydra", (7, 7))
    assert started_at(unnamed) == 7


@pytest.mark.parametrize("text", ["", "{", '{"started": 7}', '{"started": "yesterday"}'])
def test_damaged_record_is_ignored(text, tmp_path):
    run = begin(tmp_path / "2026-11-29_10-00-00", "2026-11-29T10:00:00+00:00")
    (run / "run.json").write_text(text)
    assert started_at(run) == datetime(2026, 11, 29, 10).timestamp() + 1e-6


def test_last_without_checkpoint_raises_and_does_not_use_older_run(two_runs):
    newest = "2024-01-02_00-00-00"
    with pytest.raises(CheckpointError, match=rf"ckpt=last: .*{newest}.* best\.ckpt"):
        find_checkpoint("last", two_runs.parents[1], "test")


@pytest.mark.parametrize(("action", "file"), [("fit", "last.ckpt"), ("test", "best.ckpt")])
def test_last_without_any_run_raises(tmp_path, action, file):
    expected = rf"ckpt=last: .* {file} .*nothing/.*ckpt=PATH"
    with pytest.raises(CheckpointError, match=expected):
        find_checkpoint("last", tmp_path / "nothing", action)


@pytest.mark.parametrize(("action", "file"), [("fit", "last.ckpt"), ("export", "best.ckpt")])
def test_run_directory_refers_to_its_checkpoint(two_runs, action, file):
    run = two_runs / "2024-01-01_00-00-00"
    assert find_checkpoint(str(run), Path("unused"), action) == run / "checkpoints" / file


@pytest.mark.parametrize("action", ["fit", "test"])
def test_checkpoint_file_refers_to_itself(tmp_path, action):
    (tmp_path / "some.ckpt").touch()
    found = find_checkpoint(str(tmp_path / "some.ckpt"), Path("unused"), action)
    assert found == tmp_path / "some.ckpt"


def test_home_folder_is_expanded_in_ckpt(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "some.ckpt").touch()
    assert find_checkpoint("~/some.ckpt", Path("unused"), "fit") == tmp_path / "some.ckpt"


def test_missing_checkpoint_file_raises(tmp_path):
    expected = r"ckpt=.*none\.ckpt: .*none\.ckpt does not exist; expected `last`, a checkpoint"
    with pytest.raises(CheckpointError, match=expected):
        find_checkpoint(str(tmp_path / "none.ckpt"), tmp_path, "fit")


def test_run_directory_without_checkpoint_raises(two_runs):
    run = two_runs / "2024-01-02_00-00-00"
    with pytest.raises(
        CheckpointError, match=rf"ckpt={run}: {run}/checkpoints/best\.ckpt does not"
    ):
        find_checkpoint(str(run), two_runs.parents[1], "test")


def test_checkpoint_of_a_run_matches_its_choices(two_runs):
    root = two_runs.parents[1]
    spec = RunSpec("fit", "last", str(root), *NAME)
    newest = two_runs / "2024-01-02_00-00-00" / "checkpoints" / "last.ckpt"
    assert checkpoint_of(spec) == newest
    with pytest.raises(CheckpointError, match="parcnet_xs-demo"):
        checkpoint_of(replace(spec, backbone="parcnet_xs"))


@pytest.mark.parametrize("name", ["SLURM", "TORCHELASTIC"])
def test_restarted_job_resumes_from_its_own_checkpoint(name, two_runs, monkeypatch):
    first, second = (two_runs / f"2024-01-0{day}_00-00-00" for day in (1, 2))
    spec = RunSpec("fit", str(first), "unused", *NAME)
    # Without a restart, the directory of another training is refused.
    with pytest.raises(CheckpointError, match=r"checkpoints/last\.ckpt of another training"):
        goes_on_from(spec, second)
    monkeypatch.setenv(f"{name}_RESTART_COUNT", "1")
    assert goes_on_from(spec, second) == second / "checkpoints" / "last.ckpt"
    (second / "checkpoints" / "last.ckpt").unlink()  # it was restarted before its first checkpoint
    assert goes_on_from(spec, second) == first / "checkpoints" / "last.ckpt"


def test_torchrun_resumes_a_command_that_it_does_not_call_restarted(two_runs, monkeypatch):
    run = two_runs / "2024-01-01_00-00-00"
    typed = ["task=detection", f"hydra.run.dir={run}"]
    spec = RunSpec("fit", None, "unused", *NAME, overrides=["task=detection", "trainer.devices=2"])
    for name, value in {**TORCHRUN, "WORLD_SIZE": "1"}.items():  # the others have gone
        monkeypatch.setenv(name, value)
    for record in ({}, {"run_name": "torchrun-b", "overrides": typed}):
        (run / "run.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match="of another training"):
            goes_on_from(spec, run)
    (run / "run.json").write_text(json.dumps({"run_name": "torchrun-a-b-1", "overrides": typed}))
    assert goes_on_from(spec, run) == run / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match="of another training"):
        goes_on_from(replace(spec, overrides=["task=classification"]), run)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(CheckpointError, match="of another training"):
        goes_on_from(spec, run)


def test_run_of_only_its_last_checkpoint(two_runs):
    run = two_runs / "2024-01-01_00-00-00"
    assert run_of(run / "checkpoints" / "last.ckpt") == run
    # Resuming from other checkpoints must not overwrite later ones or folders that are not runs.
    assert run_of(run / "checkpoints" / "best.ckpt") is None
    assert run_of(two_runs / "elsewhere.ckpt") is None
    assert run_of(two_runs / "zoo" / "checkpoints" / "last.ckpt") is None


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a/b_1"}


def test_processes_of_torchrun_share_a_directory(tmp_path, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "classification" / "parcnet_s-demo" / "torchrun-a-b-1"
    assert run_dir(str(tmp_path), *NAME, "fit", None) == str(folder)
    folder.mkdir(parents=True)  # another process has created it first
    assert run_dir(str(tmp_path), *NAME, "fit", None) == str(folder)
    assert run_dir(str(tmp_path), *NAME, "test", None) == f"{folder}_test"
    monkeypatch.setenv("WORLD_SIZE", "1")  # one process is left
    monkeypatch.setenv("RANK", "0")
    assert run_dir(str(tmp_path), *NAME, "fit", None) == str(folder)


def test_new_run_is_named_by_its_start_time(noon):
    assert run_dir("runs", *NAME, "fit", None) == f"runs/classification/parcnet_s-demo/{noon}"


@pytest.mark.parametrize("action", ["test", "average"])
@pytest.mark.parametrize("ckpt", [None, "last"])
def test_evaluation_has_its_own_directory(two_runs, noon, ckpt, action):
    folder = run_dir(str(two_runs.parents[1]), *NAME, action, ckpt)
    assert folder == str(two_runs / f"{noon}_{action}")


def test_resumed_run_keeps_its_directory(two_runs, noon):
    root = str(two_runs.parents[1])
    first, second = (str(two_runs / f"2024-01-0{day}_00-00-00") for day in (1, 2))
    assert run_dir(root, *NAME, "fit", "last") == second
    assert run_dir(root, *NAME, "fit", first) == first
    assert run_dir(root, *NAME, "fit", f"{first}/checkpoints/last.ckpt") == first


def test_training_from_a_foreign_checkpoint_is_a_new_run(two_runs, noon):
    file = two_runs / "elsewhere.ckpt"
    file.touch()
    assert run_dir(str(two_runs.parents[1]), *NAME, "fit", str(file)) == str(two_runs / noon)


def test_resuming_without_a_run_raises(tmp_path):
    with pytest.raises(CheckpointError, match=r"ckpt=last: .* last\.ckpt"):
        run_dir(str(tmp_path), *NAME, "fit", "last")


def test_results_are_written_as_json(tmp_path):
    results = {"val/top1": 0.5, "parameters": 12, "backbone": "parcnet_s"}
    write_results(tmp_path, results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]


@pytest.mark.parametrize("action", ["profile", "benchmark", "report"])
def test_actions_without_data_have_their_own_folder(tmp_path, noon, action):
    folder = run_dir(str(tmp_path), *NAME, action, None)
    assert folder == str(tmp_path / action / noon)
    Path(folder).mkdir(parents=True)
    assert run_dir(str(tmp_path), *NAME, action, None) == f"{folder}_2"


CONFIG = {
    "action": "fit",
    "seed": 0,
    "ckpt": None,
    "choices": {"task": "classification"},
    "paths": {"runs": "runs"},
    "logger": {"csv": {}},
    "profile": {"compare": None},
    "task": {"pictures": 4, "scales": [1.0]},
    "trainer": {"limit_train_batches": 1},
}


def test_config_hash_does_not_depend_on_order():
    name = config_hash(CONFIG)
    assert len(name) == 12
    assert set(name) <= set("0123456789abcdef")
    turned = {key: CONFIG[key] for key in reversed(CONFIG)}
    turned["task"] = {"scales": [1.0], "pictures": 4}
    assert config_hash(turned) == name
    assert CONFIG["task"] == {"pictures": 4, "scales": [1.0]}


@pytest.mark.parametrize(
    "change",
    [
        {"ckpt": "last"},
        {"choices": {}},
        {"paths": {"runs": "elsewhere"}},
        {"logger": None},
        {"profile": {}},
        {"report": {"runs": "x"}},
        {"task": {"pictures": 0, "scales": [1.0]}},
    ],
)
def test_config_hash_ignores_values_without_effect_on_results(change):
    assert config_hash({**CONFIG, **change}) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"action": "test"},
        {"new": None},
        {"task": {"scales": [1.0, 2.0]}},
        {"trainer": {"limit_train_batches": 1.0}},  # all batches instead of one
    ],
)
def test_config_hash_depends_on_values_that_affect_results(change):
    assert config_hash({**CONFIG, **change}) != config_hash(CONFIG)


def test_config_hash_of_evaluation_depends_on_its_checkpoint():
    one, other = ({**CONFIG, "action": "test", "ckpt": ckpt} for ckpt in ("a.ckpt", "b.ckpt"))
    assert config_hash(one) != config_hash(other)
    profile = {**CONFIG, "action": "profile"}
    assert config_hash(profile) != config_hash({**profile, "profile": {}})


@pytest.mark.parametrize("text", ["", "{", "[1]", None])
def test_missing_or_damaged_file_has_no_values(text, tmp_path):
    if text is not None:
        (tmp_path / "progress.json").write_text(text)
    assert read_values(tmp_path / "progress.json") == {}
