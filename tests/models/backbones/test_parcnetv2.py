"""ParCNetV2: gate units and the local-global convolution in float64, and its switches."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from parcnet_train.models.backbones.parcnetv2 import (
    Block,
    ChannelNorm,
    Gate,
    LocalGlobal,
    ParCNetV2,
    Scale,
)


def tiny(**settings):
    return ParCNetV2((8, 8, 12, 16), (1, 1, 2, 1), **{"meta_size": 64, **settings})


def test_norm_is_over_the_channels_of_each_pixel():
    torch.manual_seed(0)
    norm = ChannelNorm(5).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    values = x.numpy()
    centered = values - values.mean(1, keepdims=True)
    expected = centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-6)
    expected = expected * norm.weight.detach().numpy()[:, None, None]
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, atol=1e-12)
    assert norm.bias is None


def test_local_global_convolution_matches_its_definition():
    torch.manual_seed(0)
    layer = LocalGlobal(2, (4, 5), 1).double()
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    rows, columns = (each.weight.detach().numpy() for each in (layer.height, layer.width))
    local = layer.local.weight.detach().numpy()
    first, expected = np.zeros_like(x), np.zeros_like(x)
    for c, i, j, k in np.ndindex(2, 4, 5, 4):
        first[0, c, i, j] += rows[c, 0, k - i + 3, 0] * x[0, c, k, j]
    for c, i, j, k in np.ndindex(2, 4, 5, 5):
        expected[0, c, i, j] += columns[c, 0, 0, k - j + 4] * first[0, c, i, k]
    for c, i, j, m, n in np.ndindex(2, 4, 5, 4, 5):
        if abs(m - i) <= 3 and abs(n - j) <= 3:
            expected[0, c, i, j] += local[c, 0, m - i + 3, n - j + 3] * x[0, c, m, n]
    got = layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_gate_unit_multiplies_one_half_by_the_activated_other_half():
    torch.manual_seed(0)
    gate = Gate(3, 10).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    hidden = torch.einsum("oi,bihw->bohw", gate.expand.weight[:, :, 0, 0], x)
    hidden = hidden + gate.expand.bias[:, None, None]
    product = hidden[:, :5] * functional.gelu(hidden[:, 5:])
    expected = torch.einsum("oi,bihw->bohw", gate.project.weight[:, :, 0, 0], product)
    torch.testing.assert_close(gate(x), expected)
    assert gate.project.bias is None


def scales_of(block):
    return [each.weight for each in block.children() if isinstance(each, Scale)]


def blocks_of(stage):
    return [each for each in stage if isinstance(each, Block)]


@pytest.mark.parametrize("scaled", [False, True])
def test_block_adds_two_branches_to_scaled_residuals(scaled):
    torch.manual_seed(0)
    block = Block(4, 5, (3, 3), 1, scaled, 0.0).double().eval()
    assert len(scales_of(block)) == 2 * scaled
    first, second = 1.0, 1.0
    if scaled:
        for scale in scales_of(block):
            torch.nn.init.uniform_(scale, 0.5, 1.5)
        first, second = scales_of(block)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    y = first * x + block.spatial(block.spatial_norm(x))
    torch.testing.assert_close(block(x), second * y + block.channel(block.channel_norm(y)))


def test_kernels_have_two_h_minus_one_taps_for_the_meta_size():
    for stage, (height, width) in zip(
        tiny(meta_size=(64, 96)).stages, ((16, 24), (8, 12), (4, 6), (2, 3)), strict=True
    ):
        for block in blocks_of(stage):
            mixer = block.spatial.mixer
            assert mixer.height.weight.shape[2:] == (2 * height - 1, 1)
            assert mixer.width.weight.shape[2:] == (1, 2 * width - 1)


def test_only_the_last_two_stages_scale_their_residuals():
    counts = [[len(scales_of(block)) for block in blocks_of(stage)] for stage in tiny().stages]
    assert counts == [[0], [0], [2, 2], [2]]


def test_stochastic_depth_grows_linearly_to_the_last_block():
    network = tiny(stochastic_depth=0.4)
    drops = [getattr(block.drop, "p", 0) for stage in network.stages for block in blocks_of(stage)]
    assert drops == pytest.approx([0, 0.4 / 4, 0.8 / 4, 1.2 / 4, 0.4])


def test_local_kernels_are_dilated_where_the_stride_is_removed():
    stages = tiny(output_stride=8).stages
    assert [stage[1].stride for stage in stages[1:]] == [(2, 2), (1, 1), (1, 1)]
    assert [stage[1].dilation for stage in stages[1:]] == [(1, 1), (1, 1), (2, 2)]
    dilations = [blocks_of(stage)[0].spatial.mixer.local.dilation for stage in stages]
    assert dilations == [(1, 1), (1, 1), (2, 2), (4, 4)]
