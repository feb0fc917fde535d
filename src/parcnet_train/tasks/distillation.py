"""A teacher: a trained network whose outputs or feature maps a student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.config.sections import Distillation as Settings
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Level
from parcnet_train.models.model import Model, scaled
from parcnet_train.precision import at_least_float32


class Distillation:
    """The loss of a student against its teacher.

    It is no module, so that the teacher is in no checkpoint, in no average of the weights and in no
    list of parameters. The task registers `projections`, which are trained.

    Args:
        teacher: Trained model; it is frozen and stays in evaluation mode.
        size: Height and width in pixels of the teacher's images. The student's images are resized
            to it.
        levels: Levels of the student.
        settings: Kind of the loss, its share and its numbers.

    Attributes:
        projections: 1x1 convolutions from the student's channels to the teacher's.

    Raises:
        ConfigError: If a network has no level of a stride.
    """

    def __init__(
        self,
        teacher: Model,
        size: tuple[int, int],
        levels: Sequence[Level],
        settings: Settings,
    ) -> None:
        self.teacher = teacher.requires_grad_(False).eval()
        self.size = size
        self.settings = settings
        self.pairs: list[tuple[int, int]] = []
        self.projections = nn.ModuleList()
        if settings.kind != "feature":
            return
        theirs = teacher.backbone.levels
        self.pairs = compared_levels(levels, theirs, settings.levels)
        self.projections.extend(
            nn.Conv2d(levels[own].channels, theirs[other].channels, 1) for own, other in self.pairs
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of the task, such as the average of the weights, needs no teacher of its own.
        return self

    def to(self, device: torch.device) -> None:
        """Move the teacher to the device of the student."""
        self.teacher.to(device)

    def compile(self) -> None:
        """Compile backbone and head of the teacher, which `losses` calls one by one."""
        self.teacher.backbone.compile()
        self.teacher.head.compile()

    def losses(self, images: Tensor, logits: Any, maps: Sequence[Tensor]) -> Tensor:
        """Return the loss of each image, `(B,)` float32 or better.

        Args:
            images: The student's images `(B, 3, H, W)`, augmented, uint8, or float in [0, 1].
            logits: The student's logits `(B, classes)`; `feature` does not read them.
            maps: The student's feature maps.
        """
        with torch.no_grad():
            seen = resized(scaled(images), self.size)
            targets = self.teacher.encode(seen)
            answer = None if self.pairs else self.teacher.decode(targets, self.size)
        if answer is not None:
            logits, answer = at_least_float32(logits), at_least_float32(answer)
            if self.settings.kind == "hard":
                return functional.cross_entropy(logits, answer.argmax(1), reduction="none")
            student = functional.log_softmax(logits / self.settings.temperature, dim=1)
            teacher = functional.log_softmax(answer / self.settings.temperature, dim=1)
            divergence = functional.kl_div(student, teacher, reduction="none", log_target=True)
            # The factor keeps the gradient's scale at every temperature (arXiv 1503.02531).
            return divergence.sum(1) * self.settings.temperature**2
        each = [
            feature_losses(project(maps[own]), targets[other], self.settings.loss)
            for project, (own, other) in zip(self.projections, self.pairs, strict=True)
        ]
        return torch.stack(each).mean(0)


def feature_losses(student: Tensor, teacher: Tensor, loss: Literal["cosine", "mse"]) -> Tensor:
    """Return the difference between two feature maps, per image `(B,)`.

    Args:
        student: Projected map `(B, C, H, W)`.
        teacher: Map `(B, C, h, w)`, which is resized to the student's size.
        loss: `cosine`: one minus the cosine similarity of the channels at each position; `mse`:
            their mean squared difference.
    """
    student = at_least_float32(student)
    teacher = resized(at_least_float32(teacher), (student.shape[2], student.shape[3]))
    if loss == "mse":
        return (student - teacher).square().mean((1, 2, 3))
    return 1 - functional.cosine_similarity(student, teacher, dim=1).mean((1, 2))


def compared_levels(
    student: Sequence[Level], teacher: Sequence[Level], strides: Sequence[int] | None
) -> list[tuple[int, int]]:
    """Return the indices of the student's and the teacher's level, for each compared pair.

    Args:
        student: Levels of the student.
        teacher: Levels of the teacher.
        strides: Strides of the levels; None: only the last level of each.

    Raises:
        ConfigError: If a network has no level of a stride.
    """
    return [
        (place_of(stride, student, "the student"), place_of(stride, teacher, "the teacher"))
        for stride in ([None] if strides is None else strides)
    ]


def place_of(stride: int | None, levels: Sequence[Level], whose: str) -> int:
    """Return the index of the last level of a stride; of the last level for None.

    Raises:
        ConfigError: If there is no such level.
    """
    found = [
        place for place, level in enumerate(levels) if stride is None or level.stride == stride
    ]
    if not found:
        strides = ", ".join(str(level.stride) for level in levels)
        raise ConfigError(
            f"recipe.distillation.levels: {whose} has no level of stride {stride}; expected one of "
            f"{strides}",
            "recipe.distillation.levels",
        )
    return found[-1]


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `(B, C, H, W)` to a height and a width; those of that size are returned unchanged."""
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(
        images, size, mode="bilinear", align_corners=False, antialias=True
    )
