"""Results that every action writes to `results.json` and prints."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from parcnet_train.report.console.summary import print_summary
from parcnet_train.runs.directories import config_hash, write_results
from parcnet_train.version import __version__

Results = dict[str, Any]


def about(config: dict[str, Any]) -> Results:
    """Return the entries of `results.json` that every action has.

    Args:
        config: Whole configuration as plain values, of which the hash is taken.
    """
    return {
        "status": "done",
        "action": config["action"],
        "run_dir": config["paths"]["output"],
        "config_hash": config_hash(config),
        "parcnet_train_version": __version__,
        "torch_version": version("torch"),
    }


def is_first_process() -> bool:
    """Return whether this is the process that writes the files of its run."""
    import torch  # seconds, which action=prepare does without

    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def finish(output: Path, results: Results) -> Results:
    """Write and print the results of a run, from its first process."""
    if is_first_process():
        write_results(output, results)
        print_summary(results)
    return results
