"""`action=average`: average the best epochs of a run, as the released weights were made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.actions.fit import describe, extent, prepare, validate
from parcnet_train.actions.results import Results, finish, is_first_process
from parcnet_train.actions.starting import read_model
from parcnet_train.build import Config, build_trainer, network_spec, world_size
from parcnet_train.checkpoints.checkpoints import PREFIX, model_state, write_checkpoint
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import run_spec, section
from parcnet_train.runs.directories import AVERAGE, evaluated_by
from parcnet_train.runs.provenance import Provenance
from parcnet_train.tasks.detection import TRAINING_IMAGES
from parcnet_train.version import __version__


def average(config: Config) -> Results:
    """Average the best epochs of a run, and evaluate the average and each epoch.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs.

    Returns:
        What `results.json` holds.

    Raises:
        CheckpointError: If an epoch has another model or other classes than this run.
    """
    started = time.perf_counter()
    output = Path(section(Paths, config).output)
    data, task = prepare(config)
    paths = evaluated_by(run_spec(config))
    spec = network_spec(config)
    checkpoints = [read_model(path, task, data, spec) for path in paths]
    newest = max(checkpoints, key=lambda checkpoint: checkpoint["epoch"])
    task.prepare_evaluation(newest)
    states = [model_state(checkpoint) for checkpoint in checkpoints]
    mean = average_states(states, model_state(newest))
    with Provenance(config, world_size(config)) as provenance:
        results = {
            **describe(config, task, data),
            **validate(build_trainer(config), task, data, mean),
            **extent(data),
            "checkpoint": str(output / AVERAGE),
            "checkpoint_epoch": newest["epoch"] + 1,
            "sources": [str(path) for path in paths],
        }
        for path, state in zip(paths, states, strict=True):
            for name, value in validate(build_trainer(config), task, data, state).items():
                results[f"source/{path.stem}/{name}"] = value
        if is_first_process():
            (output / AVERAGE).parent.mkdir(exist_ok=True)
            write_checkpoint(output / AVERAGE, contents(newest, mean, paths))
        provenance.note(data)
        return finish(output, {**results, "seconds": time.perf_counter() - started})


def average_states(
    states: Sequence[Mapping[str, Tensor]], newest: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Average weights and statistics in float64; counters are taken from the newest epoch.

    Args:
        states: State dicts of one network; EMA weights if the run kept them.
        newest: The newest of them.
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in newest.items()
    }


def contents(
    newest: Mapping[str, Any], state: Mapping[str, Tensor], paths: Sequence[Path]
) -> dict[str, Any]:
    """Return a checkpoint of weights, for `load`, `action=test` and `backbone.pretrained`."""
    kept = (
        *("config", "choices", "class_names", "category_ids", TRAINING_IMAGES),
        *("epoch", "global_step"),
    )
    return {
        "state_dict": {f"{PREFIX}{name}": value for name, value in state.items()},
        **{name: newest[name] for name in kept if name in newest},
        "averaged": [path.name for path in paths],
        "parcnet_train_version": __version__,
    }
