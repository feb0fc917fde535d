"""Tables of `benchmark.target=plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from rich.table import Table

from parcnet_train.benchmarks.plan.estimate import (
    LEAST_EFFICIENCY,
    Cost,
    Estimate,
    Work,
    efficiency,
)
from parcnet_train.benchmarks.timing import in_digits
from parcnet_train.terminal import duration, wide_console

WIDTH = 110  # characters; the tables need them
# Parts of an estimate, in words.
PARTS = {
    "device": "training steps",
    "loader": "waiting for the loader",
    "exchange": "exchange of gradients",
    "evaluation": "evaluation",
    "saving": "checkpoints",
    "epochs": "between epochs",
    "fixed": "start and end",
}


@dataclass(frozen=True)
class Memory:
    """Memory of a training on its device, in bytes.

    Attributes:
        peak: Largest memory in use; None if the system does not report it.
        total: All memory of the device; None if the system does not report it.
    """

    peak: int | None
    total: int | None


@dataclass(frozen=True)
class Reading:
    """Speed of the loader when nothing else runs.

    Attributes:
        images_per_second: Images per second of all its processes.
        workers: Number of its processes; 0: the training process reads.
        needed: Number of processes that read as fast as the device trains.
        device: Images per second of the device.
    """

    images_per_second: float
    workers: int
    needed: int
    device: float


@dataclass(frozen=True)
class Limits:
    """Where more devices stop to help.

    Attributes:
        devices: Largest useful number of devices, a power of two.
        part: Part that limits them.
        gradient_bytes: Size of all gradients in bytes.
        bandwidth: Bytes per second between devices, as assumed.
    """

    devices: int
    part: str
    gradient_bytes: int
    bandwidth: float


def print_plan(
    title: str,
    estimates: Mapping[int, Estimate],
    works: Mapping[int, Work],
    cost: Cost,
    reference_batch: int,
) -> None:
    """Print the time of each part on one device, and the whole time for several.

    Args:
        title: Title of the table.
        estimates: Estimates by number of devices.
        works: Amounts of work by number of devices.
        cost: Cost of each part.
        reference_batch: Images per optimizer step that the recipe is made for.
    """
    console = wide_console(WIDTH)
    one, work = estimates[1], works[1]
    table = Table(
        title=f"{title}: {counted(work.epochs, 'epoch')} on one device", title_justify="left"
    )
    for heading in ("part", "time", "share", "made of"):
        table.add_column(heading, no_wrap=True, justify="right" if heading != "made of" else "left")
    details = details_of(work, cost)
    for name, seconds in one.parts().items():
        if name != "exchange":
            share = f"{seconds / one.total:.1%}"
            table.add_row(PARTS[name], duration(seconds), share, details[name])
    per_epoch = (one.total - one.fixed) / work.epochs
    table.add_section()
    table.add_row("total", duration(one.total), "", f"{duration(per_epoch)} per epoch")
    console.print(table)
    print(f"Bottleneck: {PARTS[one.bottleneck]}.")
    table = Table(title="several devices (all but the first row computed)", title_justify="left")
    for heading in ("devices", "time", "efficiency", "bottleneck", "images per optimizer step"):
        table.add_column(heading, no_wrap=True, justify="right")
    for devices, found in estimates.items():
        batch = works[devices].global_batch
        note = "" if batch <= reference_batch else f" (the recipe is for {reference_batch:,})"
        table.add_row(
            str(devices),
            duration(found.total),
            f"{efficiency(one, found, devices):.0%}",
            PARTS[found.bottleneck],
            f"{batch:,}{note}",
        )
    console.print(table)


def details_of(work: Work, cost: Cost) -> dict[str, str]:
    """Return numbers and single costs of each part, in words."""
    count = sum(work.steps.values())
    measured = [each for steps in cost.steps.values() for each in steps]
    step = mean(each.seconds - each.waited for each in measured)
    sizes = sorted(scale.size for scale in work.steps)
    images = " and ".join(dict.fromkeys(f"{h}x{w}" for h, w in (sizes[0], sizes[-1])))
    unseen = [scale for scale in work.steps if scale not in cost.steps]
    note = f"; {len(unseen)} of {len(work.steps)} sizes not measured" if unseen else ""
    between = "between " if len(sizes) > 1 else ""
    return {
        "device": f"{count:,} of {ms(step)} at {between}{images} pixels{note}",
        "loader": f"{ms(mean(each.waited for each in measured))} per step",
        "evaluation": f"{work.evaluations:,} of {ms(cost.evaluate(work.evaluated))}",
        "saving": f"at most {work.checkpoints:,} of {ms(cost.checkpoint)}",
        "epochs": f"{work.epochs:,} of {ms(cost.epoch)}",
        "fixed": "imports, first steps, report",
    }


def counted(count: int, noun: str, plural: str = "s") -> str:
    """Return a number and its noun."""
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def ms(seconds: float) -> str:
    """Format a time in milliseconds or, from ten seconds on, as hours, minutes and seconds."""
    return duration(seconds) if seconds >= 10 else f"{in_digits(max(1e-6, 1e3 * seconds))} ms"


def print_limits(limits: Limits, memory: Memory, reading: Reading) -> None:
    """Print what limits a training: devices, memory, and the loader.

    Args:
        limits: Limits of more devices.
        memory: Memory of the training.
        reading: Speed of the loader.
    """
    megabytes, per_second = limits.gradient_bytes / 1e6, limits.bandwidth / 1e9
    print(
        "With n devices, each one has its share of the batches, and an optimizer step takes "
        "2 (n - 1) / n x gradients / bandwidth longer: "
        f"{megabytes:.1f} MB of gradients at {per_second:g} GB/s (benchmark.bandwidth)."
    )
    print(
        f"{2 * limits.devices} devices would be less than {LEAST_EFFICIENCY:.0%} efficient; what "
        f"limits them most: {PARTS[limits.part]}."
    )
    if memory.peak is not None and memory.total is not None:
        print(
            f"Memory: {memory.peak / 2**30:.1f} GiB at the peak, of {memory.total / 2**30:.1f} GiB "
            f"({1 - memory.peak / memory.total:.0%} free)."
        )
    count = reading.workers
    readers = counted(count, "loader process", "es") if count else "the training process"
    print(
        f"Loader: {readers} can read {reading.images_per_second:,.0f} images/s if nothing else "
        f"runs. The device trains {reading.device:,.0f} images/s, for which "
        f"data.num_workers={reading.needed} is enough."
    )
