"""`action=fit` and `action=test`."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, LambdaCallback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler
from torch import Tensor
from tqdm.contrib.logging import logging_redirect_tqdm

from parcnet_train.actions.results import Results, about, finish, is_first_process
from parcnet_train.actions.starting import (
    compare_configs,
    read_model,
    refuse_finished,
    refuse_other_projections,
    start_from_weights,
    without_further_steps,
)
from parcnet_train.actions.teacher import build_distillation
from parcnet_train.build import (
    Config,
    build_callbacks,
    build_data,
    build_loggers,
    build_model,
    build_task,
    build_trainer,
    epochs_of,
    max_epochs,
    network_spec,
    world_size,
)
from parcnet_train.callbacks.averaging import raw_metric
from parcnet_train.callbacks.finite import SkipStep
from parcnet_train.callbacks.pruning import Pruning
from parcnet_train.callbacks.saving import Stopped, requeue
from parcnet_train.callbacks.stopping import EarlyStopping
from parcnet_train.callbacks.watchdog import watched
from parcnet_train.checkpoints.checkpoints import (
    model_state,
)
from parcnet_train.config.keys import flatten
from parcnet_train.config.sections import Epochs, Paths, Recipe
from parcnet_train.config.typed import run_spec, section
from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.distributed.processes import USR1, place
from parcnet_train.doctor.anchors import warn_of_missed
from parcnet_train.errors import ConfigError, TrainingError, first_line, shortened
from parcnet_train.files import sha256_of
from parcnet_train.models.profiling.counts import count_parameters
from parcnet_train.pages.batches import FIRST_BATCHES, FirstBatches
from parcnet_train.pages.parts import MOST_IMAGES, start_again
from parcnet_train.pages.quality import Quality, quality_of
from parcnet_train.pages.run import publish
from parcnet_train.report.paper.rows import refuse_other_network
from parcnet_train.runs.directories import (
    BEST,
    LAST,
    RESULTS,
    checkpoint_of,
    goes_on_from,
)
from parcnet_train.runs.evaluations import CHECKSUM
from parcnet_train.runs.provenance import Provenance
from parcnet_train.tasks.base import Task
from parcnet_train.version import __version__

log = logging.getLogger(__name__)


def fit(config: Config, profiler: Profiler | None = None) -> Results:
    """Train, evaluate the best checkpoint, and write `results.json` and `report.html`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs.
        profiler: Profiler of the training, in place of `trainer.profiler`.

    Returns:
        What `results.json` holds.
    """
    started = time.perf_counter()
    if place().rank == 0:
        refuse_other_network(config["choices"]["ablation"], partial(build_model, config))
    output = Path(section(Paths, config).output)
    data, task = prepare(config)
    if place().rank == 0:
        warn_of_missed(data, config["head"])
    if (distillation := build_distillation(config, task.model, data.class_names)) is not None:
        task.learn_from(distillation)
    provenance = Provenance(config, world_size(config), from_epoch=0)
    warmup_share = section(Recipe, config).schedule.get("warmup_share", 0.0)
    epochs = count_epochs(max_epochs(config), data, warmup_share)
    resumed = goes_on_from(run_spec(config), output)
    if resumed is not None:
        checkpoint = read_model(resumed, task, data, network_spec(config))
        max_steps = config["trainer"]["max_steps"]
        epochs = without_further_steps(checkpoint, resumed, max_steps, epochs)
        refuse_finished(checkpoint, resumed, epochs, output)
        refuse_other_projections(checkpoint, resumed, task)
        compare_configs(checkpoint, config)
        provenance.goes_on(checkpoint["position"]["epoch"])
        log.info("resuming from %s", resumed)
    elif not start_from_weights(config, task) and not all(
        each.requires_grad for each in task.model.parameters()
    ):
        log.warning(
            "recipe.finetuning freezes weights that were just drawn at random; start from trained "
            "ones: backbone.pretrained=PATH"
        )
    # From here on until this process ends well, nothing may read earlier results as its own.
    (output / RESULTS).unlink(missing_ok=True)
    if place().rank == 0:
        start_again(output, () if resumed is None else (FIRST_BATCHES,))
    loggers, quality = build_loggers(config), quality_of(task)
    with provenance:
        last = train(config, data, task, epochs, resumed, provenance, loggers, profiler)
        results = {
            **describe(config, task, data),
            **evaluate(config, task, data, best_or_last(output), quality),
            **last,
            "seconds": time.perf_counter() - started,
        }
        finish(output, results)
    if is_first_process():
        publish(config, task, data, quality, loggers, max(0, results["steps"] - 1))
    return results


def count_epochs(wanted: int | Epochs, data: Any, warmup_share: float) -> int:
    """Return the number of epochs; log it if it follows the size of the set.

    Args:
        wanted: Number of epochs, or how it follows the size of the set.
        data: Data module.
        warmup_share: Share of the training in which the learning rate rises, for the log.
    """
    if isinstance(wanted, int):
        return wanted
    images = data.count_training_images()
    epochs = epochs_of(wanted, images)
    log.info(
        "recipe.epochs: %s epochs of %s training images (at least %s epochs and %s images), "
        "warm-up over the first %.1f epochs",
        f"{epochs:,}",
        f"{images:,}",
        wanted.at_least,
        f"{wanted.images:,}",
        epochs * warmup_share,
    )
    return epochs


def train(
    config: Config,
    data: Any,
    task: Task,
    epochs: int,
    resumed: Path | None,
    provenance: Provenance,
    loggers: Sequence[Logger],
    profiler: Profiler | None = None,
) -> Results:
    """Train to the last epoch; if the training is stopped, save it and end this process.

    Args:
        config: The whole configuration.
        data: Data module.
        task: Lightning module.
        epochs: Number of epochs of the whole run.
        resumed: Checkpoint that the training resumes from; None for a new training.
        provenance: Record that takes the data once they are listed.
        loggers: Loggers of the run.
        profiler: Profiler of the training.

    Returns:
        What `results.json` says of the training.
    """
    output = Path(section(Paths, config).output)
    contents = {
        "config": config,
        "choices": config["choices"],
        "class_names": data.class_names,
        "category_ids": getattr(data, "category_ids", None),  # of COCO's format
        "parcnet_train_version": __version__,
    }
    for logger in loggers:
        logger.log_hyperparams(flatten(config))
    listed = LambdaCallback(on_fit_start=lambda *_: provenance.note(data))
    callbacks = [*build_callbacks(config, task, contents), listed]
    if pictures := getattr(task, "pictures", 0):
        callbacks.append(FirstBatches(output, min(pictures, MOST_IMAGES)))
    trainer = build_trainer(config, callbacks, loggers, epochs, profiler)
    try:
        # Log lines go above the progress bar, not through it.
        with (
            refusals(data),
            watched(trainer),
            logging_redirect_tqdm(),
            warnings.catch_warnings(),
        ):
            # `Progress` logs by the steps of the run, however short its epochs are.
            warnings.filterwarnings("ignore", ".*smaller than the logging interval")
            trainer.fit(task, data, ckpt_path=resumed, weights_only=True)
    except (KeyboardInterrupt, SystemExit, Stopped) as stop:
        way_out = (
            f"to resume, repeat the command with ckpt={output}"
            if (output / LAST).is_file()
            else "nothing is saved yet"
        )
        log.warning("stopped in epoch %d; %s", trainer.current_epoch + 1, way_out)
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        if signum == USR1:
            if is_first_process():
                requeue()
            # The first one to end could end the others: `srun --kill-on-bad-exit`.
            trainer.strategy.barrier()
        sys.exit(128 + signum)  # as shells count
    progress: Any = trainer.fit_loop.epoch_progress.current
    last = trainer.callback_metrics  # without training metrics where all epochs were done before
    return {
        "train/loss": value_of(last, "train/loss_epoch"),
        "train/skipped": value_of(last, "train/skipped"),
        "train/images_per_second": value_of(last, "train/images_per_second"),
        "epochs": progress.processed,
        "steps": trainer.global_step,
        "stopped": stopped_by(trainer, callbacks),
        "pruned": next((each.is_pruned for each in callbacks if isinstance(each, Pruning)), None),
        "skipped_steps": skipped_steps(callbacks),
    }


def stopped_by(trainer: pl.Trainer, callbacks: Sequence[Callback]) -> str | None:
    """Return why a training ended before its last epoch; None if it did not."""
    if not trainer.should_stop:
        return None
    reasons = (each.reason for each in callbacks if isinstance(each, EarlyStopping | Pruning))
    return next(filter(None, reasons), "a callback set trainer.should_stop")


def skipped_steps(callbacks: Sequence[Callback]) -> int | None:
    """Return the number of steps that `recipe.on_nan=skip` has skipped; None without it."""
    return next((each.count for each in callbacks if isinstance(each, SkipStep)), None)


def best_or_last(output: Path) -> Path:
    """Return the best checkpoint of a run, or its last one if that is missing."""
    if (output / BEST).is_file():
        return output / BEST
    log.warning(
        "%s does not exist; the results are those of %s, the last epoch", output / BEST, LAST.name
    )
    return output / LAST


def test(config: Config) -> Results:
    """Evaluate the checkpoint `ckpt=` on the validation set, or on the set that `data.split` names.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs.

    Returns:
        What `results.json` holds.
    """
    started = time.perf_counter()
    output = Path(section(Paths, config).output)
    data, task = prepare(config)
    quality = quality_of(task)
    if place().rank == 0:
        start_again(output)
    with Provenance(config, world_size(config)) as provenance:
        results = {
            **describe(config, task, data),
            **evaluate(config, task, data, checkpoint_of(run_spec(config)), quality),
            "seconds": time.perf_counter() - started,
        }
        provenance.note(data)
        finish(output, results)
    if is_first_process():
        publish(config, task, data, quality)
    return results


def prepare(config: Config) -> tuple[Any, Task]:
    """Seed every random generator, and build the data module and the task."""
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    data = build_data(config)
    task = build_task(config, len(data.class_names))
    log.info(
        "%s with %s parameters, %s; writing into %s",
        config["choices"]["backbone"],
        f"{count_parameters(task.model):,}",
        counted_classes(data.class_names, config["choices"]["task"]),
        section(Paths, config).output,
    )
    return data, task


def counted_classes(names: Sequence[str], task: str) -> str:
    """Return the number of classes in words; the background of dense tasks is none."""
    has_background = task != "classification" and names[0] == BACKGROUND_NAME
    count = len(names) - has_background
    words = f"{count} class{'es' if count != 1 else ''}"
    return f"{words} and the background" if has_background else words


def value_of(metrics: Mapping[str, Any], name: str) -> float | None:
    """Return a metric as a number; None if it was not logged."""
    return float(metrics[name]) if name in metrics else None


def evaluate(
    config: Config, task: Task, data: Any, path: Path, quality: Quality | None = None
) -> Results:
    """Return the validation metrics of a checkpoint; of its EMA weights if it has them.

    With `recipe.ema.compare`, also the metric of the trained weights.

    Args:
        config: The whole configuration.
        task: Lightning module.
        data: Data module.
        path: Checkpoint.
        quality: Collector of what `report.html` shows; None without one.
    """
    checkpoint = read_model(path, task, data, network_spec(config))
    task.prepare_evaluation(checkpoint)
    ema = section(Recipe, config).ema
    compared: Results = {}
    if ema is not None and ema.get("compare") and "current_model_state" in checkpoint:
        # First, since the pictures and predictions that stay are those of the EMA weights.
        trained = validate(build_trainer(config), task, data, model_state(checkpoint, ema=False))
        compared = {raw_metric(task.monitor): trained[task.monitor]}
    callbacks = [] if quality is None else [quality]
    metrics = validate(build_trainer(config, callbacks), task, data, model_state(checkpoint))
    return {
        **metrics,
        **compared,
        **extent(data),
        "checkpoint": str(path),
        CHECKSUM: sha256_of(path),
        "checkpoint_epoch": checkpoint["epoch"] + 1,
    }


def extent(data: Any) -> Results:
    """Return the number of images of the evaluated set, and of its classes if not all count."""
    images = {"images": len(data.val_set)}
    if data.evaluated_classes is None:
        return images
    return {**images, "evaluated_classes": len(data.evaluated_classes)}


def validate(
    trainer: pl.Trainer, task: Task, data: Any, state: Mapping[str, Tensor]
) -> Mapping[str, float]:
    """Return the validation metrics of weights; every validation needs its own trainer."""
    task.model.load_state_dict(state)
    with refusals(data), watched(trainer):
        (metrics,) = trainer.validate(task, data, verbose=False)
    return metrics


@contextlib.contextmanager
def refusals(data: Any) -> Iterator[None]:
    """Report in one line what Lightning refuses, and what a training or an evaluation lacks.

    Args:
        data: Data module that is read.

    Raises:
        ConfigError: If Lightning refuses, as it does with less than one batch; the message is the
            first line of its own.
        TrainingError: If loader processes failed, or the memory is full.
        KeyboardInterrupt: If Lightning has turned Ctrl-C into an exit code of 1.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {first_line(error)}") from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        if data.failure is not None:
            raise data.failure from error
        if is_out_of_memory(error):
            raise out_of_memory(error) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on the CPU or on the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def out_of_memory(error: BaseException) -> TrainingError:
    """Return the error of a failed allocation, which names the process if there are several."""
    who = f"process {place().rank} " if place().world_size > 1 else ""
    return TrainingError(
        f"recipe.batch_size: {who}ran out of memory ({shortened(first_line(error))}); the earlier "
        "checkpoints are kept. Fix: a smaller recipe.batch_size, with recipe.accumulate=auto for "
        "the same images per step; then resume with ckpt=last if there is a checkpoint"
    )


def describe(config: Config, task: Task, data: Any) -> Results:
    """Describe a run for `results.json`."""
    return {
        **about(config),
        **config["choices"],
        "monitor": task.monitor,
        **task.about(),
        "split": data.split,
        "parameters": count_parameters(task.model),
        "seed": config["seed"],
    }
