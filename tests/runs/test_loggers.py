"""Loggers never stop a training, and each run directory is one W&B run."""

import errno
import json
import logging
import os
import shutil
import sys

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from parcnet_train.callbacks.pictures import log_picture
from parcnet_train.errors import ConfigError
from parcnet_train.runs.loggers import harmless, wandb_settings, working
from running import TINY, run


class Broken(CSVLogger):
    """Logger that fails at the second call, and counts the calls."""

    calls = 0

    def log_metrics(self, metrics, step=None):
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("no network\nand more")


def test_full_disk_at_a_new_column_keeps_the_rows_of_the_csv_file(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (logger,) = working([harmless(CSVLogger(tmp_path))])
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        logger.log_metrics({"a": 2.0, "b": 3.0}, 1)
        logger.save()
    (file,) = tmp_path.rglob("metrics.csv")
    assert file.read_text().splitlines() == ["a,step", "1.0,0"]


def test_new_columns_of_the_csv_file_are_added_to_all_rows(tmp_path):
    (logger,) = working([harmless(CSVLogger(tmp_path))])
    for step, metrics in enumerate(({"b": 1.0}, {"a": 2.0}, {"b": 3.0})):
        logger.log_metrics(metrics, step)
        logger.save()
    (file,) = tmp_path.rglob("metrics.csv")
    assert file.read_text().splitlines() == ["a,b,step", ",1.0,0", "2.0,,1", ",3.0,2"]


def test_first_failure_gives_one_warning_and_disables_the_logger(tmp_path, caplog):
    logger, other = harmless(Broken(tmp_path)), harmless(Broken(tmp_path))
    for step in range(5):
        logger.log_metrics({"a": 1.0}, step)
    logger.save()
    logger.finalize("success")
    assert logger.calls == 2
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Broken" in record.message
    assert "no network" in record.message
    other.log_metrics({"a": 1.0}, 0)
    assert other.calls == 1


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Simulate a W&B key without a network; return the arguments of each `wandb.init`."""
    given = []

    def init(**settings):
        given.append(settings)
        raise wandb.errors.CommError("Run initialization has timed out after 90.0 sec.")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    return given


def test_wandb_without_network_does_not_stop_a_training(online, tmp_path, caplog):
    results = run([*TINY, "logger=[tensorboard,wandb]"], tmp_path)
    assert results["status"] == "done"
    assert len(online) == 1
    (told,) = (each.message for each in caplog.records if "WandbLogger" in each.message)
    assert "timed out after 90.0 sec" in told
    assert list(tmp_path.glob("tensorboard/**/events.out.*"))
    assert (tmp_path / "csv" / "version_0" / "metrics.csv").is_file()


@pytest.mark.slow
def test_run_directory_is_one_wandb_run(online, tmp_path):
    for epochs in (1, 2):
        resumed = [] if epochs == 1 else [f"ckpt={tmp_path / 'run'}"]
        run([*TINY, "logger=wandb", f"trainer.max_epochs={epochs}", *resumed], tmp_path / "run")
    run([*TINY, "logger=wandb"], tmp_path / "other")
    first, second, other = (settings["id"] for settings in online)
    assert first == second != other
    assert all(settings["resume"] == "allow" for settings in online)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["id"] == first


def test_moved_run_keeps_its_wandb_id_and_copy_gets_a_new_one(online, tmp_path):
    name = wandb_settings({}, tmp_path / "run")["id"]
    (tmp_path / "run").rename(tmp_path / "moved")
    assert wandb_settings({}, tmp_path / "moved")["id"] == name
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    assert wandb_settings({}, tmp_path / "copy")["id"] != name
    assert wandb_settings({}, tmp_path / "moved")["id"] == name


def test_wandb_id_from_the_user_takes_precedence(online, tmp_path, monkeypatch):
    assert wandb_settings({"id": "mine"}, tmp_path)["id"] == "mine"
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    assert "id" not in wandb_settings({}, tmp_path)


def test_only_rank_0_sets_the_wandb_id(online, tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert wandb_settings({}, tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_earlier_wandb_run_of_this_process_is_finished(online, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(wandb, "run", object())
    monkeypatch.setattr(wandb, "finish", lambda: done.append("finished"))
    wandb_settings({}, tmp_path)
    assert done == ["finished"]


def test_invalid_wandb_key_logs_offline(tmp_path, monkeypatch):
    def login(**_):
        raise wandb.errors.UsageError("API key must have 40+ characters, has 3.")

    monkeypatch.setattr(wandb, "login", login)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_settings({}, tmp_path)["mode"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "mode" not in wandb_settings({}, tmp_path)


def test_picture_failure_does_not_stop_a_training(tmp_path, caplog):
    class Trainer:
        global_step = 1
        loggers = (harmless(TensorBoardLogger(tmp_path)),)

    for _ in range(2):
        log_picture(Trainer.loggers, "picture", "no picture", 0)
    (record,) = caplog.records
    assert "TensorBoardLogger" in record.message


def test_experiment_failure_does_not_stop_a_training(tmp_path, monkeypatch, caplog):
    def broken(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoardLogger, "experiment", property(broken))

    class Trainer:
        global_step = 1
        loggers = (harmless(TensorBoardLogger(tmp_path)),)

    log_picture(Trainer.loggers, "picture", "no picture", 0)
    assert "No space left on device" in caplog.text


def test_missing_wandb_raises_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = r"^logger=wandb: .*not installed.*pip install 'parcnet-train\[wandb\]'$"
    with pytest.raises(ConfigError, match=message):
        run([*TINY, "logger=[tensorboard,wandb]"], tmp_path)
