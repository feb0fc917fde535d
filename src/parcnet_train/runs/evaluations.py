"""Metrics of a checkpoint, from the `results.json` of the run that has evaluated it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parcnet_train.errors import CheckpointError
from parcnet_train.runs.directories import PROVENANCE, RESULTS, read_values

OF_METRICS = "val/"  # prefix of their keys, whichever split was evaluated
NO_METRICS = ("skipped", "raw/")  # keys with this prefix that say nothing about the weights


def evaluation_of(run: str | None, checkpoint: Path, epoch: int) -> dict[str, Any] | None:
    """Return the metrics of a checkpoint.

    Args:
        run: Run directory of its evaluation; None: the run that the checkpoint belongs to.
        checkpoint: File of the checkpoint.
        epoch: Number of epochs after which it was written.

    Returns:
        `metric`: name of the one that chooses the best epoch. `values`: all metrics by their names.
        `split`: the set that was evaluated, `images`: the number of its images, `data`: the choice
        of the data. `epoch`: the checkpoint's. `chosen`: whether the checkpoint was chosen by its
        metric on this set. None if the checkpoint's own run has no results of this file.

    Raises:
        CheckpointError: If `run` has no results of an evaluation of a file of this name and epoch.
    """
    folder = checkpoint.parent.parent if run is None else Path(run).expanduser()
    results = read_values(folder / RESULTS)
    evaluated = Path(str(results.get("checkpoint"))).name, results.get("checkpoint_epoch")
    if "monitor" in results and evaluated == (checkpoint.name, epoch):
        return measured(results, read_values(folder / PROVENANCE))
    if run is None:
        return None
    found = "{} of epoch {}".format(*evaluated) if "monitor" in results else "no checkpoint"
    raise CheckpointError(
        f"release.results={run}: its {RESULTS} evaluates {found}; expected {checkpoint.name} of "
        f"epoch {epoch}. Fix: the run directory of action=test ckpt={checkpoint}"
    )


def measured(results: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics in the results of an evaluation, see `evaluation_of`."""
    values = {
        name.removeprefix(OF_METRICS): value
        for name, value in results.items()
        if name.startswith(OF_METRICS) and value is not None
    }
    split = results.get("split", "val")
    return {
        "metric": str(results["monitor"]).removeprefix(OF_METRICS),
        "values": {name: v for name, v in values.items() if not name.startswith(NO_METRICS)},
        "split": split,
        "images": (provenance.get("data") or {}).get(f"{split}_images"),
        "data": results.get("data"),
        "epoch": results.get("checkpoint_epoch"),
        "chosen": split == "val",
        "evaluator": results.get("evaluator"),
    }
