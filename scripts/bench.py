"""Run the benchmarks of docs/benchmarks.md one after another, and write their parts of the page.

`make bench` does this on the CPU in less than 20 minutes, if nothing else runs; `make bench-gpu`
times the training step on a GPU. The results stay in BUILD, so the page can be written again:

    python scripts/bench.py BUILD --write docs/benchmarks.md
    python scripts/bench.py BUILD --write docs/benchmarks.md --no-run
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure

from parcnet_train.benchmarks.photos import cut_photos
from parcnet_train.benchmarks.timing import in_digits
from parcnet_train.files import to_json, write_whole
from parcnet_train.pages.figures import styled, svg_on_white
from parcnet_train.report.measured import replace_part
from parcnet_train.runs.directories import RESULTS
from parcnet_train.runs.environment import cpu_model

Values = Mapping[str, Any]  # results.json

WIDTH = 115  # characters of a line of prose
PHOTOS = 128
PICTURE = "step.svg"
CPU = ("trainer.accelerator=cpu",)
MULTI_SCALE = ((160, 328), (192, 224), (256, 128), (288, 128), (320, 128))  # size, batch: released

# Commands whose start is timed.
STARTS = {
    "--help": ("--help",),
    "action=check": ("action=check",),
    "one step of action=fit": (
        "trainer.max_steps=1",
        "trainer.limit_val_batches=1",
        "backbone=parcnet_xs",
        "task.pictures=0",
        *CPU,
    ),
}
START_ROUNDS = 3
EARLIER = "71f3abe"  # the last revision that imported everything at the start


@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        lines: Function that turns the results of the benchmark into the lines of the part.
        overrides: Overrides of the benchmark, for each of its runs.
    """

    lines: Callable[[Sequence[Values]], Iterator[str]]
    overrides: Sequence[Sequence[str]]


def main() -> None:
    """Run the benchmarks, and write the page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder of the results")
    parser.add_argument(
        "--write", type=Path, help="Markdown file whose measured parts are replaced"
    )
    parser.add_argument("--gpu", action="store_true", help="time the training step on a GPU")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run, of all")
    parser.add_argument("--no-run", action="store_true", help="only write what has been measured")
    arguments = parser.parse_args()
    parts = GPU_PARTS if arguments.gpu else PARTS
    names = list(parts) if arguments.only is None else arguments.only
    if unknown := [name for name in names if name not in parts]:
        parser.error(f"--only {unknown[0]}: expected {', '.join(parts)}")
    for name in names:
        folder = arguments.build / name
        if not arguments.no_run:
            began = time.perf_counter()
            if name == "startup":
                write(folder, time_starts())
            else:
                own = []
                if name == "loader":
                    photos = arguments.build / "photos"
                    make_photos(photos)
                    own = [f"data.root={photos}"]
                run_all(parts[name].overrides, own, folder)
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        files = sorted(folder.glob(f"*/{RESULTS}"), key=lambda each: int(each.parent.name))
        if not files:
            parser.error(f"{folder}: expected results. Fix: leave out --no-run")
        text = "\n".join(parts[name].lines([json.loads(each.read_text()) for each in files]))
        print(text)
        if arguments.write is not None:
            replace_part(arguments.write, f"bench {name}", text)
            if name == "train_step":
                picture = draw_steps(json.loads(files[0].read_text()))
                write_whole(arguments.write.parent / "assets" / PICTURE, picture)


def run_all(runs: Sequence[Sequence[str]], own: Sequence[str], folder: Path) -> None:
    """Run the benchmarks of a part, each in a process of its own.

    Args:
        runs: Overrides of each benchmark.
        own: Further overrides of all of them.
        folder: Folder of the results.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier call
    for number, overrides in enumerate(runs):
        command = [sys.executable, "-m", "parcnet_train", "action=benchmark", *overrides, *own]
        subprocess.run([*command, f"hydra.run.dir={folder / str(number)}"], check=True)


def write(folder: Path, results: Values) -> None:
    """Write results as a benchmark does."""
    (folder / "0").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "0" / RESULTS, to_json(results))


