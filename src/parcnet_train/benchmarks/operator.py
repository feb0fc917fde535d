"""Timings of the algorithms of the circular convolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from parcnet_train.benchmarks.timing import LAYOUTS, Timing, take_turns
from parcnet_train.models.layers.circular import ALGORITHMS, HEIGHT, WIDTH, Algorithm, circular_conv
from parcnet_train.models.layers.parc import along

Shape = tuple[int, int, int, int]

# Half of the channels of the last three stages of ParC-Net-S at 256 pixels; then a map that is not
# square, short axes, single images, a large batch, a single pixel.
SHAPES: tuple[Shape, ...] = (
    (32, 96, 32, 32), (32, 128, 16, 16), (32, 160, 8, 8), (32, 160, 20, 12), (32, 160, 4, 4),
    (1, 96, 32, 32), (1, 160, 8, 8), (128, 160, 8, 8), (128, 160, 1, 1),
)  # fmt: skip
AXES = {"height": HEIGHT, "width": WIDTH}
PASSES = ("forward", "forward_backward")
DTYPES = ("float32", "bfloat16")
CHOICES: tuple[Algorithm, ...] = (*ALGORITHMS, "auto")  # type: ignore[arg-type]
REFERENCE = "convolution"
LEAST = 10.0  # milliseconds of each variant per round
CALLS = 10  # calls per round on a GPU, where launching a kernel takes as long as running it

# A setting consists of layout, dtype, axis or `both`, and pass; it has timings by algorithm.
Setting = tuple[str, str, str, str]
Timings = dict[Setting, dict[str, Timing]]


def time_operators(shape: Shape, repeats: int, device: torch.device) -> Timings:
    """Time all algorithms at one shape, in all settings.

    All variants of one layout and dtype are interleaved. `both` is the sum over the two axes within
    each round, since the network always convolves along both.

    Args:
        shape: Shape of the input.
        repeats: Number of timed rounds.
        device: Device to run on.
    """
    timings: Timings = {}
    for layout, dtype in itertools.product(LAYOUTS, DTYPES):
        variants = {
            (axis, which, algorithm): variant(shape, layout, dtype, axis, which, algorithm, device)
            for axis, which, algorithm in itertools.product(AXES, PASSES, CHOICES)
        }
        calls = 1 if device.type == "cpu" else CALLS
        measured = take_turns(variants, repeats, device, calls, LEAST)
        for which in PASSES:
            height, width = (
                {str(name): measured[axis, which, name] for name in CHOICES} for axis in AXES
            )
            both = {name: height[name] + width[name] for name in height}
            for axis, times in (("height", height), ("width", width), ("both", both)):
                timings[layout, dtype, axis, which] = times
    return timings


def variant(
    shape: Shape,
    layout: str,
    dtype: str,
    axis: str,
    which: str,
    algorithm: Algorithm,
    device: torch.device,
) -> Callable[[], None]:
    """Return a function that runs one algorithm on its own inputs.

    The kernel is a float32 parameter. Under bfloat16 autocast the feature map is in bfloat16, as
    the previous layer would return it.
    """
    trains = which == "forward_backward"
    x, upstream = (
        torch.randn(shape, device=device, dtype=getattr(torch, dtype)).contiguous(
            memory_format=LAYOUTS[layout]
        )
        for _ in range(2)
    )
    size = along(AXES[axis], shape[AXES[axis]])
    kernel = torch.randn(shape[1], 1, *size, device=device).requires_grad_(trains)
    return partial(
        convolve, x.requires_grad_(trains), kernel, AXES[axis], algorithm, upstream, dtype
    )


def convolve(
    x: Tensor, kernel: Tensor, axis: int, algorithm: Algorithm, upstream: Tensor, dtype: str
) -> None:
    """Run a forward pass, and a backward pass if the inputs require gradients."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        y = circular_conv(x, kernel, axis, algorithm=algorithm)
    if x.requires_grad:
        torch.autograd.grad(y, (x, kernel), upstream)


def results_of(shape: Shape, timings: Timings) -> Iterator[tuple[str, float]]:
    """Yield the entries of `results.json`."""
    for setting, times in timings.items():
        for name, timing in times.items():
            prefix = "/".join(("operator", "x".join(map(str, shape)), *setting, name))
            for key, value in timing.results(times[REFERENCE]).items():
                yield f"{prefix}/{key}", value
