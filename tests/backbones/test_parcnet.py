import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from parcnet_train.backbones.parcnet import ParC, ParCBlock, ParCMixer, ParCNet, resize_along
from parcnet_train.circular import HEIGHT, WIDTH, circular_conv
from parcnet_train.config import CONF
from parcnet_train.heads.classifier import Classifier

AXES = pytest.mark.parametrize("axis", [HEIGHT, WIDTH], ids=["height", "width"])


def column(values, axis):
    """Values `(C, L)` as a parameter along one axis: `(C, 1, L, 1)` or `(C, 1, 1, L)`."""
    return values[:, None, :, None] if axis == HEIGHT else values[:, None, None, :]


def along(values, axis):
    """A kernel `(C, 1, ...)` or embedding `(1, C, ...)` as `(C, L)`."""
    return values.detach().double().reshape(-1, values.shape[axis]).numpy()


def naive_circular_conv(x, kernel, axis):
    """`y[i] = sum over t of kernel[t] * x[(i + t) mod length]`, kernel `(C, L)`."""
    y = np.zeros_like(x)
    batch, channels, height, width = x.shape
    for b, c, i, j in np.ndindex(batch, channels, height, width):
        for t in range(x.shape[axis]):
            source = ((i + t) % height, j) if axis == HEIGHT else (i, (j + t) % width)
            y[b, c, i, j] += kernel[c, t] * x[b, c, *source]
    return y


def interpolate(values, length):
    """Linear with aligned corners: `(C, K)` to `(C, length)`."""
    places = np.linspace(0, values.shape[1] - 1, length)
    return np.stack([np.interp(places, np.arange(values.shape[1]), row) for row in values])


def from_config(name):
    return instantiate(OmegaConf.load(CONF / "backbone" / f"{name}.yaml"), _convert_="all")


def tiny(**settings):
    defaults = {"widths": (16, 24, 32), "depths": (2, 1, 2), "meta_lengths": (8, 4, 2)}
    return ParCNet((4, 8, 8), (16, 24, 32), **{**defaults, **settings})


@AXES
def test_circular_conv_is_a_product_of_spectra(axis):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 9))
    kernel = np.random.default_rng(1).standard_normal((3, x.shape[axis]))
    # Cross-correlation theorem.
    spectrum = np.fft.fft(x, axis=axis) * np.conj(np.fft.fft(column(kernel, axis), axis=axis))[:, 0]
    y = circular_conv(torch.from_numpy(x), torch.from_numpy(column(kernel, axis)), axis)
    np.testing.assert_allclose(y.numpy(), np.fft.ifft(spectrum, axis=axis).real, atol=1e-12)


@AXES
@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 16, 21])
def test_resize_along_is_linear_with_aligned_corners(axis, length):
    values = np.random.default_rng(0).standard_normal((3, 8))
    resized = resize_along(torch.from_numpy(column(values, axis)), axis, length)
    expected = column(interpolate(values, length), axis)
    assert resized.shape == expected.shape
    np.testing.assert_allclose(resized.numpy(), expected, atol=1e-12)


@AXES
def test_resize_along_is_the_identity_at_native_size(axis):
    values = torch.randn(3, 1, 8, 1) if axis == HEIGHT else torch.randn(3, 1, 1, 8)
    assert resize_along(values, axis, 8) is values


@AXES
@pytest.mark.parametrize("size", [(6, 6), (6, 9), (4, 6), (9, 11)])
def test_parc_is_its_definition(axis, size):
    torch.manual_seed(0)
    parc = ParC(3, axis, length=6).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = interpolate(along(parc.kernel, axis), size[axis - 2])
    embedding = interpolate(along(parc.embedding, axis), size[axis - 2])
    embedded = x.numpy() + column(embedding, axis)[:, 0]
    got = parc.convolve(parc.embed(x)).detach().numpy()
    np.testing.assert_allclose(got, naive_circular_conv(embedded, kernel, axis), atol=1e-12)


@AXES
def test_parc_without_embedding_is_its_definition(axis):
    parc = ParC(3, axis, length=6, position_embedding=False).double()
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    assert parc.embedding is None
    assert parc.embed(x) is x
    expected = naive_circular_conv(
        x.numpy(), interpolate(along(parc.kernel, axis), x.shape[axis]), axis
    )
    np.testing.assert_allclose(parc.convolve(x).detach().numpy(), expected, atol=1e-12)


