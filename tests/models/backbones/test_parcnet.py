"""ParC-Net's mixer against loops in float64, and the switches of Table 2."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from arithmetic import (
    column,
    interpolate,
    naive_circular_conv,
    naive_oversized_conv,
    values_of,
)
from parcnet_train.build import build_backbone, build_model, meta_device
from parcnet_train.models.backbones.adapt import adapted_weights
from parcnet_train.models.backbones.parcnet import (
    Design,
    MetaFormerBlock,
    Mixer,
    ParCNet,
    ResNeXtBlock,
)
from parcnet_train.models.layers.circular import HEIGHT, WIDTH
from parcnet_train.models.layers.parc import CircularConv
from running import composed

DESIGN = Design(
    mixer="parc",
    kernel_share=0.5,
    meta_former=True,
    channel_attention=True,
    position_embedding=True,
    kernel_resize="interpolate",
    algorithm="auto",
    dropout=0.1,
)


def tiny(**settings):
    defaults = {"widths": (16, 24, 32), "depths": (2, 1, 2), "meta_lengths": (8, 4, 2)}
    return ParCNet((4, 8, 8), (16, 24, 32), **{**defaults, **settings})


def from_config(*overrides):
    with meta_device():
        return build_model(composed(*overrides), num_classes=1000)


@pytest.mark.parametrize("size", [(6, 6), (5, 9)])
def test_mixer_halves_go_along_the_axes_in_opposite_order(size):
    torch.manual_seed(0)
    mixer = Mixer(4, 6, DESIGN, embeds=True).double().eval()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    halves = []
    for half, (path, axes) in enumerate(
        ((mixer.height_first, (HEIGHT, WIDTH)), (mixer.width_first, (WIDTH, HEIGHT)))
    ):
        torch.nn.init.uniform_(path.norm.running_mean, -1, 1)
        torch.nn.init.uniform_(path.norm.running_var, 0.5, 2)
        y = x[:, 2 * half : 2 * half + 2].numpy()
        convolutions = (path.first, path.second)
        embeddings = (path.first_embedding, path.second_embedding)
        for place, (axis, conv, embedding) in enumerate(
            zip(axes, convolutions, embeddings, strict=True)
        ):
            added = interpolate(values_of(embedding.weight, axis), size[axis - 2])
            y = y + column(added, axis)[:, 0]
            if place == 0:  # the norm comes after the first embedding
                mean, variance = (
                    v.numpy()[:, None, None]
                    for v in (path.norm.running_mean, path.norm.running_var)
                )
                y = (y - mean) / np.sqrt(variance + path.norm.eps)
            kernel = interpolate(values_of(conv.weight, axis), size[axis - 2])
            y = naive_circular_conv(y, kernel, axis)
        halves.append(y)
    got = mixer(x).detach().numpy()
    np.testing.assert_allclose(got, np.concatenate(halves, axis=1), atol=1e-11)


def test_oversized_kernels_replace_both_convolutions_of_each_half():
    torch.manual_seed(0)
    mixer = (
        Mixer(4, 6, dataclasses.replace(DESIGN, mixer="oversized"), embeds=False).double().eval()
    )
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    halves = []
    for half, (path, axes) in enumerate(
        ((mixer.height_first, (HEIGHT, WIDTH)), (mixer.width_first, (WIDTH, HEIGHT)))
    ):
        y = x[:, 2 * half : 2 * half + 2].numpy() / np.sqrt(1 + path.norm.eps)
        for axis, layer in zip(axes, (path.first, path.second), strict=True):
            y = naive_oversized_conv(y, values_of(layer.weight, axis), axis)
        halves.append(y)
    got = mixer(x).detach().numpy()
    np.testing.assert_allclose(got, np.concatenate(halves, axis=1), atol=1e-11)


def test_oversized_network_has_no_position_embeddings_and_kernels_of_all_offsets():
    model = from_config("backbone=parcnet_s", "backbone.mixer=oversized")
    names = [name for name, _ in model.named_parameters()]
    assert not any("embedding" in name for name in names)
    for stage, length in zip(model.backbone.stages[2:], (32, 16, 8), strict=True):
        mixer = stage[1].blocks[0].mixer
        assert mixer.height_first.first.weight.shape[2:] == (2 * length - 1, 1)
        assert mixer.height_first.second.weight.shape[2:] == (1, 2 * length - 1)


# Parameters of the authors' implementation per switch; row 4 was never released, and should have
# the paper's 5.3 M.
@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ("backbone.position_embedding=false", 5_011_488),
        ("backbone.channel_attention=false", 4_951_672),
        ("backbone.fusion=add", 4_576_288),
        ("backbone.mixer=big_kernel", 4_979_872),
        ("backbone.mixer=big_kernel backbone.kernel_share=0.25", 4_961_696),
        ("backbone.kernel_resize=crop", 5_037_088),
    ],
)
def test_parameter_counts_of_ablations_match_the_release(overrides, parameters):
    model = from_config("backbone=parcnet_s", *overrides.split())
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_parameter_count_without_meta_former_matches_the_paper():
    model = from_config("backbone=parcnet_s", "backbone.meta_former=false")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(millions, 1) == 5.3


@pytest.mark.parametrize(("share", "sizes"), [(0.5, (17, 9, 5)), (0.25, (9, 5, 3))])
def test_big_kernels_have_the_released_sizes_and_zero_padding(share, sizes):
    model = from_config(
        "backbone=parcnet_s", "backbone.mixer=big_kernel", f"backbone.kernel_share={share}"
    )
    for stage, size in zip(model.backbone.stages[2:], sizes, strict=True):
        mixer = stage[1].blocks[0].mixer
        for conv, shape in (
            (mixer.height_first.first, (size, 1)),
            (mixer.height_first.second, (1, size)),
            (mixer.width_first.first, (1, size)),
            (mixer.width_first.second, (size, 1)),
        ):
            assert conv.kernel_size == shape
            assert conv.groups == conv.in_channels == conv.out_channels
            assert conv.padding_mode == "zeros"
            assert conv.bias is None


def test_expansion_of_the_last_level_is_at_most_960():
    assert from_config("backbone=parcnet_s").backbone.levels[-1].expansion == 640
    assert tiny().levels[-1].expansion == 128
    assert from_config("backbone=parcnet_h").backbone.levels[-1].expansion == 960


def embeddings_of(blocks):
    return [sum("embedding" in name for name, _ in b.named_parameters()) for b in blocks]


def test_only_the_first_block_of_a_stage_has_embeddings():
    for number, stage in enumerate(tiny(depths=(2, 3, 4)).stages[2:]):
        blocks = [block for block in stage[1].blocks if isinstance(block, MetaFormerBlock)]
        assert embeddings_of(blocks) == [4] + [0] * (number + 1)


def test_every_resnext_block_has_embeddings():
    for stage in tiny(meta_former=False).stages[2:]:
        blocks = [block for block in stage[1].blocks if isinstance(block, ResNeXtBlock)]
        assert embeddings_of(blocks) == [4] * (len(stage[1].blocks) - 1)


def test_resnext_block_is_one_residual_around_its_layers():
    torch.manual_seed(0)
    block = ResNeXtBlock(16, 4, DESIGN, embeds=True).eval()
    x = torch.randn(2, 16, 4, 6)
    torch.nn.init.zeros_(block.project.norm.weight)  # only the residual remains
    torch.testing.assert_close(block(x), torch.nn.functional.hardswish(x))


@pytest.mark.parametrize("algorithm", ["convolution", "products", "fourier"])
def test_every_circular_convolution_uses_the_configured_algorithm(algorithm):
    convolutions = [m for m in tiny(algorithm=algorithm).modules() if isinstance(m, CircularConv)]
    assert len(convolutions) == 4 * (2 + 1 + 2)
    assert {conv.algorithm for conv in convolutions} == {algorithm}


def test_meta_lengths_apply_to_the_stages():
    for stage, length in zip(tiny().stages[2:], (8, 4, 2), strict=True):
        sizes = {
            max(p.shape[2:])
            for name, p in stage.named_parameters()
            if ".first." in name or ".second." in name
        }
        assert sizes == {length}


def test_kernels_longer_than_their_map_are_cropped_or_interpolated():
    images = torch.rand(2, 3, 64, 32)
    torch.manual_seed(0)
    cropping = tiny(meta_lengths=(8, 4, 4), kernel_resize="crop").eval()
    torch.manual_seed(0)
    interpolating = tiny(meta_lengths=(8, 4, 4)).eval()
    assert not torch.equal(cropping(images)[-1], interpolating(images)[-1])
    with pytest.raises(ValueError, match="feature map of 12 pixels is longer"):
        cropping(torch.rand(2, 3, 96, 64))


@pytest.mark.parametrize("resize", ["interpolate", "crop"])
def test_weights_of_other_meta_lengths_compute_the_same_at_the_size_of_the_new_ones(resize):
    torch.manual_seed(0)
    old = tiny(meta_lengths=(16, 8, 4), kernel_resize=resize).eval().double()
    new = tiny(meta_lengths=(8, 4, 2), kernel_resize=resize).eval().double()
    new.load_state_dict(adapted_weights(old.state_dict(), new))
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(old(images), new(images), strict=True):
            torch.testing.assert_close(one, other)


def test_cropped_kernels_of_shorter_meta_lengths_are_refused():
    old, new = (tiny(meta_lengths=each, kernel_resize="crop") for each in ((4, 4, 2), (8, 4, 2)))
    with pytest.raises(RuntimeError, match=r"size mismatch for stages\.2"):
        new.load_state_dict(adapted_weights(old.state_dict(), new))


def test_output_stride_changes_no_parameter():
    shapes = {name: value.shape for name, value in tiny().state_dict().items()}
    for stride in (8, 16):
        for dilated in (False, True):
            network = tiny(output_stride=stride, dilated=dilated)
            assert {k: v.shape for k, v in network.state_dict().items()} == shapes


def test_released_network_dilates_only_the_convolution_that_lost_its_stride():
    def dilations(network):
        return [
            [m.dilation[0] for m in stage.modules() if getattr(m, "kernel_size", None) == (3, 3)]
            for stage in network.stages[2:]
        ]

    # Per stage: inverted residual, local, fuse. At stride 16 the release dilates nothing.
    assert dilations(tiny(output_stride=16)) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert dilations(tiny(output_stride=8)) == [[1, 1, 1], [1, 1, 1], [2, 1, 1]]
    assert dilations(tiny(output_stride=16, dilated=True)) == [[1, 1, 1], [1, 1, 1], [1, 2, 2]]
    assert dilations(tiny(output_stride=8, dilated=True)) == [[1, 1, 1], [1, 2, 2], [2, 4, 4]]


@pytest.mark.parametrize("wrong", [17, 14, 0])
def test_odd_or_too_small_width_is_an_error(wrong):
    expected = rf"backbone\.widths=\[16, {wrong}, 32\]: .* even .* 16"
    with pytest.raises(ValueError, match=expected):
        tiny(widths=(16, wrong, 32))


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_kernel_share_out_of_range_is_an_error(share):
    with pytest.raises(ValueError, match=rf"kernel_share={share}: .*above 0 and up to 1"):
        tiny(mixer="big_kernel", kernel_share=share)


def test_even_stem_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"stem_kernel=4: .*odd"):
        tiny(stem_kernel=4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fusion": "add"},
        {"mixer": "big_kernel"},
        {"mixer": "oversized"},
        {"meta_former": False, "channel_attention": False},
        {"position_embedding": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (160, 64), (70, 101)])
def test_declared_levels_match_the_maps_for_any_size(settings, size):
    backbone = tiny(**settings).eval()
    maps = backbone(torch.rand(2, 3, *size))
    stated = [
        (2, level.channels, *(math.ceil(length / level.stride) for length in size))
        for level in backbone.levels
    ]
    assert [tuple(each.shape) for each in maps] == stated
    assert all(each.isfinite().all() for each in maps)


@pytest.mark.parametrize("name", ["parcnet", "mobilevit"])
def test_values_in_configs_are_the_defaults_of_the_constructor(name):
    import inspect

    values = composed(f"backbone={name}_s")
    network = build_backbone(values)
    for key, parameter in inspect.signature(type(network)).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert values["backbone"][key] == (
                list(parameter.default)
                if isinstance(parameter.default, tuple)
                else parameter.default
            ), key
