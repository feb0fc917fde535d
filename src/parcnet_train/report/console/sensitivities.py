"""Table of the layers that are most sensitive to int8."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from parcnet_train.terminal import wide_console

SHOWN = 20  # layers in the table; `results.json` has all of them
BESIDE = 24  # characters of the table besides the name


def print_sensitivities(decibels: Mapping[str, float]) -> None:
    """Print the layers that are most sensitive to int8, the worst one first.

    Args:
        decibels: Signal-to-noise ratio of the output with only that layer in int8, by layer.
    """
    table = Table("only layer in int8", "signal to noise", title="layers most sensitive to int8")
    worst = sorted(decibels.items(), key=lambda each: each[1])[:SHOWN]
    for layer, value in worst:
        table.add_row(escape(layer), f"{value:.1f} dB")
    # Names are never cut: export.float_layers takes them as they are.
    widest = max((len(layer) for layer, _ in worst), default=0)
    wide_console(widest + BESIDE).print(table)
