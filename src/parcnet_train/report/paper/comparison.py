"""Tables and figures of the paper beside counted parameters and multiply-adds of our networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parcnet_train.build import build_model, meta_device
from parcnet_train.config.compose import compose_plain
from parcnet_train.errors import ConfigError
from parcnet_train.models.profiling.counts import Counts, counts
from parcnet_train.report.paper.tables import Row


@dataclass(frozen=True)
class Compared:
    """A row of the paper and our counts.

    Attributes:
        row: Row as printed in the paper.
        counts: Counts of our network, None if there is no such network.
        missing: Short reason for missing counts.
    """

    row: Row
    counts: Counts | None
    missing: str = ""

    @property
    def flops(self) -> int | None:
        """FLOPs of our network, counted as the paper counts them in this row."""
        if self.counts is None:
            return None
        return self.counts.multiply_adds * self.row.flops_per_multiply_add

    def results(self) -> dict[str, Any]:
        """Return the values for `results.json`; millions and billions become plain counts."""
        row = self.row
        return {
            "model": row.model,
            "parameters": self.counts and self.counts.parameters,
            "parameters_paper": round(row.parameters * 1e6),
            "multiply_adds": self.counts and self.counts.multiply_adds,
            "flops": self.flops if row.flops else None,
            "flops_paper": row.flops and round(row.flops * 1e9),
            "metric": row.metric_name,
            "metric_paper": row.metric,
            "device_paper": row.device,
            "milliseconds_paper": row.milliseconds,
            "note": "; ".join(filter(None, (self.missing, row.note))),
        }


def compare(rows: Iterable[Row]) -> list[Compared]:
    """Count parameters and multiply-adds of every row that has a network.

    Raises:
        ConfigError: If the composed configuration of a row has a fault.
    """
    return [count_row(row) for row in rows]


def count_row(row: Row) -> Compared:
    """Compose and count the network of a row; a row without one stays empty."""
    if not row.overrides:
        return Compared(row, None, "-")
    plain = compose_plain(["action=profile", *row.overrides])
    if plain.faults:
        raise ConfigError(plain.faults)
    try:
        with meta_device():
            model = build_model(plain.values, row.num_classes)
    except ConfigError as error:
        if missing := missing_package(error):
            return Compared(row, None, f"needs {missing}")
        raise
    return Compared(row, counts(model, row.size))


def missing_package(error: BaseException | None) -> str | None:
    """Return the package that an error, or one of its causes, did not find."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name
        error = error.__cause__
    return None
