"""Tables of `action=benchmark`, except those of latencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.table import Table

from parcnet_train.benchmarks.detection import WHOLES, Parts
from parcnet_train.benchmarks.distillation import FORWARD, WITHOUT, Cost
from parcnet_train.benchmarks.evaluation import REFERENCE as SLOWEST
from parcnet_train.benchmarks.evaluation import Comparison
from parcnet_train.benchmarks.loader import REFERENCE as ORDINARY
from parcnet_train.benchmarks.loader import Speeds
from parcnet_train.benchmarks.operator import CHOICES, REFERENCE, Shape, Timings
from parcnet_train.benchmarks.timing import Timing, in_digits
from parcnet_train.benchmarks.training_step import Variant
from parcnet_train.detection.evaluators import version_of
from parcnet_train.terminal import wide_console

WIDTH = 170  # characters; the widest table needs them
PASSES = {"forward": "forward", "forward_backward": "+ backward"}
LEGEND = "ms: median (min-max), speedup over"


def print_operators(shape: Shape, timings: Timings) -> None:
    """Print all times of one input shape.

    Args:
        shape: Shape of the input.
        timings: Times by setting and algorithm.
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
    """Print one line per variant.

    Args:
        title: Title of the table.
        timings: Times by variant; the first variant is the reference.
    """
    first, *others = timings
    # The reference network with the memory settings of all other variants.
    twin = next((each for each in others if replace(first, keeps_memory=True) == each), None)
    table = Table(title=f"{title}; {LEGEND} {first}", title_justify="left")
    for heading in ("network", "layout", "dtype", "memory", "time"):
        table.add_column(heading, no_wrap=True)
    if twin is not None:
        table.add_column(f"speedup over {twin}")
    for variant, timing in timings.items():
        cells = [variant.network, variant.layout, variant.dtype]
        cells += ["kept" if variant.keeps_memory else "system", timing.words(timings[first])]
        if twin is not None:
            cells.append(f"{timings[twin].median / timing.median:.2f}x")
        table.add_row(*cells)
    wide_console(WIDTH).print(table)


def print_loaders(title: str, speeds: Speeds) -> None:
    """Print one line per loader.

    Args:
        title: Title of the table.
        speeds: Speeds of all loaders.
    """
    table = Table(title=title, title_justify="left")
    for heading in ("loader", "images/s: median (min-max)", f"times {ORDINARY}"):
        table.add_column(heading, no_wrap=True)
    for variant in speeds.timings:
        median, least, most, ratio = speeds.of(variant).values()
        table.add_row(variant, f"{median:.0f} ({least:.0f}-{most:.0f})", f"{ratio:.2f}x")
    wide_console(WIDTH).print(table)


def print_overheads(title: str, pairs: Mapping[str, Mapping[str, Timing]]) -> None:
    """Print the time of a training step in the framework beside that of a bare loop.

    Args:
        title: Title of the table.
        pairs: Times of the bare loop and of the framework, in this order, by variant.
    """
    table = Table(title=f"{title}; {LEGEND} the bare loop", title_justify="left")
    for heading in ("framework", "bare loop", "extra time"):
        table.add_column(heading, no_wrap=True)
    for name, (bare, trained) in ((name, tuple(pair.values())) for name, pair in pairs.items()):
        more = f"{100 * (trained.relative_to(bare) - 1):+.1f} %"
        table.add_row(f"{name} {trained.words(bare)}", bare.words(bare), more)
    wide_console(WIDTH).print(table)


def print_detection(title: str, parts: Parts) -> None:
    """Print the times of matching, loss and post-processing beside that of the network.

    Args:
        title: Title of the table.
        parts: Times of the parts.
    """
    caption = f"{parts.boxes:.0f} boxes per image are above the threshold; ms: median (min-max)"
    table = Table(title=f"{title}; {caption}", title_justify="left")
    for heading in ("part", "time", "share", "of"):
        table.add_column(heading, no_wrap=True)
    for name, timing in parts.timings.items():
        times = map(in_digits, (timing.median, min(timing.milliseconds), max(timing.milliseconds)))
        cells = [name, "{} ({}-{})".format(*times)]
        if name in WHOLES:
            cells += [f"{100 * parts.share(name):.1f} %", WHOLES[name]]
        table.add_row(*cells)
    wide_console(WIDTH).print(table)


def print_evaluators(title: str, found: Comparison) -> None:
    """Print one line per evaluator.

    Args:
        title: Title of the table.
        found: Times, differences and memory of all evaluators.
    """
    table = Table(title=f"{title}; {LEGEND} {SLOWEST}", title_justify="left")
    for heading in ("evaluator", "time", "largest difference of a metric", "peak memory"):
        table.add_column(heading, no_wrap=True)
    for evaluator, timing in found.timings.items():
        memory = found.memory[evaluator]
        table.add_row(
            version_of(evaluator),
            timing.words(found.timings[SLOWEST]),
            f"{found.differences[evaluator]:.2g}",
            "" if memory is None else f"{memory / 1e6:.0f} MB",
        )
    wide_console(WIDTH).print(table)


def print_distillation(title: str, cost: Cost) -> None:
    """Print the times of a training step with and without a teacher, and of the teacher.

    Args:
        title: Title of the table.
        cost: Times of the steps and of the teacher.
    """
    caption = f"the teacher adds {cost.overhead:.2f} of its forward passes"
    table = Table(title=f"{title}; {caption}; {LEGEND} {WITHOUT}", title_justify="left")
    for heading in ("part", "time"):
        table.add_column(heading, no_wrap=True)
    for name, timing in cost.timings.items():
        words = f"teacher's {name} pass" if name == FORWARD else f"step {name}".replace("_", " a ")
        table.add_row(words, timing.words(cost.timings[WITHOUT]))
    wide_console(WIDTH).print(table)
