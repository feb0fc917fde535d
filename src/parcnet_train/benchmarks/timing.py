"""Interleaved timing of variants of one computation, and the hardware that it ran on."""

from __future__ import annotations

import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from parcnet_train.runs.environment import cpu_model

Name = TypeVar("Name")

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Timing:
    """Times of one variant, in milliseconds, one per round."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median time in milliseconds."""
        return statistics.median(self.milliseconds)

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            tuple(a + b for a, b in zip(self.milliseconds, other.milliseconds, strict=True))
        )

    def results(self, reference: Timing) -> dict[str, float]:
        """Return entries of `results.json`; `ratio` is the speedup over the reference."""
        return {
            "milliseconds": self.median,
            "milliseconds_min": min(self.milliseconds),
            "milliseconds_max": max(self.milliseconds),
            "ratio": reference.median / self.median,
        }

    def relative_to(self, other: Timing) -> float:
        """Return this time divided by another: the median of the ratios within each round.

        Other work on the machine changes over minutes, so it affects both times of a round alike.
        """
        pairs = zip(self.milliseconds, other.milliseconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def words(self, reference: Timing) -> str:
        """Return median, range and ratio as text."""
        least, median, most = map(
            in_digits, (min(self.milliseconds), self.median, max(self.milliseconds))
        )
        return f"{median} ({least}-{most}) {reference.median / self.median:.2f}x"


def in_digits(milliseconds: float) -> str:
    """Format milliseconds with three significant digits, but no finer than microseconds."""
    decimals = 2 - math.floor(math.log10(milliseconds))
    return f"{milliseconds:.{min(3, max(0, decimals))}f}"


def take_turns(
    variants: Mapping[Name, Callable[[], object]],
    repeats: int,
    device: torch.device,
    calls: int = 1,
    least: float = 0.0,
) -> dict[Name, Timing]:
    """Time variants, interleaved: one round to warm up, then `repeats` timed rounds.

    Other work on the machine then affects all of them alike. Every round has another random order,
    since each variant finds the caches as the previous one left them.

    Args:
        variants: Variants by name.
        repeats: Number of timed rounds.
        device: Device that the variants run on; it is synchronized before and after each timing.
        calls: Number of calls of a variant per round; their mean is its time.
        least: Smallest duration of these calls in milliseconds; a variant that is faster is called
            more often, since the clock and the system disturb short durations most.
    """
    counts = dict.fromkeys(variants, calls)
    times: dict[Name, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in random.sample(list(variants.items()), len(variants)):
            mean = time_calls(run, counts[name], device)
            if repeat:
                times[name].append(mean)
            elif least:
                counts[name] = max(calls, math.ceil(least / time_calls(run, calls, device)))
    return {name: Timing(tuple(each)) for name, each in times.items()}


def time_calls(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the mean duration of several calls in milliseconds."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    wait_for(device)
    return 1e3 * (time.perf_counter() - start) / calls


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def device_of(accelerator: str) -> torch.device:
    """Return the device that `trainer.accelerator` means on this machine."""
    if accelerator in ("gpu", "cuda"):
        return torch.device("cuda")
    if accelerator == "auto" and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        assert device is not None
        return device
    return torch.device("cpu" if accelerator == "auto" else accelerator)


def hardware(device: torch.device) -> dict[str, Any]:
    """Return the hardware and versions that a time depends on, for `results.json`."""
    return {
        "hardware/device": device.type,
        "hardware/cpu": cpu_model(),
        "hardware/cores": os.cpu_count(),
        "hardware/threads": torch.get_num_threads(),
        "hardware/gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python_version": platform.python_version(),
        "cuda_version": torch.version.cuda,
    }
