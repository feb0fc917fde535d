"""The loss of a student against its teacher, from its definition and from timm's own."""

import copy

import pytest
import torch
from timm.task.distillation import LogitDistillationTask
from torch import nn

from parcnet_train.config.sections import Distillation as Settings
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Backbone, Level
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model
from parcnet_train.tasks.distillation import Distillation, feature_losses, resized

CLASSES = 4


class Tiny(Backbone):
    """Two levels of strides 2 and 4."""

    def __init__(self, channels):
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.Conv2d(3, channels, 2, 2), nn.Conv2d(channels, 2 * channels, 2, 2)]
        )
        self.levels = (Level(2, channels), Level(4, 2 * channels))


def model(channels):
    backbone = Tiny(channels)
    return Model(backbone, Classifier(backbone.levels, CLASSES, dropout=0.5)).double()


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return model(3), model(5)


def given(**settings):
    return Settings("a run", **settings)


def losses(student, teacher, images, size=(8, 8), **settings):
    distillation = Distillation(teacher, size, student.backbone.levels, given(**settings))
    distillation.projections.double()
    maps = student.encode(images)
    logits = student.decode(maps, images.shape[2:])
    return distillation.losses(images, logits, maps), logits, maps, distillation


def test_soft_loss_is_timms(pair):
    student, teacher = pair
    images = torch.rand(6, 3, 8, 8, dtype=torch.float64)
    found, logits, _, _ = losses(student.eval(), teacher, images, temperature=3.0)

    class Given(nn.Module):
        num_classes, in_chans = CLASSES, 3
        pretrained_cfg = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # noqa: RUF012

        def __init__(self, outputs):
            super().__init__()
            self.outputs = outputs

        def forward(self, images):
            return self.outputs

    task = LogitDistillationTask(
        Given(logits),
        Given(teacher(images)),
        nn.CrossEntropyLoss(),
        distill_loss_weight=1.0,
        task_loss_weight=0.0,
        temperature=3.0,
        dtype=torch.float64,
        verbose=False,
    )
    expected = task(images, torch.zeros(6, dtype=torch.long))["loss"]
    torch.testing.assert_close(found.mean(), expected, atol=1e-12, rtol=0)


def test_hard_loss_is_the_cross_entropy_of_the_teachers_class(pair):
    student, teacher = pair
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    found, logits, _, _ = losses(student.eval(), teacher, images, kind="hard")
    for each, image, own in zip(found, images, logits, strict=True):
        answer = int(teacher(image[None]).argmax())
        expected = own.exp().sum().log() - own[answer]
        torch.testing.assert_close(each, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_feature_loss_compares_projected_maps_at_each_position(pair, loss):
    student, teacher = pair
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found, _, maps, distillation = losses(
        student, teacher, images, kind="feature", levels=[2, 4], loss=loss
    )
    targets = teacher.encode(images)
    for b in range(2):
        expected = 0.0
        for project, own, other in zip(distillation.projections, maps, targets, strict=True):
            weight, bias = project.weight[:, :, 0, 0], project.bias
            height, width = own.shape[2:]
            total = 0.0
            for y in range(height):
                for x in range(width):
                    mapped, target = weight @ own[b, :, y, x] + bias, other[b, :, y, x]
                    if loss == "mse":
                        total += ((mapped - target) ** 2).mean()
                    else:
                        total += 1 - mapped @ target / (mapped.norm() * target.norm())
            expected += total / (height * width) / 2
        torch.testing.assert_close(found[b], expected, atol=1e-12, rtol=0)


def test_last_levels_are_compared_by_default(pair):
    student, teacher = pair
    distillation = Distillation(teacher, (8, 8), student.backbone.levels, given(kind="feature"))
    assert distillation.pairs == [(1, 1)]
    assert [(each.in_channels, each.out_channels) for each in distillation.projections] == [(6, 10)]


def test_teacher_sees_the_images_at_its_own_size(pair):
    student, teacher = pair
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    seen = []
    teacher.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    distillation = Distillation(
        teacher.float(), (8, 12), student.backbone.levels, given(kind="hard")
    )
    student = student.float()
    distillation.losses(images, student(images), student.encode(images))
    assert seen[0].shape == (2, 3, 8, 12)
    # Halved with antialiasing: a constant image stays what it is.
    gray = torch.full((1, 3, 16, 24), 0.25)
    torch.testing.assert_close(resized(gray, (8, 12)), torch.full((1, 3, 8, 12), 0.25))


def test_maps_of_different_sizes_are_compared_at_the_students():
    student, teacher = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 2, 3)
    larger = nn.functional.interpolate(teacher, (4, 6), mode="bilinear")
    expected = (student - larger).square().mean((1, 2, 3))
    torch.testing.assert_close(feature_losses(student, teacher, "mse"), expected)


def test_teacher_is_frozen_in_evaluation_mode_and_never_copied(pair):
    student, teacher = pair
    teacher.train()
    distillation = Distillation(teacher, (8, 8), student.backbone.levels, given())
    assert not any(module.training for module in teacher.modules())
    assert not any(each.requires_grad for each in teacher.parameters())
    assert copy.deepcopy(distillation) is distillation


def test_gradient_reaches_the_student_and_the_projections_only(pair):
    student, teacher = pair
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found, _, _, distillation = losses(student, teacher, images, kind="feature", loss="mse")
    found.sum().backward()
    trained = [*student.backbone.parameters(), *distillation.projections.parameters()]
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in trained)
    assert all(each.grad is None for each in teacher.parameters())


@pytest.mark.parametrize("stride", [8, 3])
def test_stride_that_a_network_lacks_is_an_error(pair, stride):
    student, teacher = pair
    with pytest.raises(ConfigError, match=rf"the student has no level of stride {stride}; .* 2, 4"):
        Distillation(
            teacher, (8, 8), student.backbone.levels, given(kind="feature", levels=[stride])
        )
