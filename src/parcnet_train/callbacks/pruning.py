"""Pruning: ending a trial of a sweep whose metric falls behind that of the other trials."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from parcnet_train.errors import ConfigError, first_line
from parcnet_train.files import is_number, to_json, write_whole
from parcnet_train.runs.directories import read_values

log = logging.getLogger(__name__)

TRIAL = "trial.json"  # what other trials read about a run, in its directory
STATES = ("RUNNING", "PRUNED", "COMPLETE")
Pruner = Literal[
    "HyperbandPruner",
    "MedianPruner",
    "PercentilePruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
]


class Pruning(Callback):
    """Callback that ends a trial when one of Optuna's pruners says so.

    Every trial writes the metric of each validation into its run directory. The other trials are
    the runs beside it, in the directory of the sweep, that watch the same metric. The rule is
    Optuna's own: it gets a study of these trials in the order of their start. Step n of a trial is
    its n-th validation, counted from 1.

    The validation that ends a trial is saved like every other, and the best checkpoint is
    evaluated.

    Args:
        pruner: Name of a class of `optuna.pruners`.
        settings: Keyword arguments of that class.

    Raises:
        ConfigError: If Optuna is not installed, or refuses the settings.
    """

    def __init__(self, pruner: Pruner, settings: dict[str, Any] | None = None) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise ConfigError(
                "callbacks.pruning: the package optuna is not installed. Fix: pip install "
                "'parcnet-train[optuna]'"
            ) from error
        try:
            self.pruner = getattr(optuna.pruners, pruner)(**(settings or {}))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"callbacks.pruning.settings={settings}: {first_line(error)}; expected arguments "
                f"of optuna.pruners.{pruner}"
            ) from error
        self.monitor = ""
        self.values: list[float] = []  # the metric of every validation
        self.is_pruned = False
        self.reason: str | None = None  # why the training was ended

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a resumed trial at once if it was pruned before."""
        self.monitor = str(pl_module.monitor)
        self._stop_if_pruned(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric, and ask the pruner."""
        self.values.append(float(trainer.callback_metrics[self.monitor]))
        if trainer.is_global_zero:  # the only process that reads other trials, which may go on
            direction = "maximize" if pl_module.mode == "max" else "minimize"
            self.is_pruned = self._ask(Path(trainer.default_root_dir), direction)
        self.is_pruned = trainer.strategy.broadcast(self.is_pruned)
        self._stop_if_pruned(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the trial is complete; most pruners compare only with such trials."""
        if trainer.is_global_zero and self.values and not self.is_pruned:
            self._note(Path(trainer.default_root_dir), "COMPLETE")

    def _ask(self, folder: Path, direction: str) -> bool:
        """Return whether the pruner ends the trial, and write what other trials need to know."""
        from optuna.trial import TrialState, create_trial

        study = quiet_study(self.pruner, direction)
        started = read_values(folder / TRIAL).get("started")
        started = started if is_number(started) else time.time()
        others = [
            read_values(each)
            for each in folder.parent.glob(f"*/{TRIAL}")
            if each.parent.name != folder.name
        ]
        known = [each for each in others if is_trial(each) and each.get("monitor") == self.monitor]
        known.sort(key=lambda each: each["started"])
        earlier = sum(each["started"] < started for each in known)

        def add(values: dict[str, Any]) -> None:
            steps = reported(values["values"])
            state = TrialState[values["state"]]
            finished = state != TrialState.RUNNING and steps
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* is experimental")  # in Optuna 2
                trial = create_trial(
                    state=state if finished else TrialState.RUNNING,
                    value=steps[max(steps)] if finished else None,
                    intermediate_values=steps,
                    system_attrs=values["attributes"],
                )
                study.add_trial(trial)

        for values in known[:earlier]:
            add(values)
        own = study.ask()
        for values in known[earlier:]:
            add(values)
        ends = False
        for step, value in reported(self.values).items():
            own.report(value, step)
            ends = bool(own.should_prune())  # some pruners note what they find out at every step
        attributes = study.trials[own.number].system_attrs
        self._note(folder, "PRUNED" if ends else "RUNNING", started, attributes)
        return ends

    def _note(
        self,
        folder: Path,
        state: str,
        started: float | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Write the file of the trial; what is not given stays as it is."""
        given = {"started": started, "attributes": attributes}
        noted = {
            **read_values(folder / TRIAL),
            **{name: value for name, value in given.items() if value is not None},
            "monitor": self.monitor,
            "state": state,
            "values": self.values,
        }
        write_whole(folder / TRIAL, to_json(noted))

    def _stop_if_pruned(self, trainer: pl.Trainer) -> None:
        self.reason = None
        if not self.is_pruned:
            return
        self.reason = (
            f"callbacks.pruning: {type(self.pruner).__name__} ended the trial at validation "
            f"{len(self.values)}, with {self.monitor} {self.values[-1]:.4f}"
        )
        trainer.should_stop = True
        log.info("%s", self.reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"values": self.values, "is_pruned": self.is_pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.values, self.is_pruned = list(state_dict["values"]), state_dict["is_pruned"]


def quiet_study(pruner: Any, direction: str) -> Any:
    """Return a study in memory, which Optuna would announce in the log."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(study_name=TRIAL, pruner=pruner, direction=direction)
    optuna.logging.set_verbosity(before)
    return study


def is_trial(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a file are those of a trial; a damaged file is no trial."""
    steps = values.get("values")
    return (
        is_number(values.get("started"))
        and values.get("state") in STATES
        and isinstance(values.get("attributes"), dict)
        and isinstance(steps, list)
        and all(each is None or is_number(each) for each in steps)
    )


def reported(values: Sequence[float | None]) -> dict[int, float]:
    """Return the values by their steps; one that is missing in JSON is not a number."""
    return {step: math.nan if each is None else each for step, each in enumerate(values, 1)}
