"""Whether one group of runs is better than another: differences by seed, and their interval."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose

from scipy.stats import ttest_rel

CONFIDENCE = 0.95
NOISE = "not told apart from noise"


@dataclass(frozen=True)
class Difference:
    """The mean difference between two groups of runs of the same seeds.

    Attributes:
        mean: of the differences by seed.
        low: end of its interval, None with one seed, like the next.
        high: the other end.
        seeds: that both groups have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """In words; equal differences tell nothing of their noise."""
        if self.low is None or self.high is None:
            return "one seed only"
        if isclose(self.low, self.high, abs_tol=1e-9) or self.low <= 0 <= self.high:
            return NOISE
        return "higher" if self.low > 0 else "lower"


def paired_difference(
    ours: Mapping[int, float], baseline: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Compares by seed, with the interval of Student's paired t test.

    Args:
        ours: value by seed.
        baseline: value by seed, to be subtracted.
        confidence: that the interval covers the true mean difference.

    Returns:
        The difference, None where there is no seed that both have.
    """
    seeds = tuple(sorted(ours.keys() & baseline.keys()))
    if not seeds:
        return None
    left, right = [ours[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    mean = statistics.fmean(one - other for one, other in zip(left, right, strict=True))
    if len(seeds) == 1:
        return Difference(mean, None, None, seeds)
    with (
        warnings.catch_warnings()
    ):  # equal differences have an interval of no length, see `verdict`
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        interval = ttest_rel(left, right).confidence_interval(confidence)
    return Difference(mean, float(interval.low), float(interval.high), seeds)