def make_photos(folder: Path, count: int = PHOTOS) -> None:
    """Write the photos of a training and a validation set, unless they exist.

    Args:
        folder: Folder of the photos.
        count: Number of photos of each split.
    """
    for split in ("train", "val"):
        for number, photo in enumerate(cut_photos(count)):
            path = folder / split / f"class_{number % 2}" / f"{number}.jpg"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                photo.save(path, quality=92)


def time_starts() -> dict[str, Any]:
    """Time the start of commands, of this revision and of an earlier one, interleaved."""
    root = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(root)]
    if subprocess.run([*git, "cat-file", "-e", EARLIER], capture_output=True).returncode:
        sys.exit(
            f"startup: revision {EARLIER} is not in {root}; expected a clone with the whole "
            "history. Fix: git fetch --unshallow, or name other parts with --only"
        )
    times: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        earlier = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tree"
        tree = [*git, "worktree"]
        subprocess.run([*tree, "add", "--quiet", "--detach", str(earlier), EARLIER], check=True)
        stack.callback(subprocess.run, [*tree, "remove", "--force", str(earlier)], check=True)
        sources = {"now": root, "before": earlier}
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for turn in range(START_ROUNDS + 1):  # the first one fills the caches
            for command, overrides in STARTS.items():
                for name, source in sources.items():
                    output = () if command == "--help" else (f"hydra.run.dir={work}/{turn}{name}",)
                    found = time_process([*overrides, *output], source)
                    if turn:
                        times.setdefault(f"startup/{command}/{name}", []).append(found)
    entries: dict[str, Any] = {
        "hardware/cpu": cpu_model(),
        "hardware/cores": os.cpu_count(),
        "python_version": platform.python_version(),
        "rounds": START_ROUNDS,
        "before": EARLIER,
    }
    for key, rounds in times.items():
        entries[f"{key}/cpu_seconds"] = statistics.median(cpu for cpu, _ in rounds)
        entries[f"{key}/seconds"] = statistics.median(seconds for _, seconds in rounds)
    return entries


def time_process(arguments: Sequence[str], source: Path) -> tuple[float, float]:
    """Return the processor time and the time of a command, in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    command = [sys.executable, "-m", "parcnet_train", *arguments]
    earlier, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=source)
    seconds, later = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = later.ru_utime + later.ru_stime - earlier.ru_utime - earlier.ru_stime
    return used, seconds


def about(run: Values) -> list[str]:
    """Return the machine and the versions of a run, as lines of prose."""
    device = run.get("hardware/gpu") or run["hardware/cpu"]
    threads = "" if run.get("hardware/gpu") else f", threads: {run['hardware/threads']}"
    versions = f"torch {run['torch_version']}, Python {run['python_version']}"
    timm = f", timm {run['timm_version']}" if run.get("timm_version") else ""
    return wrap(f"{device}{threads}; {versions}{timm}; {run['repeats']} rounds.", WIDTH)


def spread(run: Values, key: str, unit: float = 1.0, name: str = "ms") -> str:
    """Return a median time with its range.

    Args:
        run: Results of the run.
        key: Key of the timing, without its last part.
        unit: Milliseconds per unit.
        name: Name of the unit.
    """
    median, least, most = (
        in_digits(run[f"{key}/milliseconds{suffix}"] / unit) for suffix in ("", "_min", "_max")
    )
    return f"{median} {name} ({least}-{most})"


def steps(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about the training step."""
    for run in runs:
        height, width = run["image_size"]
        yield from about(run)
        yield from ("", f"Batch {run['batch_size']}, {height}x{width} pixels:", "")
        on_cpu = run["hardware/device"] == "cpu"
        memory_title = "freed memory" if on_cpu else "peak memory"
        yield (
            f"| network | layout | dtype | {memory_title} | step | speedup over the first "
            "| over timm's |"
        )
        yield "|---|---|---|---|---|---:|---:|"
        for variant in variants(run):
            network, layout, dtype, *memory = variant.split("/")
            rival = f"timm.mobilevit_s{'_compiled' if network.endswith('_compiled') else ''}"
            theirs = run.get(f"train_step/{rival}/{layout}/{dtype}/milliseconds")
            ours = run[f"train_step/{variant}/milliseconds"]
            compared = "" if theirs is None or memory else f"{theirs / ours:.2f}x"
            if on_cpu:
                memory_cell = "to the system" if memory else "kept"
            else:
                memory_cell = f"{run[f'train_step/{variant}/peak_bytes'] / 2**30:.2f} GiB"
            cells = (network, layout, dtype, memory_cell, spread(run, f"train_step/{variant}"))
            ratio = run[f"train_step/{variant}/ratio"]
            yield f"| {' | '.join(cells)} | {ratio:.2f}x | {compared} |"
        yield ""


