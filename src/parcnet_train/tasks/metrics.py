"""Metrics that do not depend on how the samples are split over batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from parcnet_train.precision import at_least_float32

UNITS = 2**32  # values are rounded to a multiple of 1 / UNITS
LARGEST = 2**31  # a value of this size and above counts as not finite


class ExactMean(Metric):
    """Mean of values that is identical in every bit for every order and sharding of them.

    Sums of floating-point numbers depend on the order; these are sums of integers. Each value is
    rounded to a multiple of 2^-32; its integer part is added to one sum, the rest to another. Both
    can hold the sum of 2^31 values, each below 2^31 in size.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    leaves_out = False  # whether values that are not finite are left out of the mean
    whole: Tensor  # () int64
    units: Tensor  # () int64, in units of 2^-32
    count: Tensor  # () int64
    not_finite: Tensor  # () int64

    def __init__(self) -> None:
        super().__init__()
        for name in ("whole", "units", "count", "not_finite"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, counts: Tensor | None = None) -> None:
        """Add values.

        Args:
            values: Values of any shape and floating-point type.
            counts: Weights of the same shape, integer or bool; 0 leaves a value out, the size of a
                batch weights its mean; None: every value counts once.
        """
        values = at_least_float32(values.detach())
        counts = torch.ones_like(values, dtype=torch.int64) if counts is None else counts.long()
        is_good = values.isfinite() & (values.abs() < LARGEST)
        values = values.where(is_good, 0)
        whole = values.trunc()
        # Both steps are exact in every floating-point type, so they do not need 64 bits, which
        # Apple's GPUs do not have.
        units = ((values - whole) * UNITS).round()
        self.whole += (whole.long() * counts).sum()
        self.units += (units.long() * counts).sum()
        self.count += counts.sum()
        self.not_finite += (counts * ~is_good).sum()

    def compute(self) -> Tensor:
        """Compute the mean, rounded once.

        Returns:
            The mean, a scalar; infinite if a value was not finite, unless those are left out; NaN
            if there was no value.
        """
        count, not_finite = int(self.count), int(self.not_finite)
        if self.leaves_out:
            count, not_finite = count - not_finite, 0
        if not count or not_finite:
            value = torch.inf if not_finite else torch.nan
            return torch.tensor(value, device=self.count.device)
        # Python's integers are unlimited, and their division rounds correctly.
        mean = (int(self.whole) * UNITS + int(self.units)) / (count * UNITS)
        return torch.tensor(mean, dtype=torch.float32, device=self.count.device)


class Accuracy(MulticlassAccuracy):
    """Share of the labeled images with the correct class; NaN if there are none."""

    def compute(self) -> Tensor:
        """Return the share, a scalar."""
        counts: list[Any] = [self.tp, self.fn]
        return super().compute().where(sum(counts).sum() > 0, torch.nan)


def loss_and_skipped(loss: str, skipped: str) -> MetricCollection:
    """Create two metrics of the given names: mean loss of samples, number of unreadable images."""
    # Checking for NaN would wait for the device.
    return MetricCollection(
        {loss: ExactMean(), skipped: SumMetric("disable")}, compute_groups=False
    )
