"""`parcnet_train.run` and `parcnet_train.compose`, which do what the command line does."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import parcnet_train
from faults import is_like
from parcnet_train.actions import api
from parcnet_train.distributed import launch
from parcnet_train.errors import ConfigError, ProcessError, UserError
from running import TINY, configure

PROFILE = ("action=profile", "backbone=parcnet_xs", "profile.image_size=64")


def state():
    """Return what a run must leave as it was."""
    root = logging.getLogger()
    return root.handlers[:], root.level, root.manager.disable, HydraConfig.instance().cfg


def test_run_returns_the_results_and_writes_what_a_command_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state()
    results = [parcnet_train.run(*PROFILE) for _ in range(2)]
    assert state() == before
    assert not GlobalHydra.instance().is_initialized()
    folders = sorted((tmp_path / "runs" / "profile").iterdir())
    assert len(folders) == 2  # the second run has a directory of its own
    for folder, result in zip(folders, results, strict=True):
        assert json.loads((folder / "results.json").read_text()) == result
        assert (folder / ".hydra" / "overrides.yaml").is_file()
        assert (folder / "parcnet_train.log").is_file()
    assert results[0]["backbone"] == "parcnet_xs"


def test_run_raises_all_faults_at_once_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        parcnet_train.run("backbone=parcnet_z", "recipe.optimizer.lrr=1", "trainer.max_epochs=0")
    assert [fault.key for fault in caught.value.faults] == [
        "backbone",
        "recipe.optimizer.lrr",
        "trainer.max_epochs",
    ]
    assert parcnet_train.UserError is UserError
    assert list(tmp_path.iterdir()) == []


def test_error_during_a_run_is_raised_with_its_class_and_its_message(tmp_path, monkeypatch, capfd):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = state()
    with pytest.raises(UserError) as caught:
        parcnet_train.run("debug=tiny", "data=imagefolder", f"data.root={tmp_path}")
    assert is_like(str(caught.value), "data.root: …train/a contains no image…")
    assert state() == before
    assert "overrides" not in capfd.readouterr().err  # Hydra's line about an exception


def test_values_that_are_no_numbers_are_none_as_in_the_file(monkeypatch):
    monkeypatch.setattr(api, "run_command", lambda *_, **__: {"val/map": math.nan, "seed": 0})
    assert parcnet_train.run() == {"val/map": None, "seed": 0}


def test_run_takes_one_value_per_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        parcnet_train.run("seed=0,1", *TINY)
    assert [fault.key for fault in caught.value.faults] == ["seed"]
    with pytest.raises(ConfigError):
        parcnet_train.run("hydra.mode=MULTIRUN", "seed=0,1", *TINY)
    assert list(tmp_path.iterdir()) == []


def test_run_of_several_processes_raises_what_one_of_them_ended_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "launch", lambda *_: 3)
    with pytest.raises(ProcessError) as caught:
        parcnet_train.run(*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert caught.value.code == 3


def test_check_is_an_action_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert parcnet_train.run("action=check", *TINY) == {"configurations": 1}
    assert "no faults" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_compose_gives_the_checked_configuration():
    before = state()
    given = ["task=detection", "backbone=parcnet_xs", "recipe.image_size=96"]
    config = parcnet_train.compose(*given)
    assert state() == before
    values, faults = configure(given)
    assert faults == []
    assert config == {**values, "overrides": given}
    assert config["data"]["image_size"] == 96
    assert config["choices"]["recipe"] == "demo"


def test_compose_reads_a_folder_of_your_own(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("defaults: [imagenet_300e]\nepochs: 17\n")
    given = "data=imagenet", f"data.root={tmp_path}", "recipe=mine", "action=profile"
    assert parcnet_train.compose(*given, config_dir=tmp_path)["recipe"]["epochs"] == 17
    with pytest.raises(ConfigError) as caught:
        parcnet_train.compose("recipe=mine")
    assert [fault.key for fault in caught.value.faults] == ["recipe"]


def test_import_of_the_package_imports_no_torch():
    code = "import sys, parcnet_train; parcnet_train.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_the_package_are_listed():
    names = ("UserError", "bake", "compose", "load", "parcify", "run")
    assert set(names) <= set(dir(parcnet_train))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = parcnet_train.nothing


@pytest.mark.slow
def test_run_of_two_processes_returns_their_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    results = parcnet_train.run(*TINY, *several)
    (file,) = Path("runs").rglob("results.json")
    assert results == json.loads(file.read_text())
    assert "val/top1" in results


@pytest.mark.slow
def test_run_of_two_processes_notes_why_it_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    with pytest.raises(ProcessError):
        parcnet_train.run(*TINY, *several, "trainer.limit_val_batches=0.001")
    (file,) = Path("runs").rglob("outcome.json")
    outcome = json.loads(file.read_text())
    assert outcome["outcome"] == "failed"
    assert outcome["reason"].startswith("trainer: ")