def variants(run: Values) -> list[str]:
    """Return the variants of the training step."""
    keys = (key for key in run if key.startswith("train_step/") and key.endswith("/ratio"))
    return [key.removeprefix("train_step/").removesuffix("/ratio") for key in keys]


@styled
def draw_steps(run: Values) -> bytes:
    """Draw the times of the training step, as SVG."""
    names = [each for each in variants(run) if not each.endswith("system_memory")]
    medians = [run[f"train_step/{each}/milliseconds"] / 1e3 for each in names]
    figure = Figure(figsize=(7.2, 0.34 * len(names) + 0.8), layout="constrained")
    axes = figure.subplots()
    colors = ["C3" if "timm" in each else "C7" if "convolution" in each else "C0" for each in names]
    bars = axes.barh(names, medians, color=colors, height=0.7)
    axes.bar_label(bars, [f"{each:.2f} s" for each in medians], padding=3)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"seconds per training step, batch {run['batch_size']}, {run['hardware/cpu']}")
    axes.set_xlim(0, 1.12 * max(medians))
    return svg_on_white(figure)


def operators(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about the circular convolution: both axes, with and without gradients."""
    (run,) = runs
    yield from about(run)
    algorithms = ("products", "fourier", "auto")
    for which, title in (("forward_backward", "Forward and backward"), ("forward", "Forward only")):
        yield from (
            "",
            f"{title}:",
            "",
            "| shape | layout | dtype | convolution | products | fourier | auto |",
        )
        yield "|---|---|---|---:|---:|---:|---:|"
        end = f"/both/{which}/auto/ratio"
        for key in (key.removesuffix(end) for key in run if key.endswith(end)):
            _, shape, layout, dtype = key.split("/")
            ratios = [f"{run[f'{key}/both/{which}/{each}/ratio']:.2f}x" for each in algorithms]
            time_of = run[f"{key}/both/{which}/convolution/milliseconds"]
            cells = [shape.replace("x", " x "), layout, dtype, f"{in_digits(time_of)} ms", *ratios]
            yield f"| {' | '.join(cells)} |"


def overheads(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about what the framework costs."""
    (run,) = runs
    yield from about(run)
    yield from ("", "| framework | step | bare loop | more |", "|---|---|---|---:|")
    for name, title in (("framework", "without EMA"), ("framework_ema", "with EMA")):
        key = f"overhead/{name}"
        more = 1 / run[f"{key}/{name}/ratio"] - 1
        cells = (title, spread(run, f"{key}/{name}"), spread(run, f"{key}/bare"), f"{more:+.1%}")
        yield f"| {' | '.join(cells)} |"


def loaders(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about the loader."""
    (run,) = runs
    height, width = run["image_size"]
    yield from about(run)
    yield from wrap(
        f"Batches of {run['batch_size']} images of {height}x{width} pixels, {run['num_workers']} "
        f"workers, {run['images_per_turn']:,} images per round.",
        WIDTH,
    )
    yield from ("", "| loader | images per second | times ordinary |", "|---|---|---:|")
    titles = {
        "parcnet_train": "`parcnet_train`",
        "ordinary": "ordinary: Pillow, then torchvision's transforms",
        "ordinary_tensors": "ordinary, tensors first",
    }
    for name, title in titles.items():
        key = f"loader/{name}"
        median, least, most = (
            f"{run[f'{key}/images_per_second{suffix}']:,.0f}" for suffix in ("", "_min", "_max")
        )
        yield f"| {title} | {median} ({least}-{most}) | {run[f'{key}/ratio']:.2f}x |"


def evaluators(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about COCO's metrics."""
    (run,) = runs
    yield from about(run)
    yield from wrap(
        f"{run['images']:,} images with {run['detections']} detections each, {run['classes']} "
        f"classes; threads of hotcoco: {run['evaluation/threads']}.",
        WIDTH,
    )
    yield from ("", "| library | time | times as fast |", "|---|---|---:|")
    for key in (key for key in run if key.startswith("evaluation/") and key.endswith("/version")):
        name = key.split("/")[1]
        times = spread(run, f"evaluation/{name}", 1e3, "s")
        yield f"| {name} {run[key]} | {times} | {run[f'evaluation/{name}/ratio']:.1f}x |"


def latencies(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about exported networks."""
    (run,) = runs
    height, width = run["image_size"]
    yield from wrap(
        f"{run['hardware/cpu']}, threads: {run['hardware/threads']}; one image of {height}x{width} "
        f"pixels, float32, {run['iterations']} rounds.",
        WIDTH,
    )
    ends = "/milliseconds"
    keys = [key for key in run if key.startswith("latency/") and key.endswith(ends)]
    runtimes = list(dict.fromkeys(key.split("/")[3] for key in keys))
    yield from ("", f"| network | {' | '.join(runtimes)} |", f"|---{'|---:' * len(runtimes)}|")
    for backbone in dict.fromkeys(key.split("/")[1] for key in keys):
        times = [run[f"latency/{backbone}/baked/{runtime}{ends}"] for runtime in runtimes]
        yield f"| {backbone} | {' | '.join(f'{in_digits(each)} ms' for each in times)} |"


def starts(runs: Sequence[Values]) -> Iterator[str]:
    """Yield the lines about the start of commands."""
    (run,) = runs
    yield from wrap(
        f"{run['hardware/cpu']}, Python {run['python_version']}; medians of {run['rounds']} rounds."
        " Processor time is the sum over all cores.",
        WIDTH,
    )
    yield from ("", f"| command | time | processor time | processor time at {run['before']} |")
    yield "|---|---:|---:|---:|"
    for command in STARTS:
        key = f"startup/{command}"
        keys = (f"{key}/now/seconds", f"{key}/now/cpu_seconds", f"{key}/before/cpu_seconds")
        cells = [f"{run[each]:.1f} s" for each in keys]
        yield f"| `{command}` | {' | '.join(cells)} |"


STEP = ("benchmark.target=train_step", "benchmark.repeats=5")
PARTS = {
    "startup": Part(starts, ()),
    "train_step": Part(steps, [(*STEP, *CPU)]),
    "operator": Part(operators, [("benchmark.repeats=7", *CPU)]),
    "overhead": Part(
        overheads,
        [
            (
                "benchmark.target=overhead",
                "benchmark.repeats=80",  # single steps vary by a third
                "recipe.image_size=64",
                "recipe.batch_size=16",
                *CPU,
            )
        ],
    ),
    "loader": Part(
        loaders,
        [
            (
                "benchmark.target=loader",
                "benchmark.repeats=7",
                "data=imagefolder",
                "data.num_workers=2",
                *CPU,
            )
        ],
    ),
    "evaluation": Part(evaluators, [("benchmark.target=evaluation", "benchmark.repeats=3")]),
    "latency": Part(
        latencies,
        [("benchmark.target=latency", "benchmark.backbones=[mobilevit_s,parcnet_s]")],
    ),
}
GPU = ("trainer.accelerator=gpu", "benchmark.repeats=15")
GPU_PARTS = {
    "gpu_step": Part(
        steps,
        [
            (
                "benchmark.target=train_step",
                "benchmark.batch_size=128",
                "benchmark.compile=true",
                *GPU,
            )
        ],
    ),
    "gpu_sizes": Part(
        steps,
        [
            (
                "benchmark.target=train_step",
                f"benchmark.batch_size={batch}",
                f"benchmark.image_size={size}",
                *GPU,
            )
            for size, batch in MULTI_SCALE
        ],
    ),
    "gpu_operator": Part(operators, [GPU]),
}


if __name__ == "__main__":
    main()
