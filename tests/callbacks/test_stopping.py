"""Trainings that end before their last epoch."""

import json
import logging

import pytest
from pytorch_lightning.callbacks import Callback

from parcnet_train.callbacks.stopping import EarlyStopping
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import ConfigError
from running import TINY, configure, faults_of, launched, run

# The metric cannot improve, since nothing is learned.
IDLE = [*TINY, "recipe.optimizer.lr=1e-30", "recipe.schedule.warmup_steps=0", "recipe.ema=null"]
STOPPING = [*IDLE, "trainer.max_epochs=9", "callbacks.early_stopping={patience: 2}"]


class Recorder(Callback):
    """A callback that counts epochs."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.epochs = 0

    def on_train_epoch_end(self, trainer, pl_module):
        """Count an epoch."""
        self.epochs += 1
        if self.name == "ends it":
            trainer.should_stop = True


def test_early_stopping_ends_evaluates_and_logs_the_reason(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        results = run(STOPPING, tmp_path)
    assert (results["status"], results["epochs"], results["steps"]) == ("done", 3, 6)
    assert results["checkpoint_epoch"] == 1
    assert "callbacks.early_stopping" in results["stopped"]
    assert "val/top1" in results["stopped"]
    assert results["stopped"] in caplog.text
    assert read_checkpoint(tmp_path / "checkpoints/last.ckpt")["position"]["epoch"] == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_a_stopped_run_is_evaluated_again_and_resumes_with_more_patience(tmp_path):
    first = run(STOPPING, tmp_path)
    again = run([*STOPPING, f"ckpt={tmp_path}"], tmp_path)
    same = ("epochs", "steps", "stopped", "val/top1", "val/loss")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    longer = [*IDLE, "trainer.max_epochs=9", "callbacks.early_stopping={patience: 4}"]
    more = run([*longer, f"ckpt={tmp_path}"], tmp_path)
    assert more["epochs"] == 5
    without = run([*IDLE, "trainer.max_epochs=6", f"ckpt={tmp_path}"], tmp_path)
    assert (without["epochs"], without["stopped"]) == (6, None)


@pytest.mark.slow
def test_an_interrupted_run_stops_at_the_same_epoch(tmp_path):
    run([*STOPPING, "trainer.max_epochs=2"], tmp_path)
    results = run([*STOPPING, f"ckpt={tmp_path}"], tmp_path)
    assert results["epochs"] == 3


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_an_epoch_that_is_stopped_early_counts_as_complete(tmp_path):
    steps = ["trainer.limit_train_batches=6", "trainer.val_check_interval=2"]
    results = run([*STOPPING, *steps, "callbacks.early_stopping={patience: 1}"], tmp_path)
    assert (results["epochs"], results["steps"]) == (1, 4)
    position = read_checkpoint(tmp_path / "checkpoints/last.ckpt")["position"]
    assert position == {"epoch": 1, "step": 0, "samples": 0}
    more = [*IDLE, *steps, "trainer.max_epochs=2", f"ckpt={tmp_path}"]
    assert run(more, tmp_path)["steps"] == 10


@pytest.mark.parametrize(
    ("monitor", "values", "waited"),
    [("val/top1", [0.5, 0.6, 0.6, 0.59], 2), ("val/loss", [3.0, 2.0, 2.5, 1.0], 0)],
)
def test_losses_should_fall_and_other_metrics_rise(monitor, values, waited):
    class Trainer:
        should_stop = False

    class Task:
        monitor = "val/top1"

    stopping = EarlyStopping(patience=5, monitor=monitor)
    stopping.on_fit_start(Trainer(), Task())
    for value in [*values, float("nan")]:
        trainer = Trainer()
        trainer.callback_metrics = {monitor: value}
        stopping.on_validation_end(trainer, Task())
    assert stopping.waited == waited + 1  # a metric without a value is not an improvement


def test_a_metric_that_no_validation_logs_is_an_error(tmp_path):
    wrong = "callbacks.early_stopping={patience: 2, monitor: val/accuracy}"
    with pytest.raises(ConfigError, match=r"monitor=val/accuracy.*val/loss.*val/top1"):
        run([*IDLE, wrong], tmp_path)


def test_custom_callbacks_run(tmp_path, monkeypatch):
    made = []
    init = Recorder.__init__
    monkeypatch.setattr(
        Recorder, "__init__", lambda self, name="": made.append(self) or init(self, name)
    )
    own = f"+callbacks.mine={{_target_: {__name__}.Recorder, name: 'ends it'}}"
    results = run([*IDLE, "trainer.max_epochs=3", own], tmp_path)
    assert [each.epochs for each in made] == [1]
    assert results["epochs"] == 1
    assert "callback" in results["stopped"]


def test_a_custom_file_is_a_choice_of_the_group(tmp_path):
    folder = tmp_path / "conf" / "callbacks"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"mine:\n  _target_: {__name__}.Recorder\n")
    values, faults = configure(["callbacks=mine"], config_dir=str(tmp_path / "conf"))
    assert faults == []
    assert values["callbacks"] == {
        "early_stopping": None,
        "mine": {"_target_": f"{__name__}.Recorder"},
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("callbacks.early_stopping={patience: 0}", ["callbacks.early_stopping.patience=0"]),
        ("callbacks.early_stopping={patience: 5, monitr: a}", ["callbacks.early_stopping.monitr"]),
        ("callbacks.early_stopping={mode: up, patience: 5}", ["callbacks.early_stopping.mode=up"]),
        ("callbacks.early_stopping={}", ["callbacks.early_stopping.patience is missing"]),
        ("callbacks.early_stopping=5", ["callbacks.early_stopping=5"]),
        ("callbacks.early_stoping={patience: 5}", ["callbacks.early_stop", "early_stopping"]),
        ("+callbacks.mine={_target_: torch.nn.ReLU}", ["callbacks.mine._target_=torch.nn.ReLU"]),
        ("+callbacks.mine={_target_: no.where}", ["callbacks.mine._target_=no.where"]),
        (f"+callbacks.mine={{_target_: {__name__}.Recorder, nam: a}}", ["callbacks.mine.nam"]),
        ("+callbacks.mine=5", ["callbacks.mine=5"]),
    ],
    ids=str,
)
def test_check_reports_invalid_callbacks(override, words):
    (fault,) = faults_of(override)
    assert all(word in fault for word in words)


@pytest.mark.slow
def test_several_processes_stop_together(tmp_path):
    overrides = [each for each in STOPPING if each != "debug=tiny"]
    results = launched(["debug=tiny", *overrides, "data.num_workers=0"], 2, tmp_path)
    assert results["epochs"] == 3
    assert json.loads((tmp_path / "results.json").read_text())["stopped"] is not None
