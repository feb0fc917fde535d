"""Table of `benchmark.protocol=mlperf_mobile`."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from rich.table import Table

from parcnet_train.benchmarks.mlperf import Streams
from parcnet_train.benchmarks.timing import in_digits
from parcnet_train.deploy.standalone.timing import summary
from parcnet_train.report.console.latency import (
    FOOTPRINT,
    FOOTPRINT_WORDS,
    WIDTH,
    best_line,
    footprint_cells,
)
from parcnet_train.terminal import wide_console

MARKS = {True: "", False: " *"}


def print_streams(title: str, metric: str, streams: Streams) -> None:
    """Print one line per form and runtime, and the fastest ones that are accurate enough.

    Args:
        title: Title of the table.
        metric: Name of the metric.
        streams: Measured times and accuracies.
    """
    table = Table(title=f"{title}; milliseconds per image", title_justify="left")
    for heading in ("runtime", "form"):
        table.add_column(heading, no_wrap=True)
    for heading in ("p90", "median", metric, "share", *FOOTPRINT):
        table.add_column(heading, justify="right", no_wrap=True)
    for each, times in streams.milliseconds.items():
        statistics, accuracy = summary(times), streams.accuracy[each]
        table.add_row(
            each.runtime,
            each.form,
            in_digits(statistics["milliseconds_p90"]),
            in_digits(statistics["milliseconds"]),
            f"{accuracy.value:.4f}",
            percent_of(accuracy.share) + MARKS[accuracy.passed],
            *footprint_cells(streams.footprints[each]),
        )
    console = wide_console(WIDTH)
    console.print(table)
    least = next(iter(streams.accuracy.values())).least  # one for all files of a task
    line = f"share: of {metric} in float32, in PyTorch; *: below {least:.0%}; {FOOTPRINT_WORDS}"
    console.print(line, highlight=False)
    for (backbone, precision), best in streams.fastest().items():
        p90 = in_digits(summary(streams.milliseconds[best])["milliseconds_p90"])
        console.print(best_line(backbone, precision, best, f"p90 {p90} ms"), highlight=False)


def percent_of(share: float | None) -> str:
    """Return a share of an accuracy in percent; empty if it is unknown.

    It is rounded down, so that a share below a limit is never shown as that limit.
    """
    if share is None:
        return ""
    percent = (100 * Decimal(str(share))).quantize(Decimal("0.1"), rounding=ROUND_FLOOR)
    return f"{percent} %"
