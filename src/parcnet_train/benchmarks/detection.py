"""Timings of what a detector adds to its network: matching, loss and post-processing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from parcnet_train.benchmarks.timing import Timing, take_turns
from parcnet_train.build import Config, build_model
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.config.sections import Recipe
from parcnet_train.config.typed import section
from parcnet_train.data.batches import BACKGROUND, UNLABELED
from parcnet_train.detection.loss import multibox_loss
from parcnet_train.detection.postprocess import detect
from parcnet_train.detection.types import DetectionOutputs
from parcnet_train.models.model import Model

CLASSES = 81  # COCO's classes and the background
OBJECTS = 7.0  # mean number of objects per image, about that of COCO
SIDES = (0.02, 1.0)  # range of an object's sides, as shares of the image's side

# Timed parts, and the whole that each one is a share of.
WHOLES = {"matching_and_loss": "training_step", "postprocessing": "forward"}


@dataclass(frozen=True)
class Parts:
    """Results of the benchmark.

    Attributes:
        timings: Timings of the parts and of the wholes, by name.
        boxes: Number of boxes per image, over all anchors and classes, whose score exceeds the
            threshold.
    """

    timings: dict[str, Timing]
    boxes: float

    def share(self, part: str) -> float:
        """Return a part's share of the time of its whole."""
        return self.timings[part].relative_to(self.timings[WHOLES[part]])


def time_detection(config: Config, size: tuple[int, int], device: torch.device) -> Parts:
    """Time parts and wholes, interleaved: in float32 on CPUs, else under bfloat16 autocast.

    The network is untrained. It gives all classes about the same probability, above the usual
    threshold, which is the largest number of boxes that the post-processing can get.

    Args:
        config: Whole configuration; the settings of the post-processing are those of its task.
        size: Height and width of the images, in pixels.
        device: Device to run on.
    """
    settings, task = section(Benchmark, config), config["task"]
    batch, smoothing = settings.batch_size, section(Recipe, config).label_smoothing
    images = torch.rand(batch, 3, *size, device=device)
    compute_loss = partial(loss_of, *random_objects(batch, device), smoothing)
    forward = partial(predict, build_model(config, CLASSES).to(device).eval(), images)
    outputs = forward()
    variants: dict[str, Callable[[], object]] = {
        "training_step": training_step(build_model(config, CLASSES), images, compute_loss),
        "matching_and_loss": loss_step(outputs, compute_loss),
        "forward": forward,
        "postprocessing": partial(
            detect,
            outputs,
            score_threshold=task["score_threshold"],
            nms_iou=task["nms_iou"],
            candidates=task["candidates"],
            per_image=task["detections_per_image"],
        ),
    }
    scores = outputs.class_logits.softmax(dim=-1)[..., BACKGROUND + 1 :]
    boxes = (scores > task["score_threshold"]).sum().item() / batch
    return Parts(take_turns(variants, settings.repeats, device), boxes)


def random_objects(batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random boxes `(B, N, 4)` and labels `(B, N)`, as many per image as in COCO."""
    counts = 1 + torch.poisson(torch.full((batch,), OBJECTS - 1))
    shape = (batch, int(counts.max()))
    least, most = SIDES
    halves = least * (most / least) ** torch.rand(*shape, 2) / 2
    centers = torch.rand(*shape, 2)
    boxes = torch.cat((centers - halves, centers + halves), dim=-1).clamp(0, 1)
    labels = torch.randint(BACKGROUND + 1, CLASSES, shape)
    labels[torch.arange(shape[1]) >= counts.unsqueeze(1)] = UNLABELED
    return boxes.to(device), labels.to(device)


def low_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context of bfloat16 autocast, which is off on CPUs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu")


@torch.no_grad()
def predict(network: Model, images: Tensor) -> DetectionOutputs:
    """Run a forward pass of an evaluation."""
    with low_precision(images.device):
        return network(images)


def loss_of(
    boxes: Tensor, labels: Tensor, label_smoothing: float, outputs: DetectionOutputs
) -> Tensor:
    """Compute the loss of a training step."""
    loss = multibox_loss(outputs, boxes, labels, label_smoothing)
    return (loss.boxes + loss.classes).sum() / loss.positives.sum().clamp(min=1)


def training_step(
    network: Model, images: Tensor, compute_loss: Callable[[DetectionOutputs], Tensor]
) -> Callable[[], None]:
    """Return a function that runs forward pass, loss, backward pass and AdamW once."""
    network.to(images.device).train()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with low_precision(images.device):
            loss = compute_loss(network(images))
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def loss_step(
    outputs: DetectionOutputs, compute_loss: Callable[[DetectionOutputs], Tensor]
) -> Callable[[], None]:
    """Return a function that computes the loss and the gradients of the network's outputs once."""
    logits, offsets = (tensor.clone().requires_grad_() for tensor in outputs[:2])
    leaves = DetectionOutputs(logits, offsets, outputs.anchors)

    def step() -> None:
        with low_precision(logits.device):
            loss = compute_loss(leaves)
        torch.autograd.grad(loss, (logits, offsets))

    return step


def results_of(parts: Parts) -> Iterator[tuple[str, float]]:
    """Yield the entries of `results.json`."""
    for name, timing in parts.timings.items():
        yield f"detection/{name}/milliseconds", timing.median
        yield f"detection/{name}/milliseconds_min", min(timing.milliseconds)
        yield f"detection/{name}/milliseconds_max", max(timing.milliseconds)
        if name in WHOLES:
            yield f"detection/{name}/share", parts.share(name)
    yield "detection/postprocessing/boxes", parts.boxes
