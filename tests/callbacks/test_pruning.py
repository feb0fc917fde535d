"""Trials of a sweep that one of Optuna's pruners ends."""

import json
import sys
from types import SimpleNamespace

import optuna
import pytest

from parcnet_train.callbacks.pruning import TRIAL, Pruning
from parcnet_train.errors import ConfigError
from running import TINY, run

PRUNERS = [
    ("MedianPruner", {"n_startup_trials": 2, "n_warmup_steps": 1}),
    ("PercentilePruner", {"percentile": 25.0, "n_startup_trials": 1}),
    ("SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": 2}),
    ("HyperbandPruner", {"min_resource": 1, "max_resource": 6, "reduction_factor": 2}),
    ("ThresholdPruner", {"lower": 0.3}),
]
CURVES = [
    [0.20, 0.40, 0.50, 0.60, 0.65, 0.70],
    [0.10, 0.50, 0.55, 0.50, 0.70, 0.75],
    [0.30, 0.35, 0.40, 0.45, 0.50, 0.50],
    [0.40, 0.60, 0.70, 0.75, 0.80, 0.80],
    [0.05, 0.10, 0.60, 0.80, 0.85, 0.90],
    [0.50, 0.55, float("nan"), 0.60, 0.65, 0.70],
    [0.60, 0.65, 0.70, 0.72, 0.74, 0.76],
]


def trainer_of(folder):
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(
        default_root_dir=str(folder), is_global_zero=True, should_stop=False, strategy=strategy
    )


def validations(callback, folder, curve, mode):
    """Report a curve to a callback until it ends the trial; return whether it has."""
    task = SimpleNamespace(monitor="val/top1", mode=mode)
    trainer = trainer_of(folder)
    callback.on_fit_start(trainer, task)
    for value in curve[len(callback.values) :]:
        if trainer.should_stop:
            break
        trainer.callback_metrics = {"val/top1": value}
        callback.on_validation_end(trainer, task)
    return trainer, task


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(("pruner", "settings"), PRUNERS, ids=[name for name, _ in PRUNERS])
@pytest.mark.parametrize("interrupted", [False, True])
def test_trials_are_pruned_as_optuna_prunes_them(tmp_path, pruner, settings, mode, interrupted):
    study = optuna.create_study(
        study_name=TRIAL,
        direction="maximize" if mode == "max" else "minimize",
        pruner=getattr(optuna.pruners, pruner)(**settings),
    )
    expected, found = [], []
    for number, curve in enumerate(CURVES):
        trial, steps = study.ask(), 0
        for steps, value in enumerate(curve, 1):
            trial.report(value, steps)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
        expected.append((steps, study.trials[-1].state.name))

        (folder := tmp_path / f"trial-{number}").mkdir()
        callback = Pruning(pruner, settings)
        if interrupted:  # after its third validation, with the checkpoint of its second
            validations(callback, folder, curve[:2], mode)
            state = json.loads(json.dumps(callback.state_dict()))
            validations(callback, folder, curve[:3], mode)
            callback = Pruning(pruner, settings)
            callback.load_state_dict(state)
        trainer, task = validations(callback, folder, curve, mode)
        callback.on_train_end(trainer, task)
        noted = json.loads((folder / TRIAL).read_text())
        found.append((len(noted["values"]), noted["state"]))
        assert (callback.reason is not None) == callback.is_pruned == (noted["state"] == "PRUNED")
    assert found == expected
    assert {state for _, state in expected} == {"PRUNED", "COMPLETE"}


def test_trials_of_other_metrics_are_not_compared(tmp_path):
    for number in range(3):
        (tmp_path / f"other-{number}").mkdir()
        other = {"monitor": "val/map", "state": "COMPLETE", "values": [0.9], "started": number}
        (tmp_path / f"other-{number}" / TRIAL).write_text(json.dumps({**other, "attributes": {}}))
    (tmp_path / "trial").mkdir()
    callback = Pruning("MedianPruner", {"n_startup_trials": 0})
    validations(callback, tmp_path / "trial", [0.1, 0.2], "max")
    assert not callback.is_pruned


def test_wrong_settings_and_missing_optuna_are_one_line(monkeypatch):
    with pytest.raises(ConfigError, match=r"callbacks\.pruning\.settings=.*MedianPruner"):
        Pruning("MedianPruner", {"startup": 5})
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'parcnet-train\[optuna\]'"):
        Pruning("MedianPruner")


def test_pruned_training_has_results_and_is_pruned_again_when_resumed(tmp_path):
    settings = "callbacks.pruning.settings={lower: 2.0}"  # no metric reaches it
    pruning = ["callbacks=pruning", "callbacks.pruning.pruner=ThresholdPruner", settings]
    overrides = [*TINY, *pruning, "trainer.max_epochs=3"]
    results = run(overrides, tmp_path)
    assert (results["status"], results["pruned"], results["epochs"]) == ("done", True, 1)
    assert results["stopped"].startswith("callbacks.pruning: ThresholdPruner")
    again = run([*overrides, f"ckpt={tmp_path}"], tmp_path)
    same = ("pruned", "epochs", "stopped", "val/top1", "val/loss")
    assert [again[name] for name in same] == [results[name] for name in same]
