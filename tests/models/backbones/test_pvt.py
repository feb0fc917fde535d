"""Pyramid Vision Transformer: its attention in float64, class token, positions of other sizes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from parcnet_train.models.backbones.pvt import PVT, Attention, PatchEmbedding


def tiny(**settings):
    defaults = {"heads": (1, 1, 2, 2), "mlp_ratios": (2, 2, 1, 1)}
    return PVT((8, 8, 12, 16), (1, 1, 2, 1), **{**defaults, **settings})


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def test_attention_to_reduced_tokens_matches_its_definition():
    torch.manual_seed(0)
    layer = Attention(6, 2, 2).double()
    torch.nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(layer.norm.bias)
    x = np.random.default_rng(0).standard_normal((3, 4 * 6, 6))
    kernel, bias = layer.reduce.weight.detach().numpy(), layer.reduce.bias.detach().numpy()
    expected = np.empty_like(x)
    for number, tokens in enumerate(x):
        grid = tokens.reshape(4, 6, 6)
        few = np.empty((2 * 3, 6))
        for row, column in np.ndindex(2, 3):
            square = grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            few[3 * row + column] = np.einsum("yxi,oiyx->o", square, kernel) + bias
        few = (few - few.mean(1, keepdims=True)) / np.sqrt(few.var(1, keepdims=True) + 1e-6)
        few = few * layer.norm.weight.detach().numpy() + layer.norm.bias.detach().numpy()
        query = linear(layer.query, tokens)
        key, value = linear(layer.key, few), linear(layer.value, few)
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            weights = softmax(query[:, head] @ key[:, head].T / np.sqrt(3))
            heads.append(weights @ value[:, head])
        expected[number] = linear(layer.project, np.concatenate(heads, axis=1))
    got = layer(torch.from_numpy(x), (4, 6)).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_positions_are_interpolated_bilinearly_for_other_sizes():
    embedding = PatchEmbedding(3, 5, 4, (4, 6))
    assert embedding.positions((4, 6)) is embedding.position
    grid = embedding.position.reshape(1, 4, 6, 5).permute(0, 3, 1, 2)
    wanted = functional.interpolate(grid, (8, 3), mode="bilinear")
    got = embedding.positions((8, 3)).reshape(8, 3, 5)
    assert torch.equal(got, wanted[0].permute(1, 2, 0))
    tokens, size = embedding(torch.rand(2, 3, 32, 12))
    assert size == (8, 3)
    assert tokens.shape == (2, 24, 5)


def test_positions_are_stored_for_the_meta_size():
    grids = [stage.embed.grid for stage in tiny(meta_size=(64, 96)).stages]
    assert grids == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_native_network_returns_the_class_token():
    torch.manual_seed(0)
    network = tiny(native=True).eval()
    assert [(level.stride, level.channels) for level in network.levels] == [(32, 16)]
    (vector,) = network(torch.rand(2, 3, 64, 96))
    assert vector.shape == (2, 16)
    assert network.classifier(7)(vector).shape == (2, 7)
    assert len(network.stage_parameters()) == 1
    assert sum(map(len, network.stage_parameters())) == len(list(network.parameters()))
    vector.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dense_network_has_the_entries_of_the_native_one_except_the_token():
    dense, native = tiny().state_dict(), tiny(native=True).state_dict()
    assert dense.keys() <= native.keys()
    extra = native.keys() - dense.keys()
    assert extra == {name for name in native if name.startswith(PVT.native_entries)}
    assert len(extra) == 4


def test_stochastic_depth_grows_linearly_to_the_last_layer():
    network = tiny(stochastic_depth=0.4)
    blocks = [block for stage in network.stages for block in stage.blocks]
    assert [getattr(block.drop, "p", 0) for block in blocks] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4]
    )
    images = torch.rand(4, 3, 32, 32)
    torch.manual_seed(0)
    assert not torch.equal(network(images)[-1], network(images)[-1])
    network.eval()
    assert torch.equal(network(images)[-1], network(images)[-1])


def test_heads_that_do_not_divide_the_widths_are_an_error():
    with pytest.raises(ValueError, match=r"heads=\[1, 3, 2, 2\]: expected divisors of .*widths="):
        tiny(heads=(1, 3, 2, 2))


def test_class_token_needs_a_last_stage_without_reduction():
    with pytest.raises(ValueError, match=r"reductions=\[8, 4, 2, 2\]: expected 1 at the end"):
        tiny(reductions=(8, 4, 2, 2), native=True)
