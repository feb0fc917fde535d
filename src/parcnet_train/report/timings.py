"""Tables of `action=benchmark`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from parcnet_train.benchmark_operator import CHOICES, REFERENCE, Shape, Timings
from parcnet_train.benchmark_step import Variant
from parcnet_train.report.console import wide_console
from parcnet_train.timing import Timing

WIDTH = 170  # characters that the widest table needs
PASSES = {"forward": "forward", "forward_backward": "+ backward"}
LEGEND = "ms: median (least-most), how many times faster than"


def print_operators(shape: Shape, timings: Timings) -> None:
    """Prints all times of one shape.

    Args:
        shape: of the input.
        timings: by setting and algorithm.
    """
    title = f"{' x '.join(map(str, shape))}; {LEGEND} the convolution"
    table = Table(title=title, title_justify="left")
    for heading in ("layout", "dtype", "axis", "pass", *CHOICES):
        table.add_column(heading, no_wrap=True)
    for (layout, dtype, axis, which), times in timings.items():
        words = (times[name].words(times[REFERENCE]) for name in CHOICES)
        table.add_row(layout, dtype, axis, PASSES[which], *words)
        if axis == "both" and which == "forward_backward":
            table.add_section()
    wide_console(WIDTH).print(table)


def print_steps(title: str, timings: Mapping[Variant, Timing]) -> None:
    """Prints one line per variant.

    Args:
        title: what was measured.
        timings: the first one is the reference.
    """
    reference = next(iter(timings))
    table = Table(title=f"{title}; {LEGEND} {reference}", title_justify="left")
    for heading in ("network", "layout", "dtype", "time"):
        table.add_column(heading, no_wrap=True)
    for variant, timing in timings.items():
        words = timing.words(timings[reference])
        table.add_row(variant.network, variant.layout, variant.dtype, words)
    wide_console(WIDTH).print(table)
