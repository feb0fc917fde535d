"""ParC's modules match loops in float64, at the meta size and at others."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from arithmetic import (
    column,
    interpolate,
    naive_circular_conv,
    naive_oversized_conv,
    values_of,
)
from parcnet_train.models.layers.circular import HEIGHT, WIDTH
from parcnet_train.models.layers.parc import (
    CircularConv,
    OversizedConv,
    ParallelParC,
    PositionEmbedding,
    fit_length,
)

AXES = pytest.mark.parametrize("axis", [HEIGHT, WIDTH], ids=["height", "width"])


@AXES
@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 16, 21])
def test_interpolation_is_linear_with_aligned_corners(axis, length):
    values = np.random.default_rng(0).standard_normal((3, 8))
    fitted = fit_length(torch.from_numpy(column(values, axis)), axis, length, "interpolate")
    expected = column(interpolate(values, length), axis)
    assert fitted.shape == expected.shape
    np.testing.assert_allclose(fitted.numpy(), expected, atol=1e-12)


@AXES
@pytest.mark.parametrize("resize", ["interpolate", "crop"])
def test_meta_length_needs_no_resizing(axis, resize):
    values = torch.randn(3, 1, 8, 1) if axis == HEIGHT else torch.randn(3, 1, 1, 8)
    assert fit_length(values, axis, 8, resize) is values


@AXES
def test_crop_takes_the_first_taps(axis):
    values = torch.from_numpy(column(np.arange(24.0).reshape(3, 8), axis))
    cropped = fit_length(values, axis, 5, "crop")
    np.testing.assert_array_equal(values_of(cropped, axis), np.arange(24.0).reshape(3, 8)[:, :5])


def test_crop_to_a_longer_map_is_an_error():
    with pytest.raises(
        ValueError, match=r"kernel_resize=crop: a feature map of 9 pixels .* of 8\."
    ):
        fit_length(torch.randn(3, 1, 8, 1), HEIGHT, 9, "crop")


@AXES
@pytest.mark.parametrize("size", [(6, 6), (6, 9), (4, 6), (9, 11)])
def test_circular_conv_matches_its_definition(axis, size):
    torch.manual_seed(0)
    conv = CircularConv(3, axis, length=6, bias=True).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = interpolate(values_of(conv.weight, axis), size[axis - 2])
    expected = naive_circular_conv(x.numpy(), kernel, axis)
    expected += conv.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(conv(x).detach().numpy(), expected, atol=1e-12)


@AXES
@pytest.mark.parametrize("size", [(6, 6), (7, 9)])
def test_position_embedding_matches_its_definition(axis, size):
    embedding = PositionEmbedding(3, axis, length=6).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = column(interpolate(values_of(embedding.weight, axis), size[axis - 2]), axis)[:, 0]
    added = (embedding(x) - x).detach().numpy()
    np.testing.assert_allclose(added, np.broadcast_to(expected, x.shape), atol=1e-12)


@AXES
@pytest.mark.parametrize("embeds", [False, True])
def test_position_embedding_breaks_the_equivariance_to_shifts(axis, embeds):
    torch.manual_seed(0)
    embedding = PositionEmbedding(3, axis, 6) if embeds else nn.Identity()
    run = nn.Sequential(embedding, CircularConv(3, axis, 6)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    difference = (run(x.roll(2, axis)) - run(x).roll(2, axis)).abs().max()
    assert difference > 0.1 if embeds else difference < 1e-12
    # Nothing depends on the position along the other axis.
    other = 5 - axis
    assert (run(x.roll(2, other)) - run(x).roll(2, other)).abs().max() < 1e-12


def test_initial_values_match_the_release():
    torch.manual_seed(0)
    conv = CircularConv(4000, WIDTH, length=16)
    # A depthwise convolution of torch draws from +-1 / sqrt(fan in).
    reference = nn.Conv2d(4000, 4000, (1, 16), groups=4000).weight
    assert conv.weight.shape == reference.shape
    for kernel in (conv.weight, reference):
        assert kernel.abs().max().item() == pytest.approx(0.25, rel=1e-3)
        assert kernel.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.02)
    for std in (1, 0.02):
        embedding = PositionEmbedding(4000, WIDTH, 16, std=std).weight
        assert embedding.mean().item() == pytest.approx(0, abs=0.02 * std)
        assert embedding.std().item() == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize("size", [(6, 4), (9, 7)])
def test_dense_plug_in_mixes_the_channels_of_each_half(size):
    torch.manual_seed(0)
    parc = ParallelParC(4, (6, 4), groups=1).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    halves = []
    for half, axis in enumerate((HEIGHT, WIDTH)):
        embedding, conv = (parc.height, parc.width)[half]
        assert conv.weight.shape[:2] == (2, 2)
        y = embedding(x[:, 2 * half : 2 * half + 2]).detach().numpy()
        mixed = [
            sum(
                naive_circular_conv(
                    y[:, i : i + 1],
                    interpolate(values_of(conv.weight[out : out + 1, i], axis), size[half]),
                    axis,
                )
                for i in range(2)
            )
            for out in range(2)
        ]
        halves.append(np.concatenate(mixed, 1) + conv.bias.detach().numpy()[:, None, None])
    np.testing.assert_allclose(parc(x).detach().numpy(), np.concatenate(halves, 1), atol=1e-12)


def test_plug_in_has_the_requested_parameters():
    counts = {
        (groups, embeds): sum(
            p.numel() for p in ParallelParC(8, (6, 4), groups, embeds).parameters()
        )
        for groups in (None, 8, 4, 1)
        for embeds in (True, False)
    }
    assert counts[None, False] == counts[8, False] == 4 * (6 + 4) + 8
    assert counts[8, True] == counts[8, False] + 4 * (6 + 4)
    assert counts[4, False] == 4 * 2 * (6 + 4) + 8
    assert counts[1, False] == 4 * 4 * (6 + 4) + 8


def test_plug_in_with_odd_channels_is_an_error():
    with pytest.raises(ValueError, match=r"channels=7: .*even"):
        ParallelParC(7, (6, 4))


@pytest.mark.parametrize("resize", ["interpolate", "crop"])
def test_layers_compile_to_torchscript(resize):
    layers = nn.Sequential(
        PositionEmbedding(4, HEIGHT, 8, resize),
        CircularConv(4, WIDTH, 9, resize),
        ParallelParC(4, (6, 5)),
    )
    x = torch.randn(2, 4, 6, 5)
    with torch.inference_mode():
        assert torch.allclose(torch.jit.script(layers)(x), layers(x), atol=1e-6)


@AXES
@pytest.mark.parametrize("length", [5, 7, 3, 1])  # the meta length, longer, shorter
def test_oversized_convolution_matches_its_definition(axis, length):
    torch.manual_seed(0)
    layer = OversizedConv(3, axis, 5).double()
    size = (length, 4) if axis == HEIGHT else (4, length)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = interpolate(values_of(layer.weight, axis), 2 * length - 1)
    expected = naive_oversized_conv(x.numpy(), kernel, axis)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


def test_cropped_oversized_kernel_keeps_the_taps_in_the_middle():
    layer = OversizedConv(3, WIDTH, 5, "crop")
    assert torch.equal(layer.kernel(5), layer.weight)
    assert torch.equal(layer.kernel(3), layer.weight[..., 2:7])
    with pytest.raises(ValueError, match=r"map of 6 pixels is longer than .* of 5"):
        layer.kernel(6)
