"""Write our results on CIFAR-10, BCCD and CamVid into their pages: figures are never typed.

Every set below RUNS (docs/results/protocol.md) is compared with `action=compare`; the tables, the
figures and the summary of the README come from those comparisons and from the files of the runs:

    python scripts/write_results.py docs/results/runs
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from omegaconf import OmegaConf

import parcnet_train
from parcnet_train.files import write_whole
from parcnet_train.pages.figures import styled, svg_on_white
from parcnet_train.report.measured import replace_part
from parcnet_train.report.paper.tables import TABLE_2
from parcnet_train.runs.directories import OUTCOME, PROVENANCE, RESULTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "index.md"
README = ROOT / "README.md"
SWEEPS = ROOT / "conf" / "sweep"  # have the rows and the seeds of the protocol
PARTS = 20  # of a training, each a point of its curve
WIDTH = 115  # characters of a line of prose
PREFIX = "proof_"  # of our ablations
BASELINES = {"proof_mobilevit_xs": "MobileViT-XS", "proof_parcnet_xs": "ParC-Net-XS"}

# Our rows, and what they are.
NAMES = {
    "proof_mobilevit_xs": "MobileViT-XS",
    "proof_parcnet_xs": "ParC-Net-XS",
    "proof_no_position_embedding": "ParC-Net-XS without position embedding",
    "proof_no_channel_attention": "ParC-Net-XS without channel attention",
    "proof_big_kernel": "ParC-Net-XS with kernels of half the length",
    "proof_resnext_block": "ParC-Net-XS with the ResNeXt block",
    "proof_pretrained": "ParC-Net-XS from CIFAR-10's weights",
    "proof_mobilenetv2": "MobileNetV2",
}


@dataclass(frozen=True)
class Set:
    """A data set of the protocol.

    Attributes:
        title: Its name.
        metric: Name of its metric in words.
        split: Split that the metric is of.
        paper_set: Data set of the paper for this task.
        paper: Row of the paper's Table 2 that each of our rows corresponds to.
        sweep: Name of the sweep that has its rows and seeds, without `PREFIX`.
        rows: Rows of the sweep that were run; empty: all.
        transferred: Number of seeds of `proof_pretrained`, which the sweep lacks: its weights are
            those of a run.
    """

    title: str
    metric: str
    split: str
    paper_set: str
    paper: Mapping[str, int]
    sweep: str
    rows: tuple[str, ...] = ()
    transferred: int = 3


SETS = {
    "cifar10": Set(
        "CIFAR-10",
        "top-1",
        "test set",
        "ImageNet",
        {
            "proof_mobilevit_xs": 1,
            "proof_parcnet_xs": 7,
            "proof_no_position_embedding": 6,
            "proof_no_channel_attention": 5,
            "proof_big_kernel": 3,
            "proof_resnext_block": 4,
        },
        sweep="cifar10",
        transferred=0,
    ),
    "bccd": Set(
        "BCCD",
        "AP",
        "validation set",
        "COCO",
        {"proof_mobilevit_xs": 8, "proof_parcnet_xs": 10, "proof_no_position_embedding": 9},
        sweep="bccd",
    ),
    # An addition to the protocol, docs/results/protocol.md#changes.
    "bccd_lower": Set(
        "BCCD, lower rate",
        "AP",
        "validation set",
        "COCO",
        {"proof_mobilevit_xs": 8, "proof_parcnet_xs": 10},
        sweep="bccd",
        rows=("proof_mobilevit_xs", "proof_parcnet_xs"),
        transferred=0,
    ),
    "camvid": Set(
        "CamVid",
        "mIoU",
        "validation set",
        "VOC",
        {"proof_mobilevit_xs": 11, "proof_parcnet_xs": 13, "proof_no_position_embedding": 12},
        sweep="camvid",
    ),
}


@dataclass(frozen=True)
class Comparison:
    """The rows of a set.

    Attributes:
        rows: Line of `table.csv` for each ablation.
        differences: The same, with the differences to each baseline.
        runs: Results of all finished runs.
        losses: The curve of each of them, see `curve_of`.
        missing: Seeds of the protocol that have not been run, for each ablation.
        hours: Processor time of all runs, in hours.
        failed: Names of the runs that failed.
    """

    rows: Mapping[str, Mapping[str, str]]
    differences: Mapping[str, Mapping[str, Mapping[str, str]]]
    runs: Sequence[Mapping[str, Any]]
    losses: Sequence[Sequence[float]]
    missing: Mapping[str, Sequence[int]]
    hours: float
    failed: Sequence[str]


def main() -> None:
    """Compare the runs of every set, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder with a folder of each set")
    arguments = parser.parse_args()
    found = {name: compare(arguments.runs / name, expected_of(each)) for name, each in SETS.items()}
    for name, comparison in found.items():
        lines = list(lines_of(SETS[name], comparison))
        if len(comparison.rows) > 1:  # a picture of one row compares nothing
            write_whole(PAGE.parent / f"{name}.svg", draw(SETS[name], comparison))
            words = f"{SETS[name].metric} and training loss of every run on {SETS[name].title}"
            lines += ["", f"![{words}]({name}.svg)"]
        text = "\n".join(lines)
        print(text)
        replace_part(PAGE, name, text)
    replace_part(README, "results", "\n".join(summary(found)))


