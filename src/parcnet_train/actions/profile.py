"""`action=profile`: the cost of a network, or the tables and figures of the paper beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config, build_model, height_and_width, meta_device
from parcnet_train.config.action_sections import Profile
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import Stage
from parcnet_train.models.profiling.counts import profile as profile_network
from parcnet_train.report.console.costs import print_comparison, print_stages
from parcnet_train.report.paper.comparison import compare
from parcnet_train.report.paper.figures import FIGURES
from parcnet_train.report.paper.later import TODAY
from parcnet_train.report.paper.tables import TABLES
from parcnet_train.runs.directories import write_results

COMPARISONS = {**TABLES, **FIGURES, "today": TODAY}


def profile(config: Config) -> Results:
    """Print the cost of each part of the composed network, and write `results.json`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs. Its
            data and its checkpoint are not looked at.

    Returns:
        What `results.json` holds.
    """
    settings = section(Profile, config)
    if settings.compare is None:
        with meta_device():
            model = build_model(config, settings.num_classes)
        found = profile_composed(model, settings, config["choices"])
    else:
        found = compare_table(settings.compare)
    results = {**about(config), "compare": settings.compare, **found}
    write_results(Path(section(Paths, config).output), results)
    return results


def profile_composed(model: Model, settings: Profile, choices: Mapping[str, str | None]) -> Results:
    """Profile backbone and head of the composed network.

    Args:
        model: The network on the meta device.
        settings: Section of the action.
        choices: Name of the chosen config of every group.
    """
    size, batch_size = height_and_width(settings.image_size), settings.batch_size
    *parts, total = profile_network(model, size, batch_size)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    images = f"{batch_size} x 3 x {size[0]} x {size[1]}"
    title = f"{choices['backbone']}, {images}, {settings.num_classes} classes"
    print_stages(title, parts, total, weights)
    results = {
        **choices,
        "image_size": list(size),
        "batch_size": batch_size,
        "num_classes": settings.num_classes,
        **costs(total),
        "weight_bytes": weights,
    }
    for part in parts:
        shapes = [list(shape) for shape in part.output_shapes]
        for name, value in {"output_shapes": shapes, **costs(part)}.items():
            results[f"stage/{part.name}/{name}"] = value
    return results


def compare_table(table: str) -> Results:
    """Count every row of a table or figure."""
    rows = compare(COMPARISONS[table])
    print_comparison(table, rows)
    return {
        f"{table}/row{each.row.number}/{name}": value
        for each in rows
        for name, value in each.results().items()
    }


def costs(stage: Stage) -> Results:
    """Return the costs of a part, or of the whole network."""
    return {
        "parameters": stage.parameters,
        "multiply_adds": stage.multiply_adds,
        "activations": stage.activations,
        "peak_memory_bytes": stage.peak_memory_bytes,
    }
