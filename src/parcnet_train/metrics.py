"""Metrics that do not depend on how samples are spread over processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

UNIT = 2.0**-32


class ExactMean(Metric):
    """Mean in whole units of 2^-32."""

    total: Tensor
    count: Tensor
    broken: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count", "broken"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Adds values of any shape."""
        finite = values.isfinite()
        self.total += (values.double().where(finite, 0.0) / UNIT).round().long().sum()
        self.count += values.numel()
        self.broken += (~finite).sum()

    def compute(self) -> Tensor:
        """The mean, float64; nan where a value was not finite."""
        mean = self.total.double() * UNIT / self.count
        return mean.where(self.broken == 0, torch.nan)
