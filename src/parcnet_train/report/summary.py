"""The short table at the end of a run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(results: dict[str, Any]) -> None:
    """Prints the metrics, epochs, time and files of one run.

    Args:
        results: as in `results.json`.
    """
    rows = {
        f"{results['backbone']} on {results['data']}": f"{results['parameters']:,} parameters",
        **{
            name.removeprefix("val/"): f"{value:.4f}"
            for name, value in results.items()
            if name.startswith("val/") and not (name == "val/skipped" and value == 0)
        },
        "epochs": str(results.get("epochs", results["checkpoint_epoch"])),
        "best epoch": str(results["checkpoint_epoch"]),
        "time": f"{results['seconds']:.0f} s",
        "run directory": results["run_dir"],
        "checkpoint": results["checkpoint"],
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value, style=None)
    console = Console()
    # Paths are to be copied: rather a wide table than a broken path.
    console.width = max(console.width, max(map(len, rows.values())) + max(map(len, rows)) + 7)
    console.print(table)
