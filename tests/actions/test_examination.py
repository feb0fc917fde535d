"""The command `action=check check.data=full`: its files, exit codes and messages."""

import json

import pytest

import parcnet_train
from doctor_trees import write_folders
from parcnet_train.errors import DataError
from running import TINY


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path / "data")


def command(root, *more):
    data = "data=imagefolder", f"data.root={root}", "data.num_workers=0"
    cache = f"paths.cache={root.parent / 'cache'}"
    return (*TINY, *data, "action=check", "check.data=full", cache, *more)


def test_clean_data_end_with_code_zero(folders, call_here, tmp_path, capsys):
    call_here(*command(folders))
    (run,) = (tmp_path / "runs" / "check").iterdir()
    values = json.loads((run / "report.json").read_text())
    assert (values["errors"], values["warnings"], values["files"]) == (0, 0, 33)
    assert values["action"] == "check"
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    printed = capsys.readouterr().out
    assert "nothing suspicious was found" in printed
    assert "report.html" in printed


def test_findings_end_with_code_one(folders, call_here, tmp_path, capsys):
    (folders / "val" / "ant" / "copy.jpg").write_bytes(
        (folders / "train" / "ant" / "0.jpg").read_bytes()
    )
    with pytest.raises(SystemExit) as caught:
        call_here(*command(folders, "hydra.run.dir=here"))
    assert caught.value.code == 1
    assert "warning: The data have leakage: the same file in both sets (1 validation image)." in (
        capsys.readouterr().out
    )
    values = json.loads((tmp_path / "here" / "results.json").read_text())
    assert (values["warnings"], values["errors"]) == (1, 0)


def test_data_that_a_training_refuses_end_with_code_two(folders, call_here, tmp_path, capsys):
    broken = folders / "train" / "ant" / "0.jpg"
    broken.write_bytes(b"nothing")
    with pytest.raises(SystemExit) as caught:
        call_here(*command(folders, "hydra.run.dir=here"))
    assert caught.value.code == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert line.startswith(f"error: {broken} cannot be read as an image (it is not an image")
    assert (tmp_path / "here" / "report.html").is_file()


def test_python_gets_the_results(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = parcnet_train.run(*command(folders))
    assert (results["errors"], results["warnings"]) == (0, 0)
    (folders / "train" / "ant" / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as an image"):
        parcnet_train.run(*command(folders))


def test_faults_of_the_configuration_come_first(folders, call_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here(*command(folders, "recipe.epochs=0"))
    assert caught.value.code == 2
    assert "recipe.epochs=0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_sweep_only_checks(folders, call_here, tmp_path, capsys):
    call_here("-m", *command(folders, "seed=0,1"))
    assert "2 of 2 configurations checked" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
