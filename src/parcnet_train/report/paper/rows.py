"""Whether what is trained under the name of a row of Table 2 is that row's network."""

from __future__ import annotations

from parcnet_train.build import Config, build_model, meta_device
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.models.profiling.counts import Counts, counts
from parcnet_train.report.paper.tables import TABLE_2, Row

ROWS = {row.overrides[0].removeprefix("ablation="): row for row in TABLE_2}


def refuse_other_network(config: Config) -> None:
    """Counts the network of a chosen row, with the classes and at the image size of the paper.

    Anything may be chosen on top of a row; the network is what the row is about.

    Raises:
        ConfigError: where it has not as many parameters as the paper prints, or other multiply-adds
            than this row is known to have.
    """
    name = config["choices"]["ablation"]
    row = ROWS.get(name)
    if row is None:
        return
    found = count(config, row, name)
    if round(found.parameters / 1e6, 1) == row.parameters and (
        found.multiply_adds == row.multiply_adds
    ):
        return
    height, width = row.size
    raise ConfigError(
        f"ablation={name}: this network has {found.parameters:,} parameters and "
        f"{found.multiply_adds:,} multiply-adds ({row.num_classes} classes, {height}x{width} "
        f"pixels); the paper prints {row.parameters} M parameters in that row, which has "
        f"{row.multiply_adds:,} multiply-adds. Leave out what changes backbone, head or task, or "
        f"leave out ablation={name}"
    )


def count(config: Config, row: Row, name: str) -> Counts:
    """Parameters and multiply-adds of a configuration's network, as a row has them.

    Raises:
        ConfigError: where it does not take the images of the paper.
    """
    try:
        with meta_device():
            return counts(build_model(config, row.num_classes), row.size)
    except ConfigError:
        raise
    except Exception as error:  # whatever a network raises here is about shapes
        height, width = row.size
        reason = first_line(error)
        raise ConfigError(
            f"ablation={name}: this network does not run on the paper's images of {height}x{width} "
            f"pixels ({reason}); leave out what changes backbone, head or task, or leave out "
            f"ablation={name}"
        ) from error