@AXES
@pytest.mark.parametrize("position_embedding", [False, True])
def test_position_embedding_breaks_the_equivariance_to_shifts(axis, position_embedding):
    torch.manual_seed(0)
    parc = ParC(3, axis, length=6, position_embedding=position_embedding).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)

    def run(x):
        return parc.convolve(parc.embed(x))

    difference = (run(x.roll(2, axis)) - run(x).roll(2, axis)).abs().max()
    assert difference > 0.1 if position_embedding else difference < 1e-12
    # Along the other axis nothing depends on the position.
    other = 5 - axis
    assert (run(x.roll(2, other)) - run(x).roll(2, other)).abs().max() < 1e-12


@pytest.mark.parametrize("size", [(6, 6), (5, 9)])
def test_mixer_halves_go_along_the_axes_in_opposite_order(size):
    torch.manual_seed(0)
    mixer = ParCMixer(4, 6, position_embedding=True).double().eval()
    for norm in mixer.norms:
        torch.nn.init.uniform_(norm.running_mean, -1, 1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    halves = []
    for half, axes in enumerate(((HEIGHT, WIDTH), (WIDTH, HEIGHT))):
        y = x[:, 2 * half : 2 * half + 2].numpy()
        norm = mixer.norms[half]
        for place, (parc, axis) in enumerate(
            zip((mixer.first[half], mixer.second[half]), axes, strict=True)
        ):
            y = y + column(interpolate(along(parc.embedding, axis), size[axis - 2]), axis)[:, 0]
            if place == 0:  # the norm stands behind the first embedding
                mean, variance = (
                    v.numpy()[:, None, None] for v in (norm.running_mean, norm.running_var)
                )
                y = (y - mean) / np.sqrt(variance + norm.eps)
            kernel = interpolate(along(parc.kernel, axis), size[axis - 2])
            y = naive_circular_conv(y, kernel, axis)
        halves.append(y)
    got = mixer(x).detach().numpy()
    np.testing.assert_allclose(got, np.concatenate(halves, axis=1), atol=1e-11)


def test_initial_kernels_and_embeddings_are_as_released():
    torch.manual_seed(0)
    parc = ParC(4000, WIDTH, length=16)
    # A depthwise convolution of torch draws from +-1 / sqrt(fan in).
    reference = torch.nn.Conv2d(4000, 4000, (1, 16), groups=4000).weight
    assert parc.kernel.shape == reference.shape
    for kernel in (parc.kernel, reference):
        assert kernel.abs().max().item() == pytest.approx(0.25, rel=1e-3)
        assert kernel.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.02)
    assert parc.embedding.mean().item() == pytest.approx(0, abs=0.02)
    assert parc.embedding.std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("name", "parameters"), [("parcnet_s", 5_037_088), ("parcnet_xs", 2_185_384)]
)
def test_parameter_counts_are_the_released_ones(name, parameters):
    backbone = from_config(name)
    head = Classifier(backbone.levels, num_classes=1000)
    counted = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert counted == parameters


def test_expansion_of_the_last_level_is_at_most_960():
    assert from_config("parcnet_s").levels[-1].expansion == 640
    assert tiny().levels[-1].expansion == 128
    wide = ParCNet((4, 8, 8), (16, 24, 320), (16, 16, 32), (1, 1, 1))
    assert wide.levels[-1].expansion == 960


def test_only_the_first_block_of_a_stage_has_embeddings():
    for number, stage in enumerate(tiny(depths=(2, 3, 4)).stages[2:]):
        blocks = [block for block in stage[1].blocks if isinstance(block, ParCBlock)]
        assert len(blocks) == number + 2
        counts = [sum("embedding" in name for name, _ in b.named_parameters()) for b in blocks]
        assert counts == [4] + [0] * (number + 1)


def test_meta_lengths_are_those_of_the_stages():
    for stage, length in zip(tiny().stages[2:], (8, 4, 2), strict=True):
        parameters = dict(stage.named_parameters())
        sizes = {max(p.shape[2:]) for name, p in parameters.items() if "mixer.first" in name}
        assert sizes == {length}


@pytest.mark.parametrize("wrong", [17, 14, 0])
def test_odd_or_too_small_width_is_refused(wrong):
    expected = rf"backbone\.widths=\[16, {wrong}, 32\]: each must be even and at least 16"
    with pytest.raises(ValueError, match=expected):
        tiny(widths=(16, wrong, 32))


@pytest.mark.parametrize("fusion", ["concat", "add"])
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (160, 64), (70, 101)])
def test_levels_are_as_stated_for_any_size(fusion, size):
    backbone = tiny(fusion=fusion).eval()
    maps = backbone(torch.rand(2, 3, *size))
    stated = [
        (2, level.channels, *(math.ceil(length / level.stride) for length in size))
        for level in backbone.levels
    ]
    assert [tuple(each.shape) for each in maps] == stated
    assert all(each.isfinite().all() for each in maps)
