"""The list of layers that int8 hurts most."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from parcnet_train.terminal import wide_console

SHOWN = 20  # of all layers; `results.json` has them all
BESIDE = 24  # characters of the table beside a name


def print_sensitivities(decibels: Mapping[str, float]) -> None:
    """Prints the most fragile layers, the worst one first.

    Args:
        decibels: ratio of the outputs' signal to noise with that layer alone in int8.
    """
    table = Table("layer alone in int8", "signal to noise", title="the most fragile layers")
    worst = sorted(decibels.items(), key=lambda each: each[1])[:SHOWN]
    for layer, value in worst:
        table.add_row(escape(layer), f"{value:.1f} dB")
    # Names are whole: they are what export.float_layers takes.
    widest = max((len(layer) for layer, _ in worst), default=0)
    wide_console(widest + BESIDE).print(table)
