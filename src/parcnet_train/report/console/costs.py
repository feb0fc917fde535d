"""Tables of `action=profile`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from parcnet_train.models.profiling.counts import Stage
from parcnet_train.report.paper.comparison import Compared
from parcnet_train.terminal import wide_console

MIB = 2**20
WIDTH = 140  # characters; the widest table needs them


def print_stages(title: str, parts: Sequence[Stage], total: Stage, weight_bytes: int) -> None:
    """Print one line per part of a network, and one for the whole network.

    Args:
        title: Title of the table.
        parts: Parts of the network, in order.
        total: Sum of all parts.
        weight_bytes: Size of parameters and buffers, in bytes.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for column in ("output", "parameters", "multiply-adds", "activations", "peak memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage in (*parts, total):
        if stage is total:
            table.add_section()
        peak = stage.peak_memory_bytes
        table.add_row(
            stage.name,
            "\n".join(" x ".join(map(str, shape)) for shape in stage.output_shapes),
            f"{stage.parameters:,}",
            f"{stage.multiply_adds / 1e6:,.1f} M",
            f"{stage.activations / 1e6:,.2f} M",
            "" if peak is None else f"{peak / MIB:,.1f} MiB",
        )
    console = wide_console(WIDTH)
    console.print(table)
    console.print(
        "peak memory: activations of an inference in float32; the weights take another "
        f"{weight_bytes / MIB:,.1f} MiB",
        highlight=False,
    )


def print_comparison(name: str, rows: Sequence[Compared]) -> None:
    """Print the paper's numbers beside ours, followed by notes on why they differ.

    Args:
        name: Value of `profile.compare`.
        rows: Rows of the table.
    """
    has_flops = any(each.row.flops for each in rows)
    table = Table(title=title_of(name), title_justify="left")
    table.add_column("row", justify="right")
    table.add_column("network", no_wrap=True)
    for heading, _ in rows[0].row.columns:
        table.add_column(heading, no_wrap=True)
    for heading in ("params\npaper", "ours", "differ", "multiply-\nadds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("FLOPs\npaper", "ours", "differ", "device", "speed") if has_flops else ():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("metric")
    for each in rows:
        row = each.row
        ours = each.counts
        cells = [
            str(row.number),
            row.model,
            *(value for _, value in row.columns),
            f"{row.parameters} M",
            f"{ours.parameters:,}" if ours else each.missing,
            differ(ours.parameters, row.parameters * 1e6) if ours else "",
            f"{ours.multiply_adds / 1e6:,.0f} M" if ours else "",
        ]
        if row.flops:
            cells += [
                f"{row.flops:.1f} G",
                f"{each.flops / 1e9:.2f} G" if each.flops else "",
                differ(each.flops, row.flops * 1e9) if each.flops else "",
                row.device or "",
                f"{row.milliseconds:.0f} ms",
            ]
        table.add_row(*cells, f"{row.metric_name.removeprefix('val/')} {row.metric}")
    console = wide_console(WIDTH)
    console.print(table)
    for each in rows:
        if each.row.note:
            console.print(f"row {each.row.number}: {each.row.note}", highlight=False)


def title_of(name: str) -> str:
    """Return the title of a comparison."""
    if name == "today":
        return "Later networks, as published"
    kind, number = name[:-1], name[-1]
    return f"Paper, {kind.capitalize()} {number}"


def differ(ours: float, paper: float) -> str:
    """Return the relative difference of our value to the paper's, in percent."""
    return f"{100 * (ours / paper - 1):+.1f} %"
