"""Table and figure of `benchmark.target=latency`, and the paper's Table 3 beside our times."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from parcnet_train.benchmarks.exported import INT8, Candidate, Footprint
from parcnet_train.benchmarks.latency import Latencies, fastest
from parcnet_train.benchmarks.timing import Timing, in_digits
from parcnet_train.deploy.standalone.timing import summary
from parcnet_train.files import write_whole
from parcnet_train.report.paper.tables import TABLE_3, Row
from parcnet_train.terminal import wide_console

WIDTH = 100  # characters; the tables need them
MB = 1e6
BEST = "best"  # column of the fastest form and runtime of each network, in one precision
FOOTPRINT = ("MB", "load", "memory")  # columns
FOOTPRINT_WORDS = (
    "MB: size of the file; load: milliseconds to open it and to run it once; memory: peak of both "
    "in MB, beyond the imported runtime"
)
BAR = 0.8  # height of a backbone's bars, relative to the distance between backbones
INT8_ALPHA = 0.5  # opacity of int8's bars; the color is that of the runtime
PICTURE = "latency.png"


@dataclass(frozen=True)
class Ours:
    """Our time for a row of Table 3, in one form and runtime.

    Attributes:
        milliseconds: Median time of an image.
        times_faster: Speedup over the row above, the same network without ParC; None without one.
        runtime: Form and runtime, if another row of the column has another one.
    """

    milliseconds: float
    times_faster: float | None
    runtime: str | None = None


def backbone_of(row: Row) -> str:
    """Return the backbone config of a row."""
    return row.overrides[0].removeprefix("backbone=")


def pairs() -> Iterator[tuple[Row, Row]]:
    """Pair each row of Table 3 without ParC with the row of the same network with ParC."""
    return zip(TABLE_3[::2], TABLE_3[1::2], strict=True)


def columns_of(latencies: Latencies) -> list[tuple[str, str]]:
    """Return form and runtime of our columns."""
    return list(dict.fromkeys((each.form, each.runtime) for each in latencies.milliseconds))


def beside_table3(latencies: Latencies) -> dict[int, dict[tuple[str, str], Ours]]:
    """Return our times of each row of Table 3, by form and runtime."""
    found: dict[int, dict[tuple[str, str], Ours]] = {row.number: {} for row in TABLE_3}
    timings = {each: Timing(tuple(t)) for each, t in latencies.milliseconds.items()}
    best = {
        (each.backbone, BEST, precision): each
        for (_, precision), each in fastest(latencies.milliseconds).items()
    }

    def candidate_of(row: Row, column: tuple[str, str]) -> Candidate:
        name = backbone_of(row)
        return best.get((name, *column)) or Candidate(name, *column)

    for column in (*columns_of(latencies), *best_columns(latencies)):
        for without, with_parc in pairs():
            first, second = candidate_of(without, column), candidate_of(with_parc, column)
            ratio = None
            if first in timings and second in timings:
                # Within each interleaved round: other load on the machine affects both.
                ratio = timings[first].relative_to(timings[second])
            for row, each, faster in ((without, first, None), (with_parc, second, ratio)):
                if each in timings:
                    name = f"{each.form}/{each.runtime}" if column[0] == BEST else None
                    found[row.number][column] = Ours(timings[each].median, faster, name)
    return found


def best_columns(latencies: Latencies) -> list[tuple[str, str]]:
    """Return the columns of the fastest runtimes: one per precision that was timed."""
    precisions = dict.fromkeys(each.precision for each in latencies.milliseconds)
    return [(BEST, precision) for precision in precisions]


def table3_results(latencies: Latencies) -> Iterator[tuple[str, float | str | None]]:
    """Yield keys and values of Table 3 for `results.json`."""
    ours = beside_table3(latencies)
    for without, with_parc in pairs():
        for row in (without, with_parc):
            key = f"table3/row{row.number}"
            yield f"{key}/model", row.model
            yield f"{key}/device_paper", row.device
            yield f"{key}/milliseconds_paper", row.milliseconds
            if row is with_parc:
                yield f"{key}/times_faster_paper", paper_ratio(without, with_parc)
            for column, each in ours[row.number].items():
                yield f"{key}/{'/'.join(column)}/milliseconds", each.milliseconds
                if each.times_faster is not None:
                    yield f"{key}/{'/'.join(column)}/times_faster", each.times_faster
                if each.runtime is not None:
                    yield f"{key}/{'/'.join(column)}/runtime", each.runtime


def paper_ratio(without: Row, with_parc: Row) -> float:
    """Return the printed speedup of a network with ParC over the same network without."""
    assert without.milliseconds is not None  # every row of Table 3 has it
    assert with_parc.milliseconds is not None
    return without.milliseconds / with_parc.milliseconds


def print_latencies(title: str, latencies: Latencies) -> None:
    """Print one line per network, form and runtime, and the fastest ones of each network.

    Args:
        title: Title of the table.
        latencies: Measured times.
    """
    table = Table(title=f"{title}; milliseconds per image", title_justify="left")
    for heading in ("backbone", "form", "runtime"):
        table.add_column(heading, no_wrap=True)
    for heading in ("median", "p90", "p99", "differs", *FOOTPRINT):
        table.add_column(heading, justify="right", no_wrap=True)
    for each, times in latencies.milliseconds.items():
        median, p90, p99, _ = map(in_digits, summary(times).values())
        away = f"{latencies.differences[each]:.0e}"
        costs = footprint_cells(latencies.footprints[each])
        table.add_row(each.backbone, each.form, each.runtime, median, p90, p99, away, *costs)
    console = wide_console(WIDTH)
    console.print(table)
    console.print(
        "differs: the largest difference of a logit to the trained network in PyTorch, in standard "
        f"deviations of the logits; {FOOTPRINT_WORDS}",
        highlight=False,
    )
    for (backbone, precision), best in fastest(latencies.milliseconds).items():
        median = in_digits(summary(latencies.milliseconds[best])["milliseconds"])
        console.print(best_line(backbone, precision, best, f"{median} ms"), highlight=False)


def best_line(backbone: str, precision: str, best: Candidate, time: str) -> str:
    """Return the line that names the fastest form and runtime of a network."""
    return f"{backbone}: fastest in {precision}: {best.runtime} ({best.form}), {time}"


def footprint_cells(footprint: Footprint) -> tuple[str, str, str]:
    """Return the cells of the columns `FOOTPRINT`."""
    peak = footprint.peak_memory_bytes
    return (
        f"{footprint.bytes / MB:.1f}",
        f"{footprint.load_milliseconds:.0f}",
        "" if peak is None else f"{peak / MB:.0f}",
    )


def print_table3(latencies: Latencies) -> None:
    """Print times and speedups of the networks with ParC: the paper's, and ours in each column."""
    ours = beside_table3(latencies)
    timed = [pair for pair in pairs() if any(ours[row.number] for row in pair)]
    if not timed:
        return
    height, width = latencies.size
    table = Table(
        title=f"Table 3, and ours at {height}x{width}: milliseconds per image with ParC; "
        "in brackets: speedup over the same network without it",
        title_justify="left",
    )
    networks = {with_parc.model: with_parc.number for _, with_parc in timed}
    for heading in ("", *networks):
        table.add_column(heading)
    for device in dict.fromkeys(with_parc.device for _, with_parc in timed):
        cells = {
            with_parc.model: f"{with_parc.milliseconds:.0f}"
            + bracketed(paper_ratio(without, with_parc))
            for without, with_parc in timed
            if with_parc.device == device
        }
        table.add_row(f"paper, {device}", *(cells.get(name, "") for name in networks))
    table.add_section()
    for column in (*columns_of(latencies), *best_columns(latencies)):
        found = [ours[number].get(column) for number in networks.values()]
        form, runtime = column
        label = f"fastest, {runtime}" if form == BEST else f"{runtime}, {form}"
        table.add_row(
            label,
            *(
                "not run"
                if each is None
                else in_digits(each.milliseconds) + bracketed(each.times_faster)
                for each in found
            ),
        )
    wide_console(WIDTH).print(table)


