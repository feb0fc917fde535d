"""Comparison of two groups of runs: paired differences by seed, and a confidence interval."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t, ttest_rel

CONFIDENCE = 0.95
NOISE = "not distinguishable from noise"


@dataclass(frozen=True)
class Difference:
    """Mean difference between two groups of runs with the same seeds.

    Attributes:
        mean: Mean of the differences by seed.
        low: Lower end of the confidence interval, None with only one seed.
        high: Upper end of the confidence interval, None with only one seed.
        seeds: Seeds that both groups have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """Verdict in words; differences that are all equal give no estimate of their noise."""
        if self.low is None or self.high is None:
            return "one seed only"
        if math.isclose(self.low, self.high, abs_tol=1e-9) or self.low <= 0 <= self.high:
            return NOISE
        return "higher" if self.low > 0 else "lower"


def half_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Return half the interval of a mean by Student's t; None with less than two values.

    Args:
        values: Independent values, such as the metric of every seed.
        confidence: Probability that the interval covers the true mean.
    """
    if len(values) < 2:
        return None
    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def paired_difference(
    ours: Mapping[int, float], baseline: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Compare two groups seed by seed, with the interval of Student's paired t test.

    Args:
        ours: Values by seed.
        baseline: Values by seed, which are subtracted.
        confidence: Probability that the interval covers the true mean difference.

    Returns:
        The difference, None if the groups share no seed.
    """
    seeds = tuple(sorted(ours.keys() & baseline.keys()))
    if not seeds:
        return None
    left, right = [ours[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    mean = statistics.fmean(one - other for one, other in zip(left, right, strict=True))
    if len(seeds) == 1:
        return Difference(mean, None, None, seeds)
    # Equal differences give an interval of length zero, see `verdict`.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        interval = ttest_rel(left, right).confidence_interval(confidence)
    return Difference(mean, float(interval.low), float(interval.high), seeds)
