"""Summary tables at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_summary(results: Mapping[str, Any]) -> None:
    """Print per-class metrics, and the metrics, epochs, time and files of a run.

    Args:
        results: Values of `results.json`; a name `val/METRIC/CLASS` is the metric of a class.
    """
    metrics = {
        name.removeprefix("val/"): f"{value:.4f}"
        for name, value in results.items()
        if name.startswith("val/") and not (name == "val/skipped" and value == 0)
    }
    rows = {
        f"{results['backbone']} on {results['data']}": f"{results['parameters']:,} parameters",
        **({"evaluated on": "the test set"} if results.get("split") == "test" else {}),
        **evaluated_part(results),
        **{name: value for name, value in metrics.items() if "/" not in name},
        **epochs_part(results),
        "time": f"{results['seconds']:.0f} s",
        "run directory": results["run_dir"],
        "checkpoint": results["checkpoint"],
    }
    console = Console()
    # Paths must stay copyable: a table that is too wide is better than a path with line breaks.
    console.width = max(console.width, max(map(len, rows.values())) + max(map(len, rows)) + 7)
    of_classes = [name.partition("/") for name in metrics if "/" in name]
    for metric in dict.fromkeys(name for name, *_ in of_classes):
        table = Table("class", metric)
        for name, _, of_class in of_classes:
            if name == metric:
                table.add_row(escape(of_class), metrics[f"{name}/{of_class}"])
        console.print(table)
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value, style=None)
    console.print(table)


def epochs_part(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows about the epochs of a training, or that of the evaluated checkpoint."""
    epoch = str(results["checkpoint_epoch"])
    if "epochs" not in results:
        return {"epoch of the checkpoint": epoch}
    return {"epochs": str(results["epochs"]), "best epoch": epoch}


def evaluated_part(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the row of an evaluation of some classes."""
    if "evaluated_classes" not in results:
        return {}
    return {"evaluated": f"{results['images']:,} images of {results['evaluated_classes']} classes"}
