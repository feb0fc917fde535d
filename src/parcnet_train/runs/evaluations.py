"""Metrics of a checkpoint, from the `results.json` of the run that has evaluated it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from parcnet_train.errors import CheckpointError
from parcnet_train.files import sha256_of
from parcnet_train.runs.directories import BEST, EPOCHS, PROVENANCE, RESULTS, read_values

OF_METRICS = "val/"  # prefix of their keys, whichever split was evaluated
NO_METRICS = ("skipped", "raw/")  # keys with this prefix that say nothing about the weights
CHECKSUM = "checkpoint_sha256"  # key of `results.json`

# Data modules for any set, which say nothing about it; the name of its folder does.
GENERIC = ("imagefolder", "huggingface", "coco_format", "voc_format")
HOMES = ("home", "Users")  # folders of the users' folders, whose names are the users'


def evaluation_of(run: str | None, checkpoint: Path, epoch: int) -> dict[str, Any] | None:
    """Return the metrics of a checkpoint.

    Args:
        run: Run directory of its evaluation; None: the run that the checkpoint belongs to.
        checkpoint: File of the checkpoint.
        epoch: Number of epochs after which it was written.

    Returns:
        Metrics and what they were measured on, see `measured`. None if the checkpoint's own run has
        no results of this file.

    Raises:
        CheckpointError: If `run` has no results of an evaluation of this file: in the checkpoint's
            own run, of its name and epoch; in any other, of its SHA-256 checksum.
    """
    own = checkpoint.parent.parent
    folder = own if run is None else Path(run).expanduser()
    results = read_values(folder / RESULTS)
    is_own = folder.resolve() == own.resolve()
    if "monitor" in results and is_evaluated(results, checkpoint, epoch, is_own):
        is_best = any(fnmatch(checkpoint.name, each) for each in (BEST.name, EPOCHS))
        return measured(results, read_values(folder / PROVENANCE), is_own and is_best)
    if run is None:
        return None
    raise CheckpointError(
        f"release.results={run}: its {RESULTS} evaluates {evaluated_in(results)}; expected "
        f"{checkpoint} of epoch {epoch}, with the same SHA-256 checksum. Fix: the run directory of "
        f"action=test ckpt={checkpoint}"
    )


def is_evaluated(results: Mapping[str, Any], checkpoint: Path, epoch: int, is_own: bool) -> bool:
    """Return whether results are those of a checkpoint; see `evaluation_of`."""
    if is_own:
        name = Path(str(results.get("checkpoint"))).name
        return (name, results.get("checkpoint_epoch")) == (checkpoint.name, epoch)
    return CHECKSUM in results and results[CHECKSUM] == sha256_of(checkpoint)


def evaluated_in(results: Mapping[str, Any]) -> str:
    """Return the file that results evaluate, in words."""
    if "monitor" not in results:
        return "no checkpoint"
    name, epoch = (results.get(key) for key in ("checkpoint", "checkpoint_epoch"))
    checksum = "" if CHECKSUM in results else f", without {CHECKSUM}"
    return f"{name} of epoch {epoch}{checksum}"


def measured(
    results: Mapping[str, Any], provenance: Mapping[str, Any], chosen: bool
) -> dict[str, Any]:
    """Return the metrics in the results of an evaluation, and what they were measured on.

    Args:
        results: Content of `results.json`.
        provenance: Content of `provenance.json`.
        chosen: Whether the validation set has chosen the checkpoint.

    Returns:
        `metric`: name of the one that chooses the best epoch. `values`: all metrics by their names.
        `split`: the set that was evaluated, `images`: number of its images, `dataset` and `data`:
        name and choice of its data, `image_size`: height and width in pixels. `evaluated_classes`:
        number of classes if not all were evaluated; `scales`, `mirror`: see `SegmentationTask`.
        `epoch`: the checkpoint's. `chosen`: whether the checkpoint was chosen by its metric on
        this set. `evaluator`: library that has computed the metrics. None stands for what is not
        recorded.
    """
    values = {
        name.removeprefix(OF_METRICS): value
        for name, value in results.items()
        if name.startswith(OF_METRICS) and value is not None
    }
    split = results.get("split", "val")
    config = provenance.get("config") or {}
    data, task = (config.get(section) or {} for section in ("data", "task"))
    size = data.get("image_size")
    return {
        "metric": str(results["monitor"]).removeprefix(OF_METRICS),
        "values": {name: v for name, v in values.items() if not name.startswith(NO_METRICS)},
        "split": split,
        "images": results.get("images", (provenance.get("data") or {}).get(f"{split}_images")),
        "dataset": dataset_of(results.get("data"), data),
        "data": results.get("data"),
        "image_size": [size, size] if isinstance(size, int) else size,
        "evaluated_classes": results.get("evaluated_classes"),
        "scales": task.get("scales"),
        "mirror": task.get("mirror"),
        "epoch": results.get("checkpoint_epoch"),
        "chosen": chosen and split == "val",
        "evaluator": results.get("evaluator"),
    }


def dataset_of(choice: Any, data: Mapping[str, Any]) -> str | None:
    """Return the name of a data set: of its folder, if `data=` is for any set.

    Args:
        choice: Chosen config of the data.
        data: Its section of the configuration.
    """
    if choice not in GENERIC:
        return choice
    return last_name(str(data.get("root") or "")) or choice


def last_name(path: str) -> str:
    """Return the last name of a path or URL; empty if it says nothing or names a user or host."""
    *parents, name = re.split(r"[/\\]+", path.rstrip("/\\"))
    is_home = name == "root" or (parents and parents[-1] in HOMES) or Path(path) == Path.home()
    return "" if is_home or name in (".", "..") or re.search("[@:~]", name) else name