def bracketed(ratio: float | None) -> str:
    """Return a speedup in brackets, or nothing without one."""
    return "" if ratio is None else f" ({ratio:.2f}x)"


def draw_latencies(title: str, latencies: Latencies, picture: Path) -> None:
    """Draw medians as bars, with lines up to the 90th percentile.

    Args:
        title: Title of the figure.
        latencies: Measured times.
        picture: PNG file to write.
    """
    columns = columns_of(latencies)
    backbones = list(dict.fromkeys(each.backbone for each in latencies.milliseconds))
    colors = {runtime: f"C{i}" for i, runtime in enumerate(dict.fromkeys(c[1] for c in columns))}
    height = BAR / len(columns)
    figure = Figure(
        figsize=(8, 1.5 + 0.25 * len(backbones) * (1 + len(columns))), layout="constrained"
    )
    axes = figure.subplots()
    for index, (form, runtime) in enumerate(columns):
        found = {
            place + index * height: summary(latencies.milliseconds[candidate])
            for place, name in enumerate(backbones)
            if (candidate := Candidate(name, form, runtime)) in latencies.milliseconds
        }
        medians = [each["milliseconds"] for each in found.values()]
        above = [each["milliseconds_p90"] - each["milliseconds"] for each in found.values()]
        bars = axes.barh(
            list(found),
            medians,
            height,
            xerr=([0.0] * len(above), above),
            label=f"{runtime}, {form}",
            color=colors[runtime],
            alpha=INT8_ALPHA if form == INT8 else 1,
        )
        axes.bar_label(bars, [in_digits(each) for each in medians], padding=3, fontsize=7)
    axes.set_yticks([place + (BAR - height) / 2 for place in range(len(backbones))], backbones)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="milliseconds per image: median, line up to the 90th percentile")
    axes.margins(x=0.12, y=0.01)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    write_whole(picture, png.getvalue())
