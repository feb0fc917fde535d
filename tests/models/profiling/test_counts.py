"""Counts match published sizes, formulas, and networks of other packages."""

import pytest
import timm
import torch
from torch import nn

from parcnet_train.build import build_model, meta_device
from parcnet_train.models.backbones.mobilevit import TransformerLayer
from parcnet_train.models.base import Backbone, Level
from parcnet_train.models.layers.circular import ALGORITHMS
from parcnet_train.models.layers.parc import CircularConv
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import counts, on_meta, profile
from running import LARGER_SLOWLY, composed


def network(*overrides):
    with meta_device():
        return build_model(composed(*overrides), 1000)


def test_counts_match_another_implementation_with_attention():
    theirs = timm.create_model("mobilevit_s")
    assert counts(theirs, (192, 320)) == counts(network("backbone=mobilevit_s"), (192, 320))


def test_counts_match_formulas_of_convolution_linear_and_attention():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.layer = TransformerLayer(8, heads=2, dropout=0.1)

        def forward(self, images):
            return self.layer(self.stem(images).flatten(2).mT)

    length, width = 4 * 6, 8
    stem = length * width * 27
    attention = 2 * length**2 * width
    linear = length * width * (3 * width + width + 2 * width + 2 * width)
    assert counts(Network(), (8, 12)).multiply_adds == stem + attention + linear


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_a_circular_convolution_counts_by_its_definition(algorithm):
    conv = CircularConv(3, 2, 16, algorithm=algorithm)
    assert counts(conv, (16, 4)).multiply_adds == 3 * 16 * 4 * 16
    assert conv.algorithm == algorithm


def test_counting_does_not_change_the_network():
    conv = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    conv[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in conv.state_dict().items()}
    assert counts(conv, (2, 2)).parameters == 9 + 6
    assert conv.training
    for name, value in conv.state_dict().items():
        assert torch.equal(value, before[name])


class Pooled(nn.Linear):
    def forward(self, maps):
        return super().forward(maps[-1].mean((2, 3)))


class Staged(Backbone):
    def __init__(self):
        super().__init__()
        self.levels = (Level(1, 8), Level(2, 16))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()),
                nn.Conv2d(8, 16, 2, stride=2),
            ]
        )


def test_stages_match_hand_computed_costs():
    first, second, head, total = profile(Model(Staged(), Pooled(16, 5)), (6, 10), batch_size=2)
    pixels = 2 * 6 * 10
    image, wide, narrow = 4 * pixels * 3, 4 * pixels * 8, 4 * pixels // 4 * 16
    assert first.output_shapes == ((2, 8, 6, 10),)
    assert (first.parameters, first.multiply_adds) == (27 * 8, pixels * 27 * 8)
    assert first.activations == pixels * 8
    assert first.peak_memory_bytes == image + 2 * wide  # before and after the ReLU
    assert (second.parameters, second.multiply_adds) == (33 * 16, pixels // 4 * 32 * 16)
    assert second.peak_memory_bytes == image + wide + narrow  # the first map is kept for the head
    assert (head.output_shapes, head.activations) == (((2, 5),), 2 * 5)
    assert head.peak_memory_bytes == image + wide + narrow + 4 * 2 * 16 + 4 * 2 * 5
    assert total.peak_memory_bytes == image + 2 * wide
    assert [stage.name for stage in (first, second, head, total)] == ["1", "2", "head", "total"]


def test_a_backbone_without_stages_is_split_into_its_children():
    class Wrapped(Backbone):
        def __init__(self):
            super().__init__()
            self.levels = (Level(1, 4),)
            children = {"stem": nn.Conv2d(3, 4, 1), "late": nn.Conv2d(4, 4, 1)}
            self.normalize = nn.Identity()
            self.network = nn.Module()
            for name, child in children.items():
                self.network.add_module(name, child)
            self.network.scale = nn.Parameter(torch.ones(7))

        def forward(self, images):
            maps = self.network.late(self.network.stem(self.normalize(images)))
            return [nn.functional.conv2d(maps, self.network.late.weight)]

    *stages, total = profile(Model(Wrapped(), Pooled(4, 5)), (4, 4))
    assert [stage.name for stage in stages] == ["normalize", "stem", "late", "head", "rest"]
    rest = stages[-1]
    assert (rest.parameters, rest.multiply_adds, rest.activations) == (7, 16 * 16, 16 * 4)
    assert total.parameters == 16 + 20 + 25 + 7


@pytest.mark.parametrize("backbone", LARGER_SLOWLY)
def test_stages_sum_to_the_total_for_every_backbone(backbone):
    model = network(f"backbone={backbone}")
    *stages, total = profile(model, (96, 64), batch_size=2)
    whole = counts(model, (96, 64))
    assert (total.parameters, total.multiply_adds) == (whole.parameters, 2 * whole.multiply_adds)
    assert len(stages) > 3
    for name in ("parameters", "multiply_adds", "activations"):
        values = [getattr(stage, name) for stage in stages]
        assert sum(values) == getattr(total, name)
        assert min(values) >= 0
    peaks = [stage.peak_memory_bytes for stage in stages if stage.name != "rest"]
    assert min(peaks) > 0
    assert max(peaks) <= total.peak_memory_bytes


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("mobilenetv3_small_050", "blocks.5"),  # returns maps from a chain of blocks
        ("coat_lite_tiny", "serial_blocks1.0"),  # its blocks share layers
        ("deit_tiny_patch16_224", "blocks.11"),
    ],
)
def test_blocks_of_timm_networks_are_parts(name, part):
    model = network(
        "action=profile", "profile.image_size=224", "backbone=timm", f"backbone.name={name}"
    )
    *stages, total = profile(model, (224, 224))
    names = [stage.name for stage in stages]
    assert part in names
    assert len(set(names)) == len(names)
    for key in ("parameters", "multiply_adds", "activations"):
        values = [getattr(stage, key) for stage in stages]
        assert sum(values) == getattr(total, key)
        assert min(values) >= 0
    assert sum(stage.multiply_adds for stage in stages if stage.name == "rest") == 0


def test_runs_of_a_part_are_summed():
    class Recurrent(Backbone):
        def __init__(self):
            super().__init__()
            self.levels = (Level(1, 4),)
            self.stem = nn.Conv2d(3, 4, 1)
            self.again = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, images):
            return [self.again(self.again(self.stem(images)))]

    _, again, _, total = profile(Model(Recurrent(), Pooled(4, 5)), (8, 6))
    maps = 8 * 6 * 4  # elements
    assert (again.parameters, again.multiply_adds) == (4 * 37, 2 * maps * 36)
    assert (again.activations, again.output_shapes) == (2 * maps, ((1, 4, 8, 6),) * 2)
    assert again.peak_memory_bytes == total.peak_memory_bytes == 4 * (8 * 6 * 3 + 2 * maps)
    assert total.parameters == 16 + again.parameters + 25


@pytest.mark.parametrize("backbone", ["parcnet_xs", "mobilevit_xs"])
def test_activations_are_outputs_of_convolutions_and_linear_layers(backbone):
    model = network(f"backbone={backbone}")
    copy, seen = on_meta(model), []
    for module in copy.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, CircularConv)):
            module.register_forward_hook(lambda _, __, output: seen.append(output.numel()))
    with torch.no_grad():
        copy(torch.empty(1, 3, 64, 96, device="meta"))
    assert profile(model, (64, 96))[-1].activations == sum(seen)