def expected_of(of_set: Set) -> dict[str, set[int]]:
    """Return the seeds of each ablation of a set, as its sweep and the protocol have them."""
    sweep: Any = OmegaConf.to_container(OmegaConf.load(SWEEPS / f"{PREFIX}{of_set.sweep}.yaml"))
    params = sweep["hydra"]["sweeper"]["params"]
    seeds = {int(each) for each in params["seed"].split(",")}
    rows = dict.fromkeys(of_set.rows or params["ablation"].split(","), seeds)
    transferred = set(range(of_set.transferred))
    return {**rows, f"{PREFIX}pretrained": transferred}


def compare(folder: Path, expected: Mapping[str, set[int]]) -> Comparison:
    """Compare the runs of a set with both baselines.

    Args:
        folder: Folder of the runs, which may be missing.
        expected: Seeds of each ablation in the protocol.
    """
    files = sorted(folder.rglob(RESULTS))
    runs = [json.loads(each.read_text()) for each in files]
    failed = [
        each.parent.name
        for each in sorted(folder.rglob(OUTCOME))
        if not (each.parent / RESULTS).is_file()
    ]
    differences = {}
    for baseline in BASELINES:
        if any(run["ablation"] == baseline for run in runs):
            differences[baseline] = table_of(folder, baseline)
    rows = next(iter(differences.values()), {})
    losses = [curve_of(each.parent) for each in files]
    missing = {
        name: sorted(seeds - {run["seed"] for run in runs if run["ablation"] == name})
        for name, seeds in expected.items()
    }
    return Comparison(rows, differences, runs, losses, missing, hours_of(folder), failed)


