"""Turn latency benchmarks into their parts of docs/benchmarks.md: figures are never typed.

A run by the paper's protocol becomes the part `latency`, those by MLPerf's protocol the part
`mlperf`:

    python -m parcnet_train action=benchmark benchmark.target=latency hydra.run.dir=RUN
    python scripts/measure_latency.py RUN --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from textwrap import wrap
from typing import Any

from parcnet_train.benchmarks.exported import Footprint
from parcnet_train.benchmarks.timing import in_digits
from parcnet_train.report.console.latency import BEST, backbone_of, footprint_cells
from parcnet_train.report.console.mlperf import percent_of
from parcnet_train.report.measured import replace_part
from parcnet_train.report.paper.tables import TABLE_3, Row
from parcnet_train.runs.directories import RESULTS

Values = Mapping[str, Any]  # results.json
FOOTPRINT = "| file, MB | load, ms | memory, MB |"
FOOTPRINT_LINE = "---:|---:|---:|"
WIDTH = 115  # characters of a line of prose


def main() -> None:
    """Print the parts, and write them into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run of a benchmark")
    parser.add_argument(
        "--write", type=Path, help="Markdown file whose measured parts are replaced"
    )
    arguments = parser.parse_args()
    if missing := [run for run in arguments.runs if not (run / RESULTS).is_file()]:
        parser.error(f"{missing[0]}: expected the directory of a run, with {RESULTS}")
    found = [json.loads((run / RESULTS).read_text()) for run in arguments.runs]
    if any("protocol" not in each for each in found):
        parser.error(f"expected runs of benchmark.target=latency, with {RESULTS}")
    for part, write in PARTS.items():
        if runs := [each for each in found if each["protocol"] == PROTOCOLS[part]]:
            text = "\n".join(line for run in runs for line in write(run))
            print(text)
            if arguments.write is not None:
                replace_part(arguments.write, part, text)


def about(run: Values) -> str:
    """Return the machine and the versions of a run, as a sentence."""
    runtimes = dict.fromkeys(runtime for _, _, runtime in candidates(run))
    versions = ", ".join(f"{name} {run[f'{name}_version']}" for name in runtimes)
    height, width = run["image_size"]
    return (
        f"{height}x{width}, {run['hardware/cpu']}, threads: {run['hardware/threads']}; "
        f"{versions}; Python {run['python_version']}."
    )


def candidates(run: Values) -> list[tuple[str, str, str]]:
    """Return backbone, form and runtime of everything that was timed."""
    ends = "/milliseconds"
    keys = [key.removesuffix(ends).split("/") for key in run if key.endswith(ends)]
    return [(key[1], key[2], key[3]) for key in keys if key[0] == "latency"]


def table_3(run: Values) -> Iterator[str]:
    """Yield the lines of a run by the paper's protocol: times, then what the files cost."""
    timed = candidates(run)
    yield from wrap(f"{about(run)} Medians of {run['iterations']} rounds in milliseconds.", WIDTH)
    rows: dict[str, Row] = {}
    for row in TABLE_3:
        if backbone_of(row) in names(timed):
            rows.setdefault(backbone_of(row), row)  # of two devices, the first one
    columns = dict.fromkeys((form, runtime) for _, form, runtime in timed)
    for is_int8, precision in ((False, "float32"), (True, "int8")):
        shown = [each for each in columns if (each[0] == "int8") == is_int8]
        if not shown:
            continue
        titles = [f"{runtime}, {form}" for form, runtime in shown]
        yield from ("", f"| {precision} | {' | '.join(titles)} | fastest |")
        yield "|---" * (len(shown) + 2) + "|"
        for row in rows.values():
            keys = [*("/".join(each) for each in shown), f"{BEST}/{precision}"]
            cells = [cell(run, f"table3/row{row.number}/{key}") for key in keys]
            yield f"| {row.model} | {' | '.join(cells)} |"
    rate = run["hardware/multiply_adds_per_second"]
    yield ""
    yield from wrap(
        f"A float32 matrix product ran at {rate / 1e9:.0f} G multiply-adds a second. The column "
        "rate has those of the networks; int8 has its own instructions.",
        WIDTH,
    )
    yield from ("", f"| network | form | runtime | rate {FOOTPRINT}")
    yield f"|---|---|---|---:|{FOOTPRINT_LINE}"
    for each in timed:
        count, key = run[f"multiply_adds/{each[0]}"], f"latency/{'/'.join(each)}/milliseconds"
        speed = f"{count / run[key] / 1e6:.0f}"  # 1e3 milliseconds per second, 1e9 of them are a G
        yield f"| {' | '.join(each)} | {speed} {footprint(run, each)}"


def names(timed: Sequence[tuple[str, str, str]]) -> set[str]:
    """Return the backbones that were timed."""
    return {backbone for backbone, _, _ in timed}


def cell(run: Values, key: str) -> str:
    """Return a time of Table 3 with the speedup over the row above, and the runtime if it varies.

    Args:
        run: Results of the run.
        key: Key of the time without its last part.
    """
    if f"{key}/milliseconds" not in run:
        return "not run"
    text = in_digits(run[f"{key}/milliseconds"])
    if (ratio := run.get(f"{key}/times_faster")) is not None:
        text += f" ({ratio:.2f}x)"
    return text + (f", {run[f'{key}/runtime']}" if f"{key}/runtime" in run else "")


def footprint(run: Values, candidate: tuple[str, str, str]) -> str:
    """Return the cells of the columns `FOOTPRINT`."""
    key = f"latency/{'/'.join(candidate)}"
    measured = Footprint(**{each.name: run[f"{key}/{each.name}"] for each in fields(Footprint)})
    return f"| {' | '.join(footprint_cells(measured))} |"


def mlperf(run: Values) -> Iterator[str]:
    """Yield the lines of a run by MLPerf's protocol."""
    metric, task = run["metric"], run["task"]
    accuracy = f"{metric} {run['accuracy_pytorch']:.4f} in float32 in PyTorch"
    text = f"**{task.capitalize()}**: {run['backbone']}, {accuracy}. {run['images']:,} images of "
    yield from wrap(text + about(run), WIDTH)
    yield from ("", f"| runtime | form | p90, ms | median, ms | {metric} | share {FOOTPRINT}")
    yield f"|---|---|---:|---:|---:|---:|{FOOTPRINT_LINE}"
    for candidate in candidates(run):
        key, (_, form, runtime) = f"latency/{'/'.join(candidate)}", candidate
        share = run[f"{key}/accuracy_share"]
        cells = [
            in_digits(run[f"{key}/milliseconds_p90"]),
            in_digits(run[f"{key}/milliseconds"]),
            f"{run[f'{key}/accuracy']:.4f}",
            percent_of(share) + ("" if run[f"{key}/accuracy_passed"] else ", too low"),
        ]
        yield f"| {runtime} | {form} | {' | '.join(cells)} {footprint(run, candidate)}"
    best = [
        f"{precision}: {run[key]}"
        for precision in ("float32", "int8")
        if (key := f"best/{run['backbone']}/{precision}") in run
    ]
    yield ""
    if best:
        yield f"Fastest, of those that are accurate enough: {', '.join(best)}."
    else:
        yield "No file is accurate enough."
    yield ""


PARTS: dict[str, Callable[[Values], Iterator[str]]] = {"latency": table_3, "mlperf": mlperf}
PROTOCOLS = {"latency": "paper", "mlperf": "mlperf_mobile"}


if __name__ == "__main__":
    main()
