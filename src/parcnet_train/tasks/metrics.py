"""Metrics that come out the same, however the samples are split over batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from parcnet_train.precision import at_least_float32

UNITS = 2**32  # parts of 1 that a value is rounded to
LARGEST = 2**31  # a value of this size and above counts as not finite


class ExactMean(Metric):
    """Mean of values, the same to the last digit for every order and every sharding of them.

    Sums of floating-point numbers depend on their order; these are sums of integers: each value,
    rounded to a multiple of 2^-32, adds its whole part to one and the rest to another. Both hold
    the sum of 2^31 values, each below 2^31 in size.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    whole: Tensor  # () int64
    units: Tensor  # () int64, of 2^-32
    count: Tensor  # () int64
    not_finite: Tensor  # () int64

    def __init__(self) -> None:
        super().__init__()
        for name in ("whole", "units", "count", "not_finite"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, counts: Tensor | None = None) -> None:
        """Adds values.

        Args:
            values: of any shape and floating-point type.
            counts: of the same shape, whole or bool: how many times each value counts, 0 leaves it
                out, the size of a batch weighs its mean; None counts each once.
        """
        values = at_least_float32(values.detach())
        counts = torch.ones_like(values, dtype=torch.int64) if counts is None else counts.long()
        is_good = values.isfinite() & (values.abs() < LARGEST)
        values = values.where(is_good, 0)
        whole = values.trunc()
        # Both steps are exact in every type of floating-point number, and so need none of 64 bits,
        # which Apple's GPUs have not.
        units = ((values - whole) * UNITS).round()
        self.whole += (whole.long() * counts).sum()
        self.units += (units.long() * counts).sum()
        self.count += counts.sum()
        self.not_finite += (counts * ~is_good).sum()

    def compute(self) -> Tensor:
        """The mean, rounded once.

        Returns:
            The mean, a scalar; infinite if a value was not finite, and not a number if there was
            no value.
        """
        count = int(self.count)
        if not count or self.not_finite:
            value = torch.inf if self.not_finite else torch.nan
            return torch.tensor(value, device=self.count.device)
        # Python's integers have no limit, and its division rounds correctly.
        mean = (int(self.whole) * UNITS + int(self.units)) / (count * UNITS)
        return torch.tensor(mean, dtype=torch.float32, device=self.count.device)


class Accuracy(MulticlassAccuracy):
    """Share of the labelled images whose class was found; not a number if there is none."""

    def compute(self) -> Tensor:
        """The share, a scalar."""
        counts: list[Any] = [self.tp, self.fn]
        return super().compute().where(sum(counts).sum() > 0, torch.nan)


def loss_and_skipped(loss: str, skipped: str) -> MetricCollection:
    """The mean loss of samples, and how many images were unreadable, under those names."""
    # Looking for what is not a number would wait for the device.
    return MetricCollection(
        {loss: ExactMean(), skipped: SumMetric("disable")}, compute_groups=False
    )