def curve_of(folder: Path) -> list[float]:
    """Return the mean training loss of each of the `PARTS` equal parts of a run."""
    lines = [
        line
        for file in sorted(folder.rglob("metrics.csv"))  # a resumed run may have several
        for line in csv.DictReader(io.StringIO(file.read_text()))
    ]
    losses = {
        int(line["step"]): line["train/loss_step"] for line in lines if line["train/loss_step"]
    }
    last = max(losses) + 1
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for step, loss in losses.items():
        parts[step * PARTS // last].append(float(loss))
    return [mean(part) for part in parts]


def hours_of(folder: Path) -> float:
    """Return the processor time of all runs in hours, of every session that came to an end."""
    provenances = [json.loads(each.read_text()) for each in sorted(folder.rglob(PROVENANCE))]
    sessions = (each for provenance in provenances for each in provenance["sessions"])
    return sum(each.get("cpu_seconds") or 0.0 for each in sessions) / 3600


def table_of(folder: Path, baseline: str) -> dict[str, dict[str, str]]:
    """Return the lines of `table.csv` of a comparison, by ablation."""
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        parcnet_train.run(
            "action=compare",
            f"report.runs={folder}",
            f"report.baseline={baseline}",
            f"hydra.run.dir={output}",
        )
        lines = list(csv.DictReader(io.StringIO((Path(output) / "table.csv").read_text())))
    return {ablation_of(line["name"]): line for line in lines}


def ablation_of(name: str) -> str:
    """Return the ablation of a group of runs, from its choices."""
    choices = dict(each.partition("=")[::2] for each in name.split())
    return choices["ablation"]


def lines_of(of_set: Set, comparison: Comparison) -> Iterator[str]:
    """Yield the part of a page about a set."""
    if not comparison.rows:
        yield "Not run."
        return
    titles = [f"minus {BASELINES[each]}" for each in comparison.differences]
    yield f"| row | paper's row | {of_set.metric} | n | {' | '.join(titles)} |"
    yield f"|---|---:|---:|---:|{'---:|' * len(titles)}"
    for ablation in ordered(comparison.rows):
        row = comparison.rows[ablation]
        cells = [
            NAMES[ablation],
            str(of_set.paper.get(ablation, "")),
            mean_of(row),
            row["n"],
            *(difference(lines[ablation]) for lines in comparison.differences.values()),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from wrap(
        f"{of_set.metric} in percent on the {of_set.split}, mean and standard deviation over n "
        "seeds. Differences in points: mean over the seeds that both rows have, with Student's "
        "paired interval of 95 %. In bold: the interval does not include 0.",
        WIDTH,
    )
    yield ""
    lacking = (
        f"{NAMES[name]} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
        for name, seeds in comparison.missing.items()
        if seeds
    )
    yield from wrap(
        f"Runs: {len(comparison.runs)}. Core-hours: {comparison.hours:.1f}. Failed: "
        f"{', '.join(comparison.failed) or 'none'}. Not run: {'; '.join(lacking) or 'none'}.",
        WIDTH,
    )


def ordered(rows: Mapping[str, Any]) -> list[str]:
    """Return the ablations in the order of `NAMES`."""
    return [name for name in NAMES if name in rows]


def mean_of(row: Mapping[str, str]) -> str:
    """Return a mean with its standard deviation; a single run has none."""
    text = f"{float(row['metric_mean']):.2f}"
    return f"{text} ± {float(row['metric_std']):.2f}" if row["metric_std"] else text


def difference(row: Mapping[str, str]) -> str:
    """Return a difference to the baseline with its interval, bold if it excludes zero."""
    if not row["difference"]:
        return ""
    value = f"{float(row['difference']):+.2f}"
    if not row["difference_low"]:
        return value
    low, high = float(row["difference_low"]), float(row["difference_high"])
    text = f"{value} [{low:+.2f}, {high:+.2f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


@styled
def draw(of_set: Set, comparison: Comparison) -> bytes:
    """Draw the metric of every run above the training loss of every row, as SVG."""
    names = ordered(comparison.rows)
    height = 0.42 * len(names) + 0.8
    figure = Figure(figsize=(7.2, height + 3.2), layout="constrained")
    dots, curves = figure.subplots(2, height_ratios=[height, 3.2])
    for place, name in enumerate(names):
        values = [100 * run[run["monitor"]] for run in comparison.runs if run["ablation"] == name]
        dots.plot(values, [place] * len(values), "o", color="C0", alpha=0.55, markersize=5)
        dots.plot([mean(values)], [place], "|", color="C1", markersize=16, markeredgewidth=2)
        pairs = zip(comparison.runs, comparison.losses, strict=True)
        losses = [loss for run, loss in pairs if run["ablation"] == name]
        epochs = [(part + 0.5) * comparison.runs[0]["epochs"] / PARTS for part in range(PARTS)]
        curves.plot(epochs, np.mean(losses, axis=0), label=NAMES[name])
    dots.set_yticks(range(len(names)), [NAMES[name] for name in names])
    dots.set_ylim(len(names) - 0.5, -0.5)  # the first row on top, with room for its bar
    dots.set_xlabel(f"{of_set.title}: {of_set.metric} in percent; dots: seeds, bars: means")
    curves.set_xlabel("epoch")
    curves.set_ylabel("training loss, mean of the seeds")
    curves.legend()
    return svg_on_white(figure)


def summary(found: Mapping[str, Comparison]) -> Iterator[str]:
    """Yield the README's table: differences in the paper and here."""
    yield "| difference, in points | the paper, size S | here, size XS |"
    yield "|---|---:|---:|"
    for name, comparison in found.items():
        of_set = SETS[name]
        for first, second in (
            ("proof_parcnet_xs", "proof_mobilevit_xs"),
            ("proof_no_position_embedding", "proof_parcnet_xs"),
        ):
            if first not in of_set.paper:
                continue
            words = (
                "ParC-Net minus MobileViT"
                if second == "proof_mobilevit_xs"
                else "ParC-Net without position embedding minus ParC-Net"
            )
            paper = metric_of(of_set.paper[first]) - metric_of(of_set.paper[second])
            ours = comparison.differences.get(second, {}).get(first)
            cell = f"not run ({of_set.title})"
            if ours is not None:
                pairs = seeds_of(comparison, first) & seeds_of(comparison, second)
                cell = f"{difference(ours)} ({of_set.title}, n = {len(pairs)})"
            yield f"| {of_set.metric}: {words} | {paper:+.2f} ({of_set.paper_set}) | {cell} |"


def seeds_of(comparison: Comparison, ablation: str) -> set[int]:
    """Return the seeds of the finished runs of an ablation."""
    return {run["seed"] for run in comparison.runs if run["ablation"] == ablation}


def metric_of(number: int) -> float:
    """Return the metric of a row of the paper's Table 2, in percent."""
    return next(row.metric for row in TABLE_2 if row.number == number)


if __name__ == "__main__":
    main()
