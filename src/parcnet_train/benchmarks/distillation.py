"""Timings of a training step with and without a teacher, and of the teacher's forward pass."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from parcnet_train.benchmarks.timing import Timing, take_turns
from parcnet_train.build import Config, build_model, build_optimizer, build_task
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.sections import Distillation as Settings
from parcnet_train.config.typed import section
from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.models.model import Model
from parcnet_train.tasks.base import Task
from parcnet_train.tasks.distillation import Distillation

CLASSES = 1000
WITHOUT, WITH, FORWARD = "without_teacher", "with_teacher", "forward"


@dataclass(frozen=True)
class Cost:
    """Times of the steps and of the forward pass of the teacher.

    Attributes:
        timings: Timings of `WITHOUT`, `WITH` and `FORWARD`.
    """

    timings: dict[str, Timing]

    @property
    def overhead(self) -> float:
        """What a teacher adds to a step, in its bare forward passes: the median over the rounds."""
        times = (self.timings[name].milliseconds for name in (WITHOUT, WITH, FORWARD))
        rounds = zip(*times, strict=True)
        return statistics.median((taught - plain) / bare for plain, taught, bare in rounds)

    def results(self) -> Iterator[tuple[str, float]]:
        """Yield the entries of `results.json`; `ratio` is the speedup over `WITHOUT`."""
        for name, timing in self.timings.items():
            for key, value in timing.results(self.timings[WITHOUT]).items():
                yield f"distillation/{name}/{key}", value
        yield "distillation/overhead", self.overhead


def time_teacher(
    config: Config, config_of_teacher: Config, size: tuple[int, int], device: torch.device
) -> Cost:
    """Time all three in float32, interleaved, on the same random images.

    Args:
        config: Whole configuration, whose network is the student.
        config_of_teacher: Whole configuration, whose network is the teacher.
        size: Height and width of the images of both, in pixels.
        device: Device to run on.
    """
    settings = section(Benchmark, config)
    batch = random_batch(settings.batch_size, size, device)
    teacher = build_model(config_of_teacher, CLASSES).to(device)
    plain, taught = (build_task(config, CLASSES).to(device).train() for _ in (WITHOUT, WITH))
    kind = Settings(config_of_teacher["choices"]["backbone"], kind="soft")
    of_teacher = Distillation(teacher, size, taught.model.backbone.levels, kind)
    if config["compile"]:
        of_teacher.compile()
    taught.learn_from(of_teacher)
    variants: dict[str, Callable[[], object]] = {
        WITHOUT: training_step(config, plain, batch),
        WITH: training_step(config, taught, batch),
        FORWARD: partial(forward, teacher, batch.images),
    }
    return Cost(take_turns(variants, settings.repeats, device))


def random_batch(batch: int, size: tuple[int, int], device: torch.device) -> ClassificationBatch:
    """Return random images with random labels."""
    return ClassificationBatch(
        torch.rand(batch, 3, *size, device=device),
        torch.randint(CLASSES, (batch,), device=device),
        torch.arange(batch, device=device),
        torch.tensor(0, device=device),
    )


def training_step(config: Config, task: Task, batch: ClassificationBatch) -> Callable[[], None]:
    """Return a function that runs the step of a task, backward pass and optimizer included."""
    optimizer = build_optimizer(config, task.model)

    def step() -> None:
        optimizer.zero_grad()
        loss = task.training_step(batch, 0)
        assert isinstance(loss, Tensor)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


@torch.no_grad()
def forward(teacher: Model, images: Tensor) -> object:
    """Run the forward pass of the teacher, which is in evaluation mode."""
    return teacher.decode(teacher.encode(images), images.shape[2:])
