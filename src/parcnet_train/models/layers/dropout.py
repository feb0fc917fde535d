"""Dropout that draws four decisions from each random number on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 1 << 16  # values of the 16 random bits that decide on one element


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with less work on CPUs.

    torch draws a random number for each element. Here, each number of 64 bits decides on four
    elements (docs/benchmarks.md). The probability is rounded to a multiple of 2^-16, and the scale
    is that of the rounded one, so that the expected value is the input. On other devices, in
    torch.compile and in evaluation, this is torch's own function.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape: zeros with the probability `p`, others scaled up."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.drop(input)
        return functional.dropout(input, self.p, self.training)

    def drop(self, x: Tensor) -> Tensor:
        """Do what `forward` does outside of TorchScript, which cannot compile the rest."""
        # torch.fx traces the network without tensors.
        active = self.training and 0 < self.p < 1 and isinstance(x, Tensor)
        if active and x.device.type == "cpu" and not torch.compiler.is_compiling():
            return x * self.factors(x)
        return functional.dropout(x, self.p, self.training)

    def factors(self, x: Tensor) -> Tensor:
        """Draw the factor of each element: 0, or the scale; memory layout and dtype as in `x`."""
        dropped = min(round(self.p * STEPS), STEPS - 1)
        count = x.numel()
        # All 64 bits are random between these bounds.
        numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[:count]
        kept = (bits >= dropped - STEPS // 2).to(x.dtype).mul_(STEPS / (STEPS - dropped))
        return kept.as_strided(x.shape, torch.empty_like(x, device="meta").stride())
