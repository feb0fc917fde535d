"""Operators of an inference, and the memory of their tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

# Operators of convolutions and linear layers; attention's products are `bmm`.
LAYERS = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of operations and memory between `start` and `end`, which may be nested.

    Enter the context of its `counter` first.

    Args:
        weights: Tensors whose memory does not count.
        images: Input, whose memory counts.
    """

    def __init__(self, weights: Iterable[Tensor], images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = FlopCounterMode(display=False)
        self.activations = 0
        # Bytes by storage, which views share; an entry disappears with its storage.
        self.bytes: Any = WeakIdKeyDictionary()
        for weight in weights:
            self.bytes[weight.untyped_storage()] = 0
        self.bytes[images.untyped_storage()] = images.untyped_storage().nbytes()
        self.peak = 0
        self.started: list[tuple[int, int, int]] = []

    def start(self) -> None:
        """Begin to count."""
        self.started.append((self.counter.get_total_flops(), self.activations, self.peak))
        self.peak = self.held()

    def end(self) -> tuple[int, int, int]:
        """Return the counts since the last `start`.

        Returns:
            Multiply-adds; elements of the outputs of convolutions and linear layers; and the
            largest number of bytes that tensors held at one moment.
        """
        flops, activations, peak_before = self.started.pop()
        peak = self.peak
        self.peak = max(peak_before, peak)
        # torch counts a multiply-add as two operations.
        multiply_adds = (self.counter.get_total_flops() - flops) // 2
        return multiply_adds, self.activations - activations, peak

    def held(self) -> int:
        """Return the number of bytes held at this moment."""
        return sum(self.bytes.values())

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and record its outputs."""
        output = function(*args, **(kwargs or {}))
        for tensor in tensors_of(output):
            storage = tensor.untyped_storage()
            self.bytes.setdefault(storage, storage.nbytes())
        self.peak = max(self.peak, self.held())
        if function.overloadpacket in LAYERS:
            self.activations += output.numel()
        return output


def tensors_of(output: object) -> Iterator[Tensor]:
    """Yield the tensors in lists, mappings and dataclasses."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from tensors_of(each)
    elif isinstance(output, Mapping):
        yield from tensors_of(list(output.values()))
    elif dataclasses.is_dataclass(output):
        yield from tensors_of(list(vars(output).values()))
