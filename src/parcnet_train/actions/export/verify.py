"""Verification of an exported file against its network."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.actions.fit import refusals
from parcnet_train.actions.results import Results
from parcnet_train.build import Config, build_trainer
from parcnet_train.callbacks.watchdog import watched
from parcnet_train.config.action_sections import Export
from parcnet_train.config.typed import section
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.formats import File, Format
from parcnet_train.deploy.formats.verify import Comparing, FileModel
from parcnet_train.errors import ExportError
from parcnet_train.models.model import Model
from parcnet_train.sizes import Size
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)

COMPARED = 64  # images of export.verify=outputs
METRIC_TOLERANCE = 1e-3  # a tenth of a point
LARGEST_LOSS = 0.01  # a point, in int8 and float16
GENERATED = 16  # images where there are no data


def verify(
    config: Config, network: Exportable, file: File, form: Format, data: Any, task: Task
) -> Results:
    """Compare a file with PyTorch on images of the validation set.

    Args:
        config: Whole configuration, for the trainers of the evaluations.
        network: Network that was written.
        file: File to compare.
        form: Format of the file.
        data: Data module whose validation set is evaluated.
        task: Task of the network.

    Returns:
        The differences, and the metric of both where that is wanted.

    Raises:
        ExportError: If the outputs or the metric differ by more than the tolerance.
    """
    settings = section(Export, config)
    is_whole, takes_batches = settings.verify == "metric", settings.dynamic_batch
    comparing = Comparing(task.model, network, file, takes_batches)
    before = evaluate(config, comparing, data, task, None if is_whole else COMPARED)
    results = comparing.results()
    faults = comparing.faults(form.tolerance, settings.precision)
    if is_whole:
        anchors = getattr(network.network.head, "anchors", None)
        after = evaluate(config, FileModel(file, anchors, takes_batches), data, task, None)
        for name in before:
            results[f"export/before/{name}"] = before[name]
            results[f"export/after/{name}"] = after[name]
        faults += faults_of_metric(settings.precision == "float32", task.monitor, before, after)
    refuse(faults, settings, form)
    tell(comparing)
    return results


def verify_on_generated(
    settings: Export, model: Model, network: Exportable, file: File, form: Format
) -> Results:
    """Compare a file with PyTorch where there are no data.

    Args:
        settings: Section of the action.
        model: Network as it was trained.
        network: Network that was written.
        file: File to compare.
        form: Format of the file.

    Returns:
        The differences.

    Raises:
        ExportError: If the outputs differ by more than the tolerance.
    """
    comparing = Comparing(model, network, file, settings.dynamic_batch)
    with torch.inference_mode():
        for pixels in generated_images(network.in_channels, network.size):
            comparing(pixels[None])
    refuse(comparing.faults(form.tolerance, settings.precision), settings, form)
    tell(comparing)
    return {**comparing.results(), "export/generated_images": True}


def generated_images(channels: int, size: Size) -> Iterator[Tensor]:
    """Yield images `(C, *size)` uint8: patches of random colors, from large to small ones."""
    generator = torch.Generator().manual_seed(0)
    for index in range(GENERATED):
        patches = [max(1, length * (index + 1) // (4 * GENERATED)) for length in size]
        coarse = torch.rand(1, channels, *patches, generator=generator)
        yield (255 * functional.interpolate(coarse, size, mode="bilinear")[0]).byte()


def refuse(faults: Sequence[str], settings: Export, form: Format) -> None:
    """Raise an error if there is a fault.

    Raises:
        ExportError: If the outputs or the metric differ by more than the tolerance.
    """
    if faults:
        raise ExportError(
            f"export.format={settings.format}: the file's output does not match "
            f"PyTorch; the file was removed: {'; '.join(faults)}. "
            f"Fix: {way_out(settings.precision, form)}, or keep the file with export.verify=none"
        )


def faults_of_metric(
    is_exact: bool, name: str, before: Mapping[str, float], after: Mapping[str, float]
) -> Iterator[str]:
    """Report a metric that differs from PyTorch's; with 8 or 16 bits it may be better."""
    found, expected = after[name], before[name]
    log.info("%s is %.4f, PyTorch has %.4f", name, found, expected)
    told = f"{name} is {found:.4f}, PyTorch has {expected:.4f}; expected a"
    if is_exact:
        if not abs(found - expected) <= METRIC_TOLERANCE:  # NaN too
            yield f"{told} difference of {METRIC_TOLERANCE:g}"
    elif not expected - found <= LARGEST_LOSS:
        yield f"{told} loss of {LARGEST_LOSS:g}"


def way_out(precision: str, form: Format) -> str:
    """Return what may help if a file's output does not match."""
    if precision == "int8" and form.knows_layers:
        return (
            "keep the most sensitive layers in float32 (export.sensitivity=true lists them, "
            "export.float_layers=[...] keeps them), use more export.calibration_images, set "
            "export.percentile=99.99"
        )
    if precision != "float32":
        return "set export.precision=float32, or try another format"
    return "try another format"


def tell(comparing: Comparing) -> None:
    """Log how much the file differs from PyTorch."""
    for name, each in comparing.differences.items():
        log.info(
            "%s of %d images: differs from PyTorch by %.2g at most, %.2g on average; its standard "
            "deviation is %.2g",
            name,
            comparing.images,
            each.maximum,
            each.mean,
            each.spread,
        )
    for name, of_name in comparing.others.items():
        log.info("%s: %.3f %% differ from PyTorch's", name, 100 * of_name.share)


def evaluate(
    config: Config, model: nn.Module, data: Any, task: Task, images: int | None
) -> Mapping[str, float]:
    """Return the metrics of a model in place of the task's own, on some images or on all."""
    trainer = dict(config["trainer"])
    if images is not None:
        trainer["limit_val_batches"] = max(1, images // data.batch_size)
    trained: Any = task.model
    task.model = model  # type: ignore[assignment]
    try:
        runner = build_trainer({**config, "trainer": trainer})
        with refusals(data), watched(runner):
            (metrics,) = runner.validate(task, data, verbose=False)
    finally:
        task.model = trained
    return metrics
