"""Trials of a sweep that one of Optuna's pruners ends."""

import json
import re
import sys
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf

from parcnet_train.callbacks.pruning import TRIAL, Pruning
from parcnet_train.errors import ConfigError
from parcnet_train.runs.directories import LAST
from running import TINY, run
from sweeping import finish, folders, kill, processes_with, results, saved, times, wait_for

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


# The validation set of the sweeps below has more images of class 0 than of class 1, and none of 2.
SWEPT = (
    "recipe.batch_size=32",
    "recipe.reference_batch=32",
    "recipe.ema=null",
    "recipe.schedule.warmup_steps=0",
    "trainer.max_epochs=3",
    "checkpoint.every_n_steps=1",
    "callbacks=pruning",
    "callbacks.pruning.settings={n_startup_trials: 1}",
)
MOST, FEW, NONE = 35 / 64, 29 / 64, 0.0


def answers(classes, edges, value):
    """Return the override that decides how good the jobs are, see `sweep_answers`."""
    return (
        f"+callbacks.answers={{_target_: sweep_answers.Answers, classes: {classes}, "
        f"edges: {edges}, value: {value}}}"
    )


def trials(cwd):
    """Return the state and the values of every trial by the name of its job."""
    noted = {
        name: json.loads((folder / TRIAL).read_text())
        for name, folder in folders(cwd).items()
        if (folder / TRIAL).is_file()
    }
    return {name: (each["state"], pytest.approx(each["values"])) for name, each in noted.items()}


def states_in(printed):
    """Return the last state and epoch of every job in the log of a sweep."""
    found = re.findall(
        r"^\[.+?\]\[HYDRA\] (\S+=[^:]+): ([a-z ]+)(?:, epoch ([^,]+))?", printed, re.M
    )
    return {name: (state, epoch) for name, state, epoch in found}


@pytest.mark.slow
def test_killed_sweep_skips_pruned_trials_and_prunes_resumed_ones(tmp_path, start_sweep):
    """Seed 1 is pruned at once; seed 2 when it has resumed, by all of its values."""
    gate = tmp_path / "open"
    command = (
        *SWEPT,
        "seed=0,1,2,3",
        answers([[1, 0, 0], [2, 2, 2], [1, 1, 1], [1, 0, 0]], [1, 2, 3], "'${seed}'"),
        f"+callbacks.gate={{_target_: sweep_gate.Gate, file: {gate}, seed: '${{seed}}', first: 2}}",
    )
    killed = start_sweep(*command)
    wait_for(lambda: "seed-2" in saved(tmp_path), killed)
    held = folders(tmp_path)["seed-2"] / TRIAL
    wait_for(held.exists, killed)
    kill(killed)
    wait_for(lambda: not processes_with(f"hydra.run.dir='{held.parent}'"))
    jobs = folders(tmp_path)
    before = {name: times(jobs[name]) for name in ("seed-0", "seed-1")}
    assert trials(tmp_path) == {
        "seed-0": ("COMPLETE", [FEW, MOST, MOST]),
        "seed-1": ("PRUNED", [NONE]),
        "seed-2": ("RUNNING", [FEW]),
    }

    gate.touch()
    printed = finish(start_sweep(*command))
    assert states_in(printed) == {
        "seed=0": ("already finished", "3/3"),
        "seed=1": ("already pruned", "1/3"),
        "seed=2": ("pruned", "2/3"),
        "seed=3": ("finished", "3/3"),
    }
    assert f"from {jobs['seed-2'] / LAST}" in (jobs["seed-2"] / "output.log").read_text()
    assert {name: times(jobs[name]) for name in before} == before
    assert trials(tmp_path) == {
        "seed-0": ("COMPLETE", [FEW, MOST, MOST]),
        "seed-1": ("PRUNED", [NONE]),
        "seed-2": ("PRUNED", [FEW, FEW]),
        "seed-3": ("COMPLETE", [FEW, MOST, MOST]),
    }
    for name, folder in folders(tmp_path).items():
        of_job, is_pruned = results(folder), name in ("seed-1", "seed-2")
        assert of_job["pruned"] == is_pruned
        assert (of_job["stopped"] or "").startswith("callbacks.pruning: MedianPruner") == is_pruned
        best = {"seed-1": NONE, "seed-2": FEW}.get(name, MOST)
        assert of_job["val/top1"] == pytest.approx(best)

    before = {name: times(folder) for name, folder in folders(tmp_path).items()}
    printed = finish(start_sweep(*command))
    assert sorted(state for state, _ in states_in(printed).values()) == [
        *["already finished"] * 2,
        *["already pruned"] * 2,
    ]
    assert {name: times(folder) for name, folder in folders(tmp_path).items()} == before


@pytest.mark.slow
def test_optuna_gets_the_values_of_pruned_trials_and_the_failures(tmp_path, start_sweep):
    """The learning rate decides how good a trial is; the seed of the sampler, the rates."""
    storage = f"sqlite:///{tmp_path}/study.db"
    command = (
        *SWEPT,
        "sweep=optuna_lr",
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.max_failure_rate=1",
        f"hydra.sweeper.storage={storage}",
        "hydra.sweeper.study_name=rates",
        answers(
            [[], [0, 0, 0], [1, 1, 1], [2, 2, 2], [1, 1, 1]],
            [0.0018, 0.002, 0.003, 0.005],
            "'${recipe.optimizer.lr}'",
        ),
    )

    def told():
        study = optuna.load_study(study_name="rates", storage=storage)
        best = OmegaConf.load(tmp_path / "runs/sweeps/optuna_lr/optimization_results.yaml")
        assert (best.best_params, best.best_value) == (study.best_params, study.best_value)
        return [(trial.params, trial.state.name, trial.value) for trial in study.trials]

    printed = finish(start_sweep(*command))
    found = told()
    names = [f"lr-{params['recipe.optimizer.lr']}" for params, *_ in found]
    jobs = {name.partition("_")[0]: folder for name, folder in folders(tmp_path).items()}
    assert jobs.keys() == set(names)
    noted = {name.partition("_")[0]: each for name, each in trials(tmp_path).items()}
    # Hydra's sweeper knows only complete and failed trials.
    assert [each[1:] for each in found] == [
        ("COMPLETE", pytest.approx(FEW)),
        ("COMPLETE", NONE),
        ("FAIL", None),
        ("COMPLETE", pytest.approx(MOST)),
        ("COMPLETE", pytest.approx(FEW)),
    ]
    assert [noted.get(name) for name in names] == [
        ("COMPLETE", [FEW] * 3),
        ("PRUNED", [NONE]),
        None,
        ("COMPLETE", [MOST] * 3),
        ("PRUNED", [FEW]),
    ]
    states = [state for state, _ in states_in(printed).values()]
    assert states == ["finished", "pruned", "failed", "finished", "pruned"]

    before = {name: times(jobs[name]) for name in noted}
    (tmp_path / "study.db").unlink()
    printed = finish(start_sweep(*command))
    assert told() == found
    assert {name: times(jobs[name]) for name in noted} == before
    states = [state.removeprefix("already ") for state, _ in states_in(printed).values()]
    assert states == ["finished", "pruned", "failed", "finished", "pruned"]
    assert printed.count("already ") == 4
