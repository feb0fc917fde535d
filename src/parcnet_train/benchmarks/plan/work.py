"""What a configured training consists of: its steps, evaluations and checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

from parcnet_train.benchmarks.plan.estimate import Batch, Work
from parcnet_train.build import (
    Config,
    accumulation,
    build_data,
    build_task,
    epochs_of,
    images_of_step,
    max_epochs,
    meta_device,
)
from parcnet_train.callbacks.steps import limited, steps_of_shares
from parcnet_train.config.sections import Checkpoint, Recipe
from parcnet_train.config.typed import section
from parcnet_train.data.samplers import EvalBatches, Scale, TrainBatches


class Training:
    """The training of a configuration, whose data are listed but not read.

    Args:
        config: Whole configuration of the training.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data: Any = build_data(config)
        self.data.setup("fit")
        self.trainer = config["trainer"]

    @cached_property
    def epochs(self) -> int:
        """Number of epochs, unless `trainer.max_steps` ends the training earlier."""
        return epochs_of(max_epochs(self.config), self.data.count_training_images())

    @cached_property
    def of_one(self) -> TrainBatches:
        """Batches of the training on one device."""
        batches: TrainBatches = self.data.train_dataloader().batch_sampler
        return batches

    def sampler(self, devices: int) -> TrainBatches:
        """Return the batches of one of several processes, without the order of the samples."""
        one = self.of_one
        config = self._on(devices)
        return TrainBatches(
            one.length,
            images_of_step(config),
            self.data.image_size,
            one.seed,
            world_size=devices,
            accumulate=accumulation(config),
            multi_scale=one.multi_scale,
        )

    def evaluated(self, devices: int) -> int:
        """Return the number of batches of an evaluation, for one of several processes."""
        size = self.data.image_size
        batches = EvalBatches(len(self.data.val_set), self.data.batch_size, size, 0, devices)
        return limited(len(batches), self.trainer["limit_val_batches"])

    def epochs_of(self, devices: int) -> Iterator[list[Batch]]:
        """Yield the batches of every epoch; epochs that draw from the same sizes count as equal.

        Args:
            devices: Number of processes.
        """
        sampler = self.sampler(devices)
        limit = partial(limited, limit=self.trainer["limit_train_batches"])
        known: dict[tuple[Scale, ...], list[Batch]] = {}
        for epoch in range(self.epochs):
            possible = tuple(sampler.scales)
            if sampler.multi_scale is not None:
                possible = tuple(sampler.multi_scale.of_epoch(sampler.scales, epoch))
            if possible not in known:
                scales = sampler.plan(epoch).scales
                parts = devices * sampler.accumulate
                batches = [Batch(size, math.ceil(images / parts)) for size, images in scales]
                known[possible] = batches[: limit(len(batches))]
            yield known[possible]

    def work(self, devices: int) -> Work:
        """Return what each of several processes has to do."""
        config = self._on(devices)
        accumulate = accumulation(config)
        steps: dict[Batch, int] = {}
        updates: list[int] = []  # of each epoch
        left = self.trainer["max_steps"] or math.inf
        for batches in self.epochs_of(devices):
            count = min(len(batches), (left - sum(updates)) * accumulate)
            if not count:
                break
            for batch in batches[: int(count)]:
                steps[batch] = steps.get(batch, 0) + 1
            updates.append(math.ceil(count / accumulate))
        evaluations, saving = self._evaluations(updates), section(Checkpoint, self.config)
        by_step = sum(updates) // saving.every_n_steps if saving.every_n_steps else 0
        best = evaluations * (2 if saving.keep_best > 1 else 1)
        ema = section(Recipe, self.config).ema
        at_the_end = 2 if ema is not None and ema.get("compare") else 1
        return Work(
            len(updates),
            steps,
            sum(updates),
            evaluations + at_the_end,
            self.evaluated(devices),
            len(updates) + by_step + best,
            images_of_step(config),
        )

    def _on(self, devices: int) -> Config:
        trainer = {**self.trainer, "devices": devices, "num_nodes": 1}
        return {**self.config, "trainer": trainer}

    def _evaluations(self, updates: Sequence[int]) -> int:
        """Return the number of evaluations during the training, by `ValidationSchedule`'s rules.

        Args:
            updates: Optimizer steps of each epoch.
        """
        interval = self.trainer["val_check_interval"]
        if isinstance(interval, int):
            return math.ceil(sum(updates) / interval)
        every, count = self.trainer["check_val_every_n_epoch"], 0
        for epoch, steps in enumerate(updates, start=1):
            due = steps_of_shares(interval, steps) if epoch % every == 0 else set()
            count += len(due | {steps} if epoch == len(updates) else due)
        return count

    def shortened(self, epochs: int, batches: int) -> Training:
        """Return the same training on one device, with fewer epochs and batches, and no logger.

        Args:
            epochs: Number of epochs.
            batches: Largest number of batches of an epoch, and of an evaluation.
        """
        config = copy.deepcopy(self.config)
        of_run = limited(len(self.of_one), self.trainer["limit_train_batches"])
        config["trainer"].update(
            max_epochs=epochs,
            max_steps=None,
            val_check_interval=1.0,
            check_val_every_n_epoch=1,
            limit_train_batches=min(batches, of_run),
            limit_val_batches=min(batches, self.evaluated(1)),
            devices=1,
            num_nodes=1,
        )
        # A logger might show this training among real ones.
        config.update(logger={}, callbacks={**config["callbacks"], "early_stopping": None})
        short = copy.copy(self)
        short.config, short.trainer = config, config["trainer"]
        short.epochs = epochs
        return short

    def gradient_bytes(self) -> int:
        """Return the size of all gradients in bytes."""
        with meta_device():
            task = build_task(self.config, len(self.data.class_names))
        trained = (each for each in task.model.parameters() if each.requires_grad)
        return sum(each.numel() * each.element_size() for each in trained)
