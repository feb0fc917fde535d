"""What a watch reads from run directories, whole and half-written ones."""

import os
import shutil

import pytest

from parcnet_train.actions.watch import states
from parcnet_train.actions.watch.states import (
    FAILED,
    FINISHED,
    NO_REASON,
    RUNNING,
    STOPPED,
    Watcher,
)
from parcnet_train.actions.watch.table import cells
from watched_runs import CURVE, lock, plant, plant_all, progress_of, results_of


@pytest.fixture
def root(tmp_path):
    plant_all(tmp_path)
    return tmp_path


def look(root):
    return {run.folder.name: run for run in Watcher([root]).read()}


def test_states_and_order_of_runs(root):
    found = [(run.folder.name, run.state) for run in Watcher([root]).read()]
    assert found == [
        ("running", RUNNING),
        ("killed", FAILED),  # the newer of both
        ("failed", FAILED),
        ("stopped", STOPPED),
        ("finished", FINISHED),
    ]


def test_a_running_run_has_the_values_of_its_progress(root):
    run = look(root)["running"]
    assert (run.epoch, run.epochs) == (2.5, 8)
    assert (run.metric, run.value, run.best) == ("val/top1", 0.5, 0.75)
    assert (run.pace, run.seconds_left) == (123.4, 3723.4)
    assert tuple(run.values) == CURVE


def test_a_finished_run_has_the_values_of_its_results(root):
    run = look(root)["finished"]
    assert (run.epoch, run.epochs, run.value, run.best, run.pace) == (8, 8, 0.5, 0.75, 321)
    assert run.seconds_left is None


def test_ended_runs_have_no_time_left_and_failed_ones_a_reason(root):
    found = look(root)
    assert {found[name].seconds_left for name in ("stopped", "failed", "killed")} == {None}
    assert found["failed"].reason == "the loss is not finite"
    assert found["killed"].reason == NO_REASON
    assert found["stopped"].reason == found["running"].reason == ""


def test_a_resumed_run_is_running_although_it_has_results(root):
    finished = root / "classification" / "parcnet_s-demo" / "finished"
    lock(finished, pid=os.getpid())
    assert look(root)["finished"].state == RUNNING


def test_only_trainings_and_evaluations_are_runs_with_a_metric(root):
    plant(root / "a_test", results=results_of(action="test"), curve=())
    plant(root / "typed", overrides=["seed=1", "action=average"], curve=())
    plant(root / "predict" / "x", overrides=["++action=predict"], curve=())
    plant(root / "report" / "x", results={"status": "done", "action": "report"}, curve=())
    plant(root / "watching" / "inside" / "run", curve=())
    (root / "no_run").mkdir()
    found = look(root)
    assert {"a_test", "typed", "run"} <= set(found)
    assert "x" not in found
    assert found["a_test"].value == 0.75


def test_folders_may_overlap_and_be_runs_themselves(root):
    group = root / "classification" / "parcnet_s-demo"
    assert len(Watcher([root, group]).read()) == 5
    (run,) = Watcher([group / "finished"]).read()
    assert run.folder == group / "finished"


def test_links_to_runs_are_not_followed(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    plant(outside / "secret")
    (root / "link").symlink_to(outside)
    (root / "around").symlink_to(root)
    assert "secret" not in look(root)
    assert len(look(root)) == 5


HALVES = {
    "run": ('{"started": "2026-01', "[]", '{"started": 3, "overrides": "action=test"}', ""),
    "results": ('{"status": "do', "null", '{"status": "done", "action": 4, "monitor": ["a"]}'),
    "progress": (
        '{"epoch": 2.',
        '{"epoch": "two", "epochs": [], "metric": 5, "value": true, "seconds_left": "long"}',
        "\x00\x00",
    ),
    "outcome": ('{"outcome"', '{"outcome": ["stopped"], "reason": 7}', "7"),
}


@pytest.mark.parametrize(("name", "content"), [(n, each) for n in HALVES for each in HALVES[n]])
@pytest.mark.parametrize("is_held", [False, True])
def test_half_written_files_leave_values_out(tmp_path, name, content, is_held):
    files = {"progress": progress_of(), "outcome": {"outcome": "failed", "reason": "x"}}
    run = plant(tmp_path / "run", **{**files, name: content})
    if is_held:
        lock(run, pid=os.getpid())
    (state,) = Watcher([tmp_path]).read()
    assert state.state in (RUNNING, FAILED, FINISHED)
    assert (state.state == RUNNING) == is_held
    if name == "progress":
        assert (state.epoch, state.value, state.seconds_left) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("", CURVE),
        ("epoch,step,val/top1\n", CURVE),
        ("epoch,step,val/top1\n0", CURVE),
        ("epoch,step\n0,1\n", CURVE),
        ("val/top1\n0.5\n", CURVE),
        ("step,val/top1\n1,0.\x00", CURVE),
        ("step,val/top1\n1,0.5\n", (0.5,)),
    ],
)
def test_half_written_logs_keep_the_values_before(tmp_path, content, values):
    run = plant(tmp_path / "run", progress=progress_of())
    watcher = Watcher([tmp_path])
    assert tuple(watcher.read()[0].values) == CURVE
    (run / "csv" / "version_0" / "metrics.csv").write_text(content)
    assert tuple(watcher.read()[0].values) == values
    (state,) = Watcher([tmp_path]).read()
    assert tuple(state.values) == (() if values == CURVE else values)


def test_values_that_are_not_finite_are_left_out(tmp_path):
    plant(tmp_path / "run", progress=progress_of(), curve=(0.25, "nan", "inf", "-inf", 0.75))
    (state,) = Watcher([tmp_path]).read()
    assert tuple(state.values) == (0.25, 0.75)
    assert cells(state)["trend"] == "▁█"


def test_logs_are_read_again_only_after_a_change(tmp_path, monkeypatch):
    run = plant(tmp_path / "run", progress=progress_of())
    read, reads = states.read_rows, []

    def counted(folder):
        reads.append(folder)
        return read(folder)

    monkeypatch.setattr(states, "read_rows", counted)
    watcher = Watcher([tmp_path])
    assert tuple(watcher.read()[0].values) == tuple(watcher.read()[0].values) == CURVE
    assert len(reads) == 1
    with (run / "csv" / "version_0" / "metrics.csv").open("a") as stream:
        stream.write("3,27,,0.875\n")
    assert tuple(watcher.read()[0].values) == (*CURVE, 0.875)


def test_a_run_that_is_removed_meanwhile_is_left_out(root, monkeypatch):
    folders = list(states.run_directories(root))
    monkeypatch.setattr(states, "run_directories", lambda _: folders)
    shutil.rmtree(folders[0])
    assert len(Watcher([root]).read()) == len(folders) - 1


def test_a_running_training_that_writes_nothing_is_called_silent(root):
    file = root / "classification" / "parcnet_s-demo" / "running" / "progress.json"
    written = file.stat().st_mtime
    for seconds, expected in ((599.0, None), (700.0, 700.0)):
        watcher = Watcher([root], clock=lambda seconds=seconds: written + seconds)
        found = {run.folder.name: run.silent for run in watcher.read()}
        assert found["running"] == (expected if expected is None else pytest.approx(expected))
        assert {found[name] for name in ("killed", "stopped", "finished", "failed")} == {None}
