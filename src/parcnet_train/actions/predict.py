"""`action=predict`: run a checkpoint on your own images."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from parcnet_train.actions.results import Results, about
from parcnet_train.benchmarks.timing import device_of
from parcnet_train.build import Config, named_classes, precision_of
from parcnet_train.config.action_sections import Predict
from parcnet_train.config.keys import value_of
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import run_spec, section
from parcnet_train.data.folders import describe
from parcnet_train.errors import CheckpointError
from parcnet_train.models.model import Model
from parcnet_train.predict.batches import Found, outcomes
from parcnet_train.predict.inputs import find_images
from parcnet_train.predict.predictor import Options, Predictor
from parcnet_train.predict.writing import writer_of
from parcnet_train.report.console.predictions import LINES, print_predictions, shown
from parcnet_train.restore import restore_for
from parcnet_train.runs.directories import checkpoint_of, write_results
from parcnet_train.terminal import progress

log = logging.getLogger(__name__)

MAX_PIXELS = "data.max_pixels"  # the one key of a training's data that is looked at, if typed
AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}  # as in an evaluation


def predict(config: Config) -> Results:
    """Predict what is in images, and write tables, pictures and `results.json`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs. Of it,
            `ckpt`, `input`, `predict`, `paths` and `trainer` are looked at, the rest is that of the
            checkpoint.

    Returns:
        What `results.json` holds.

    Raises:
        SystemExit: Code 1, after all other images, if one could not be read.
    """
    started = time.perf_counter()
    settings, paths = section(Predict, config), section(Paths, config)
    output, ckpt = Path(paths.output), checkpoint_of(run_spec(config))
    model, checkpoint = restore_for(ckpt, named_classes(config))
    predictor = predictor_in(model, checkpoint, ckpt)
    refuse_not_finite(model, ckpt)
    if any(text.lstrip("+").startswith(f"{MAX_PIXELS}=") for text in config["overrides"]):
        predictor.max_pixels = value_of(config, MAX_PIXELS)
    images, left_out = find_images(config["input"], Path(paths.runs))
    if left_out:
        log.warning(
            "input=%s: files of formats that are not read as images are left out: %s",
            config["input"],
            describe(left_out),
        )
    device = device_of(config["trainer"]["accelerator"])
    options = Options(settings.top, settings.score_threshold)
    writer = writer_of(checkpoint, images, output)
    lines: list[tuple[Path, str]] = []
    failures: list[str] = []
    count, began = 0, time.perf_counter()
    found_in = outcomes(images, predictor, model.to(device), options, settings.batch_size)
    with as_evaluated(precision_of(config), device), progress("predicting", len(images)) as bar:
        for path, found in found_in:
            if isinstance(found, Found):
                writer.add(path, found.prediction, found.picture)
                lines += [(path, found.prediction.in_words())] if count < LINES else []
                count += 1
            else:
                failures.append(shown(str(found)))
            bar.update()
    results = {
        **about(config),
        "input": config["input"],
        "images": len(images),
        "predicted": count,
        "failed": len(failures),
        "failures": failures,
        "files": writer.finish(),
        "images_per_second": len(images) / (time.perf_counter() - began),
        **checkpoint["choices"],
        "checkpoint": str(ckpt),
        "checkpoint_epoch": checkpoint["epoch"] + 1,
        "device": device.type,
        "seconds": time.perf_counter() - started,
    }
    write_results(output, results)
    print_predictions(lines, count - len(lines), f"{count} of {len(images)} images, see {output}")
    if failures:
        for failure in failures:
            print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    return results


def predictor_in(model: Model, checkpoint: Mapping[str, Any], ckpt: Path) -> Predictor:
    """Return the predictor of a model.

    Args:
        model: Network of the checkpoint.
        checkpoint: Content of its file.
        ckpt: The file.

    Raises:
        CheckpointError: If its task is a custom one, which has no predictor.
    """
    if not isinstance(model.predictor, Predictor):
        raise CheckpointError(
            f"ckpt={ckpt}: its task is {checkpoint['choices']['task']}; expected "
            "classification, detection or segmentation"
        )
    return model.predictor


def refuse_not_finite(model: Model, ckpt: Path) -> None:
    """Refuse weights that are not finite.

    Args:
        model: Network of the checkpoint.
        ckpt: Its file.

    Raises:
        CheckpointError: If a weight or a statistic is infinite or no number.
    """
    for name, values in model.state_dict().items():
        if not values.isfinite().all():
            raise CheckpointError(
                f"ckpt={ckpt}: its weights are not finite, first {name}; expected those of a "
                "training that did not diverge. Fix: use an earlier checkpoint, or train with "
                "a lower recipe.optimizer.lr"
            )


@contextlib.contextmanager
def as_evaluated(precision: str, device: torch.device) -> Iterator[None]:
    """Compute as an evaluation does on a device.

    Args:
        precision: Lightning's name of the precision.
        device: Device to run on.
    """
    dtype = AUTOCAST.get(precision)
    with torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext():
        yield
