"""`scripts/collect_results.py` copies small files of runs, without host names and paths."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from parcnet_train.config.compose import CONF
from parcnet_train.runs.directories import OUTCOME, PROVENANCE, RESULTS

SCRIPT = CONF.parent / "scripts" / "collect_results.py"


def collect(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["collect_results.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def write_run(folder, ended=RESULTS):
    (folder / "csv" / "version_0").mkdir(parents=True)
    (folder / "csv" / "version_0" / "metrics.csv").write_text("epoch,val/top1\n0,0.5\n")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"large")
    provenance = {
        "config": {"data": {"root": "/home/me/sets/cifar10", "names": "annotations/val.json"}},
        "overrides": ["data.root=/home/me/sets/cifar10", "paths.cache=~/cache/demo"],
        "hardware": {"host": "lab-7", "cpu": "AMD"},
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance))
    if ended:
        results = {"run_dir": "/home/me/runs/a", "val/top1": 0.5, "source": "https://x.org/a/b"}
        (folder / ended).write_text(json.dumps(results))


def test_finished_and_failed_runs_are_copied_without_host_and_folders(tmp_path, monkeypatch):
    runs, output = tmp_path / "runs", tmp_path / "results"
    write_run(runs / "one")
    write_run(runs / "failed", ended=None)
    write_run(runs / "stopped", ended=None)
    write_run(runs / "running", ended=None)
    for name in ("failed", "stopped"):
        (runs / name / OUTCOME).write_text(json.dumps({"outcome": name}))
    collect(runs, output, monkeypatch=monkeypatch)
    assert sorted(path.name for path in output.iterdir()) == ["failed", "one"]
    copied = sorted(str(path.relative_to(output / "one")) for path in output.rglob("one/**/*.*"))
    assert copied == [str(Path("csv/version_0/metrics.csv")), PROVENANCE, RESULTS]
    assert json.loads((output / "one" / RESULTS).read_text()) == {
        "run_dir": "a",
        "val/top1": 0.5,
        "source": "https://x.org/a/b",
    }
    assert json.loads((output / "one" / PROVENANCE).read_text()) == {
        "config": {"data": {"root": "cifar10", "names": "annotations/val.json"}},
        "overrides": ["data.root=cifar10", "paths.cache=demo"],
        "hardware": {"host": "removed", "cpu": "AMD"},
    }


def test_folder_that_does_not_exist_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as error:
        collect(tmp_path / "none", tmp_path, monkeypatch=monkeypatch)
    assert error.value.code == 2
    assert "none: no such folder; expected a folder of runs" in capsys.readouterr().err
