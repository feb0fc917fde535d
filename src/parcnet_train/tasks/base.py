"""The base of all tasks: a model, its optimizer, and the schedule of the learning rate."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer

from parcnet_train.callbacks.steps import limited
from parcnet_train.data.samplers import TrainBatches
from parcnet_train.distributed.collectives import total
from parcnet_train.models.model import Model
from parcnet_train.optim.schedule import Position
from parcnet_train.tasks.distillation import Distillation
from parcnet_train.tasks.loops import begin_epoch_again, set_batch
from parcnet_train.tasks.metrics import loss_and_skipped

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[Model], Optimizer]
Schedule = Callable[..., float]


class Step(NamedTuple):
    """An optimizer step."""

    position: Position  # position before the step
    batches: range  # batches of the epoch; fewer than `recipe.accumulate` if a limit cuts the step
    share: float  # images in the step, at the base size, in reference batches
    seen: float  # images before the step, in reference batches


class TaskArguments(TypedDict):
    """Arguments of every task, which passes them on to `Task`."""

    optimizer: OptimizerFactory
    schedule: Schedule
    reference_batch: int


class Task(pl.LightningModule):
    """Base class of the tasks.

    `monitor` names the metric that selects the best epoch, and `mode` says whether it should rise
    or fall. `shown` names the metrics in the line that is logged for an epoch.

    A task updates `train_metrics`, whose values are logged at the end of an epoch. Their states are
    integers, so that their sum over processes is exact.

    A training step returns the mean over the images of its process, times `image_weight`. If its
    loss is a mean over something else, such as pixels, it divides by the mean number of them over
    all processes, and sets `labels` to that number. A step then has the gradient of the mean over
    all its images or labels, however they are divided among batches and processes.

    Args:
        model: Backbone and head.
        optimizer: Function that makes an optimizer for a model.
        schedule: Function from a `Position`, `max_lr` and `reference_batch` to the learning rate of
            a step of the reference batch.
        reference_batch: Number of samples per step for which the learning rates are given; they are
            proportional to the actual batch (arXiv 1706.02677).
    """

    monitor: ClassVar[str]
    mode: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: Model,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        reference_batch: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.reference_batch = reference_batch
        self.last_epoch: tuple[int, int] | None = None  # epoch and batches, if `end_after` cut it
        self.train_metrics = loss_and_skipped("train/loss_epoch", "train/skipped")
        self.distillation: Distillation | None = None
        self.projections = nn.ModuleList()  # of the distillation, trained with the model
        self.watch_images: Callable[[Tensor], None] | None = None  # sees those of each step
        # Of the current batch: images of this process relative to their mean over processes, and
        # the mean over processes of what its loss is a mean over; None: of the images.
        self.image_weight = 1.0
        self.labels: Tensor | None = None
        self.of_step: list[Tensor | float] = []  # `batch_weight` of the step's batches so far

    def about(self) -> dict[str, str | int]:
        """Return what `results.json` says of the task's evaluation, besides its metrics."""
        return {}

    def prepare_evaluation(self, checkpoint: Mapping[str, Any]) -> None:
        """Take from a checkpoint what an evaluation of it needs besides its weights."""

    def learn_from(self, distillation: Distillation) -> None:
        """Train with a teacher."""
        self.distillation = distillation
        self.projections = distillation.projections

    def outputs_and_maps(self, images: Tensor) -> tuple[Any, list[Tensor]]:
        """Return the outputs of the model, and the maps of its backbone if a teacher reads them."""
        if self.watch_images is not None:
            self.watch_images(images)
        if self.distillation is None:
            return self.model(images), []
        outputs, maps = self.model(images, with_maps=True)  # one graph, if it is compiled
        return outputs, maps

    def with_teacher(
        self, loss: Tensor, images: Tensor, outputs: Any, maps: list[Tensor]
    ) -> Tensor:
        """Mix a loss with that of the teacher; without a teacher it is returned unchanged.

        Args:
            loss: Loss of the labels, per image `(B,)` or of the whole batch `()`.
            images: Images `(B, 3, H, W)` of the step, as the model has seen them.
            outputs: Outputs of the model's head.
            maps: Feature maps of its backbone.
        """
        if self.distillation is None:
            return loss
        of_teacher = self.distillation.losses(images, outputs, maps)
        alpha = self.distillation.settings.alpha
        if not loss.dim():
            of_teacher = of_teacher.mean() * self.image_weight
        return (1 - alpha) * loss + alpha * of_teacher

    def on_fit_start(self) -> None:
        """Move the teacher to the device of the training."""
        if self.distillation is not None:
            self.distillation.to(self.device)

    def configure_optimizers(self) -> Optimizer:
        """Make one optimizer for all trainable parameters."""
        optimizer = self.make_optimizer(self.model)
        if len(self.projections):
            optimizer.add_param_group({"params": list(self.projections.parameters())})
        # Kept for `on_train_start`: a checkpoint restores the values of the old configuration. What
        # an optimizer counts in its groups is not configured, and is restored.
        configured = {"lr", "lr_scale", "weight_decay"}
        configured |= {*inspect.signature(type(optimizer)).parameters} - {"params"}
        self.settings = [
            {name: value for name, value in group.items() if name in configured}
            for group in optimizer.param_groups
        ]
        return optimizer

    @property
    def batches(self) -> TrainBatches:
        """The batch sampler of the training set."""
        loader: Any = self.trainer.train_dataloader
        return loader.batch_sampler

    def starts(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the numbers of samples of all processes before each planned batch and in total."""
        starts = self.batches.plan(epoch).starts
        return starts[: limited(len(starts) - 1, self.trainer.limit_train_batches) + 1]

    def planned_batches(self, epoch: int) -> int:
        """Return the number of batches of a whole epoch, within `trainer.limit_train_batches`."""
        return len(self.starts(epoch)) - 1

    def batches_of(self, epoch: int) -> int:
        """Return the number of batches of an epoch, fewer if the run ends within it."""
        planned = self.planned_batches(epoch)
        if self.last_epoch is not None and epoch == self.last_epoch[0]:
            return min(planned, self.last_epoch[1])
        return planned

    def end_after(self, steps: int) -> None:
        """End the run after this many more optimizer steps, unless its epochs end it earlier.

        Args:
            steps: Number of optimizer steps from where the training begins or is resumed.
        """
        epochs, window = self.trainer.max_epochs, self.trainer.accumulate_grad_batches
        assert epochs is not None
        epoch, batch = self.trainer.datamodule.begin  # type: ignore[attr-defined]
        while epoch < epochs:
            planned = self.planned_batches(epoch)
            in_epoch = math.ceil((planned - batch) / window)
            if steps <= in_epoch:
                self.last_epoch = epoch, min(planned, batch + steps * window)
                self.trainer.fit_loop.max_epochs = epoch + 1
                return
            epoch, batch, steps = epoch + 1, 0, steps - in_epoch
        if steps:
            log.warning(
                "trainer.max_steps: the run ends after its %d epochs, %d steps before this limit. "
                "Fix: increase recipe.epochs",
                epochs,
                steps,
            )

    @property
    def total_epochs(self) -> float:
        """Number of epochs of the whole run; the last one is a fraction if `end_after` cut it."""
        if self.last_epoch is None:
            assert self.trainer.max_epochs is not None
            return self.trainer.max_epochs
        epoch, batches = self.last_epoch
        starts = self.starts(epoch)
        return epoch + float(starts[batches] / starts[-1])

    def position(self, batch_idx: int, epoch: int) -> Position:
        """Return the position of the training before a batch of an epoch."""
        starts = self.starts(epoch)
        seen, epoch_length = int(starts[batch_idx]), int(starts[-1])
        before = epoch * min(self.batches.length, epoch_length)
        return Position(before + seen, epoch + seen / epoch_length, self.total_epochs)

    def step_of(self, batch_idx: int, epoch: int) -> Step:
        """Return the optimizer step to which a batch of an epoch belongs."""
        accumulate = self.trainer.accumulate_grad_batches
        first = batch_idx - batch_idx % accumulate
        batches = range(first, min(first + accumulate, self.batches_of(epoch)))
        images = self.batches.global_batch * len(batches) / accumulate
        position = self.position(first, epoch)
        seen = position.samples / self.reference_batch
        return Step(position, batches, images / self.reference_batch, seen)

    def steps(self) -> Iterator[Step]:
        """Yield all optimizer steps of the run."""
        assert self.trainer.max_epochs is not None
        for epoch in range(self.trainer.max_epochs):
            for batch_idx in range(0, self.batches_of(epoch), self.trainer.accumulate_grad_batches):
                yield self.step_of(batch_idx, epoch)

    def learning_rate(self, position: Position, share: float) -> float:
        """Return the learning rate of a step.

        Args:
            position: Position before the step.
            share: Number of images in the step, in reference batches.
        """
        max_lr = self.settings[0]["lr"]
        rate = self.schedule(position, max_lr=max_lr, reference_batch=self.reference_batch)
        return rate * share

    def on_train_start(self) -> None:
        """Apply this run's configuration, even if a checkpoint restored other values."""
        (optimizer,) = self.trainer.optimizers
        for group, settings in zip(optimizer.param_groups, self.settings, strict=True):
            group.update(settings)
        self.warn_of_warmup()

    def warn_of_warmup(self) -> None:
        """Warn if the run is shorter than its warm-up."""
        epochs, epoch = self.total_epochs, self.trainer.current_epoch
        share = self.step_of(0, epoch).share
        samples = int(epochs * min(self.batches.length, int(self.starts(epoch)[-1])))
        half = self.learning_rate(Position(samples // 2, epochs / 2, epochs), share)
        end = self.learning_rate(Position(samples, epochs, epochs), share)
        top = self.settings[0]["lr"] * share
        if half < end < top:
            log.warning(
                "the learning rate reaches only %.1e instead of %.1e, because the run of %d images "
                "ends during the warm-up. Fix: lower recipe.schedule.warmup_steps",
                end,
                top,
                samples,
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the optimizer step, and what the batch's loss is a mean over."""
        epoch = self.trainer.current_epoch
        step = self.step_of(batch_idx, epoch)
        rate = self.learning_rate(step.position, step.share)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        starts = self.starts(epoch)
        self.mean_images = int(starts[batch_idx + 1] - starts[batch_idx]) / self.trainer.world_size
        self.image_weight = self.batches.share(epoch, batch_idx) / self.mean_images
        self.labels = None
        if batch_idx == step.batches.start:
            self.of_step = []

    @property
    def batch_weight(self) -> Tensor | float:
        """Weight of the newest batch within its step: the number that its loss is a mean over."""
        return self.mean_images if self.labels is None else self.labels

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Weight the loss relative to that of the first batch of its step.

        Only at the end of a step is it known how many labels it has in all; see
        `on_before_optimizer_step`.
        """
        self.of_step.append(self.batch_weight)
        if len(self.of_step) > 1:
            loss = loss * (self.of_step[-1] / self._at_least_one(self.of_step[0]))
        super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradient, so that it is that of the mean over all labels of the step.

        Lightning has divided every loss by `recipe.accumulate`, even if a step has fewer batches.
        """
        accumulate = self.trainer.accumulate_grad_batches
        if accumulate == 1:
            return
        first, whole = map(self._at_least_one, (self.of_step[0], sum(self.of_step)))
        parameters = (each for group in optimizer.param_groups for each in group["params"])
        gradients = [each.grad for each in parameters if each.grad is not None]
        if gradients:  # else the step is skipped
            torch._foreach_mul_(gradients, accumulate * first / whole)

    def _at_least_one(self, mean_labels: Tensor | float) -> Tensor | float:
        """Return the mean number of labels over all processes; one in all if there are none."""
        least = 1 / self.trainer.world_size
        if isinstance(mean_labels, Tensor):
            return mean_labels.clamp(min=least)
        return max(mean_labels, least)

    def on_train_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        values = self.train_metrics.compute()
        self.log_dict(values, logger=False)
        # Lightning would log them after the epoch's checkpoint, and a kill in between loses them.
        for logger in self.trainer.loggers:
            logger.log_metrics(
                {**values, "epoch": self.trainer.current_epoch}, self.trainer.global_step - 1
            )
        self.train_metrics.reset()

    def validation_metrics(self) -> Mapping[str, Tensor | float]:
        """Return and reset the metrics of the validation so far, the same in all processes."""
        raise NotImplementedError

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self.log_dict(self.validation_metrics())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the position of the training, and its metrics so far, over all processes."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        batch = 0 if progress.is_last_batch else progress.current.ready
        epoch = self.trainer.current_epoch + progress.is_last_batch
        checkpoint["position"] = {
            "epoch": epoch,
            "step": batch // self.trainer.accumulate_grad_batches,
            "samples": int(self.batches.plan(epoch).starts[batch]),
        }
        if batch or self.trainer.validating:  # otherwise the epoch has logged and reset them
            checkpoint["train_metrics"] = {
                name: {
                    key: total(torch.as_tensor(state)) for key, state in metric.metric_state.items()
                }
                for name, metric in self.train_metrics.items()
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume at the saved position.

        A checkpoint with EMA that is resumed without it continues from the weights, not from their
        average.
        """
        averages = any(isinstance(each, WeightAveraging) for each in self.trainer.callbacks)  # type: ignore[attr-defined]
        if not averages and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = checkpoint["current_model_state"]
        position = dict(checkpoint["position"])
        # Earlier versions counted batches; with one per step, that is the same.
        position.setdefault("step", position.pop("batch", 0))
        batch = self.trainer.datamodule.go_on(**position)  # type: ignore[attr-defined]
        if batch is None:
            log.warning(
                "epoch %d starts again, and its first %d images are seen twice: the checkpoint is "
                "from the middle of this epoch, and its steps have other images than those of this "
                "run (recipe.batch_size x devices x recipe.accumulate, or recipe.global_batch; "
                "image sizes; data)",
                position["epoch"] + 1,
                position["samples"],
            )
            begin_epoch_again(checkpoint)
            return
        if position["samples"]:
            set_batch(checkpoint, batch)
        if "train_metrics" in checkpoint and self.trainer.is_global_zero:
            for name, states in checkpoint["train_metrics"].items():
                metric: Any = self.train_metrics[name]
                metric._update_count = 1  # avoids a warning if no batch of the epoch is left
                for key, state in states.items():
                    setattr(metric, key, state.to(metric.device))
