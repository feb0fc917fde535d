"""Times the forms of the circular convolution, alone and in the training step of ParC-Net-S.

Variants take turns in one process, so that other work on the machine meets all of them alike;
printed are medians and how many times faster each one is than the first.
"""

from __future__ import annotations

import parcnet_train.compat  # noqa: F401

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from unittest import mock

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.backbones import parcnet
from parcnet_train.circular import circular_by_convolution, circular_by_products, circular_conv
from parcnet_train.heads.classifier import Classifier
from parcnet_train.model import Model

SHAPES = (
    (32, 96, 32, 32), (32, 128, 16, 16), (32, 160, 8, 8), (32, 160, 20, 12), (32, 160, 4, 4),
    (1, 96, 32, 32), (1, 160, 8, 8), (128, 160, 8, 8), (128, 160, 1, 1),
)  # fmt: skip
FORMS = {
    "convolution": circular_by_convolution,
    "products": circular_by_products,
    "dispatched": circular_conv,
}
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def compare(variants: Mapping[str, Callable[[], object]], repeats: int) -> str:
    """Runs the variants in turn, once to warm up and `repeats` times by the clock.

    Their order changes with every turn, since each one finds the caches as another left them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in random.sample(list(variants.items()), len(variants)):
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    return "   ".join(f"{k} {1e3 * v:.2f} ms ({first / v:.2f}x)" for k, v in medians.items())


def operator(
    form: Callable[[Tensor, Tensor, int], Tensor],
    x: Tensor,
    kernel: Tensor,
    axis: int,
    upstream: Tensor,
) -> None:
    """One forward pass, with the backward pass where the inputs ask for it."""
    y = form(x, kernel, axis)
    if x.requires_grad:
        torch.autograd.grad(y, (x, kernel), upstream)


def compare_operators(repeats: int) -> None:
    """Prints one line per shape, memory format, axis, and inference or training."""
    for shape in SHAPES:
        for layout, memory_format in LAYOUTS.items():
            for axis in (2, 3):
                for trains in (False, True):
                    size = [shape[1], 1, 1, 1]
                    size[axis] = shape[axis]
                    x, upstream = (
                        torch.randn(shape).contiguous(memory_format=memory_format) for _ in range(2)
                    )
                    kernel = torch.randn(size).requires_grad_(trains)
                    x.requires_grad_(trains)
                    variants = {
                        name: partial(operator, form, x, kernel, axis, upstream)
                        for name, form in FORMS.items()
                    }
                    what = "forward+backward" if trains else "forward"
                    print(shape, layout, f"axis {axis}", what, compare(variants, repeats))


def training_step(
    network: nn.Module, layout: str, batch: int, size: int, bfloat16: bool = False, form: str = ""
) -> Callable[[], None]:
    """Returns a function that runs forward, backward and AdamW once.

    Args:
        network: a classifier of 1000 classes.
        layout: key of `LAYOUTS`.
        batch: images per step.
        size: their height and width in pixels.
        bfloat16: whether the forward pass runs under autocast.
        form: key of `FORMS` for a ParC-Net.
    """
    network = network.train().to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=LAYOUTS[layout])
    labels = torch.randint(1000, (batch,))
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with (
            mock.patch.object(parcnet, "circular_conv", FORMS.get(form)),
            torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
        ):
            loss = functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def parcnet_s() -> nn.Module:
    """ParC-Net-S with its ImageNet classifier."""
    backbone = parcnet.ParCNet((16, 32, 64), (96, 128, 160), (192, 256, 320), (2, 4, 3))
    return Model(backbone, Classifier(backbone.levels, 1000))


def compare_training(repeats: int, batch: int, size: int) -> None:
    """Prints the training steps of ParC-Net-S and of timm's MobileViT-S."""
    step = partial(training_step, batch=batch, size=size)
    variants = {"ParC convolution NCHW": step(parcnet_s(), "NCHW", form="convolution")}
    for layout in LAYOUTS:
        variants[f"ParC {layout}"] = step(parcnet_s(), layout, form="dispatched")
        variants[f"MobileViT {layout}"] = step(timm.create_model("mobilevit_s"), layout)
        bfloat16 = step(parcnet_s(), layout, bfloat16=True, form="dispatched")
        variants[f"ParC {layout} bfloat16"] = bfloat16
    print(compare(variants, repeats).replace("   ", "\n"))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("operator", "training"))
    parser.add_argument("--repeats", type=int, help="default 30 for operators, 5 for training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="of the training step")
    parser.add_argument("--size", type=int, default=256, help="of its images, in pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "operator":
        compare_operators(arguments.repeats or 30)
    else:
        compare_training(arguments.repeats or 5, arguments.batch, arguments.size)


if __name__ == "__main__":
    main()
