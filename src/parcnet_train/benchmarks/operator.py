"""Times the algorithms of the circular convolution against each other."""

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

# The last three stages of ParC-Net-S at 256 pixels, half of their channels; then not square, short
# axes, single images, a large batch, a single pixel.
SHAPES: tuple[Shape, ...] = (
    (32, 96, 32, 32), (32, 128, 16, 16), (32, 160, 8, 8), (32, 160, 20, 12), (32, 160, 4, 4),
    (1, 96, 32, 32), (1, 160, 8, 8), (128, 160, 8, 8), (128, 160, 1, 1),
)  # fmt: skip
AXES = {"height": HEIGHT, "width": WIDTH}
PASSES = ("forward", "forward_backward")
DTYPES = ("float32", "bfloat16")
CHOICES: tuple[Algorithm, ...] = (*ALGORITHMS, "auto")  # type: ignore[arg-type]
REFERENCE = "convolution"
CALLS = 10  # of each variant per turn on a GPU, where starting a kernel takes as long as running it

# Layout, dtype, axis or `both`, pass: timings by algorithm.
Setting = tuple[str, str, str, str]
Timings = dict[Setting, dict[str, Timing]]


def time_operators(shape: Shape, repeats: int, device: torch.device) -> Timings:
    """Times all algorithms at one shape, in all settings.

    Of one layout and dtype, everything takes turns. `both` is the sum of the two axes, turn by
    turn, since the network always convolves along both.

    Args:
        shape: of the input.
        repeats: turns.
        device: where to.
    """
    timings: Timings = {}
    for layout, dtype in itertools.product(LAYOUTS, DTYPES):
        variants = {
            (axis, which, algorithm): variant(shape, layout, dtype, axis, which, algorithm, device)
            for axis, which, algorithm in itertools.product(AXES, PASSES, CHOICES)
        }
        measured = take_turns(variants, repeats, device, 1 if device.type == "cpu" else CALLS)
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
    """One algorithm with inputs of its own.

    The kernel is a float32 parameter; under bfloat16 autocast the map comes in bfloat16, as from
    the layer before.
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
    """A forward pass, with the backward pass where the inputs ask for it."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        y = circular_conv(x, kernel, axis, algorithm=algorithm)
    if x.requires_grad:
        torch.autograd.grad(y, (x, kernel), upstream)


def results_of(shape: Shape, timings: Timings) -> Iterator[tuple[str, float]]:
    """Keys and values for `results.json`."""
    for setting, times in timings.items():
        for name, timing in times.items():
            prefix = "/".join(("operator", "x".join(map(str, shape)), *setting, name))
            for key, value in timing.results(times[REFERENCE]).items():
                yield f"{prefix}/{key}", value
