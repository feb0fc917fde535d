"""Check that a training named after a row of Table 2 trains the network of that row."""

from __future__ import annotations

from collections.abc import Callable

from parcnet_train.build import meta_device
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import Counts, counts
from parcnet_train.report.paper.tables import TABLE_2, Row

ROWS = {row.overrides[0].removeprefix("ablation="): row for row in TABLE_2}


def refuse_other_network(name: str | None, make_model: Callable[[int], Model]) -> None:
    """Refuse a run that is named after a row of Table 2 but trains a different network.

    The network is counted with the classes and at the image size of the paper. Everything except
    the network may be changed on top of a row.

    Args:
        name: Name of the chosen ablation; None if none is chosen.
        make_model: Function that builds the network of the run with a number of classes.

    Raises:
        ConfigError: If the network differs from the paper's row in its parameters, rounded as
            printed, or in its multiply-adds.
    """
    row = ROWS.get(name or "")
    if name is None or row is None:
        return
    found = count(make_model, row, name)
    if round(found.parameters / 1e6, 1) == row.parameters and (
        found.multiply_adds == row.multiply_adds
    ):
        return
    height, width = row.size
    raise ConfigError(
        f"ablation={name}: this network has {found.parameters:,} parameters and "
        f"{found.multiply_adds:,} multiply-adds ({row.num_classes} classes, {height}x{width} "
        f"pixels); expected {row.parameters} M parameters, as the paper prints in that row, and "
        f"{row.multiply_adds:,} multiply-adds. Fix: leave out the overrides of backbone, head or "
        f"task, or leave out ablation={name}"
    )


def count(make_model: Callable[[int], Model], row: Row, name: str) -> Counts:
    """Count parameters and multiply-adds of a network with classes and image size of a row.

    Raises:
        ConfigError: If the network does not accept the paper's image size.
    """
    try:
        with meta_device():
            return counts(make_model(row.num_classes), row.size)
    except ConfigError:
        raise
    except Exception as error:  # any error of a network here is about shapes
        height, width = row.size
        reason = first_line(error)
        raise ConfigError(
            f"ablation={name}: this network does not run on the paper's images of {height}x{width} "
            f"pixels ({reason}). Fix: leave out the overrides of backbone, head or task, or leave "
            f"out ablation={name}"
        ) from error
