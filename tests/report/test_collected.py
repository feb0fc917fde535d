import json
from pathlib import Path

import pytest

from parcnet_train.errors import ConfigError
from parcnet_train.report.collected import collect, newest_of_seeds
from run_folders import provenance_of, results_of, write_run

LEFT_OUT = {
    "text": ("{", "results.json is not valid JSON"),
    "list": ("[]", "results.json is not valid JSON"),
    "other": ("{}", "results.json has no `action`"),
    "begun": (results_of(7, 0, 0.5, status="running"), "its status is 'running', not 'done'"),
    "no_seed": (results_of(7, 0, 0.5, seed=None), "results.json has no `seed`"),
    "word": (results_of(7, 0, 0.5, seed="one"), "`seed` is 'one', not a number"),
    "no_metric": (results_of(7, 0, None), "it has no metric: `val/top1` is not a number"),
}


def test_invalid_results_are_listed_as_left_out(tmp_path):
    write_run(tmp_path / "deep" / "good", results_of(7, 0, 0.5))
    write_run(tmp_path / "profile", {"status": "done", "action": "profile"})
    for name, (results, _) in LEFT_OUT.items():
        write_run(tmp_path / name, results)
    found = collect([tmp_path])
    assert [(run.name, run.metric, run.row.number) for run in found.runs] == [("deep/good", 50, 7)]
    assert sorted(found.left_out) == sorted(f"{name}: {why}" for name, (_, why) in LEFT_OUT.items())


@pytest.mark.parametrize("file", ["checkpoints/last.ckpt", "provenance.json"])
def test_unfinished_trainings_are_listed_as_left_out(tmp_path, file):
    write_run(tmp_path / "good", results_of(7, 0, 0.5))
    path = tmp_path / "begun" / file
    path.parent.mkdir(parents=True)
    path.touch()
    (line,) = collect([tmp_path]).left_out
    assert line.startswith("begun: ")
    assert "results.json" in line


def test_folder_without_results_raises(tmp_path):
    with pytest.raises(ConfigError, match=r"report.runs=.*no finished training"):
        collect([tmp_path])
    write_run(tmp_path / "bad", "{")
    with pytest.raises(ConfigError, match=r"no finished training.*\nbad: results.json is"):
        collect([tmp_path])


@pytest.mark.parametrize(
    "changes",
    [
        {"ablation": None},
        {"ablation": "table2_row14"},
        {"ablation": "mine"},
        {"action": "test"},
        {"backbone": "parcnet_xs"},
        {"monitor": "val/map", "val/map": 0.5},
    ],
)
def test_other_trainings_are_no_row_of_table_2(tmp_path, changes):
    write_run(tmp_path / "run", results_of(7, 0, 0.5, **changes))
    (run,) = collect([tmp_path]).runs
    assert run.row is None


@pytest.mark.parametrize("content", ["{", "{}", '{"config": 1}'])
def test_unreadable_provenance_is_none(tmp_path, content):
    write_run(tmp_path / "run", results_of(7, 0, 0.5))
    (tmp_path / "run" / "provenance.json").write_text(content)
    assert collect([tmp_path]).runs[0].provenance is None


def test_newest_run_of_a_seed_counts(tmp_path):
    write_run(tmp_path / "a", results_of(7, 0, 0.1), ended=3000)
    write_run(tmp_path / "b", results_of(7, 0, 0.2), ended=2000)
    write_run(tmp_path / "c", results_of(7, 1, 0.3), ended=1000)
    newest, (line,) = newest_of_seeds(collect([tmp_path]).runs, "row 7")
    assert [run.name for run in newest] == ["a", "c"]
    assert line.startswith("row 7, seed 0: 2 runs of one configuration; ")
    assert line.endswith("only the newest, a, is used, not b")


def test_end_time_and_config_hash_come_from_provenance(tmp_path):
    sessions = [{"ended": "2026-01-02T10:00:00+00:00"}]
    write_run(tmp_path / "a", results_of(7, 0, 0.1), ended=3000)
    told = provenance_of(0, sessions=sessions)
    write_run(tmp_path / "b", results_of(7, 0, 0.2, config_hash="other"), told, ended=2000)
    (newest,), (line,) = newest_of_seeds(collect([tmp_path]).runs, "row 7")
    assert newest.name == "b"
    assert "2 runs of different configurations" in line
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    del results["config_hash"]
    (tmp_path / "a" / "results.json").write_text(json.dumps(results))
    assert "2 runs; " in newest_of_seeds(collect([tmp_path]).runs, "row 7")[1][0]


def test_run_names_are_relative_to_the_common_folder(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / "sweep" / name, results_of(7, 0, 0.5))
    (tmp_path / "sweep" / "empty").mkdir()
    folders = [tmp_path / "sweep" / name for name in ("a", "empty", "c")]
    assert [run.name for run in collect(folders).runs] == ["a", "c"]
    with pytest.raises(ConfigError, match=r"report\.runs=.*empty and 1 more: .*no finished"):
        collect([tmp_path / "sweep" / "empty", tmp_path / "sweep" / "empty"])


def test_nested_and_relative_folders_list_each_run_once(tmp_path, monkeypatch):
    write_run(tmp_path / "sweep" / "a", results_of(7, 0, 0.5))
    write_run(tmp_path / "begun", {})
    (tmp_path / "begun" / "provenance.json").touch()
    (tmp_path / "begun" / "results.json").unlink()
    monkeypatch.chdir(tmp_path)
    found = collect([Path("sweep"), tmp_path / "sweep" / ".." / "sweep", tmp_path])
    assert [run.name for run in found.runs] == ["sweep/a"]
    assert [line.partition(":")[0] for line in found.left_out] == ["begun"]
