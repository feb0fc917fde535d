"""Mobile-Former: both bridges, the Former and dynamic ReLU in float64, and the paper's totals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from parcnet_train.build import build_model, meta_device
from parcnet_train.models.backbones.mobile_former import (
    Block,
    Former,
    FromFormer,
    Mobile,
    MobileFormer,
    ToFormer,
)
from running import composed

TINY = {
    "stem_channels": 4,
    "channels": ((4, 4), (6,), (8, 8), (10,)),
    "expansions": ((2, 3), (2,), (2, 2), (3,)),
    "head_channels": (20, 24),
    "tokens": 3,
    "width": 16,
}


def tiny(**settings):
    return MobileFormer(**{**TINY, **settings})


def drawn(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape))


def attention(query, key, value, heads):
    """Attend by definition, `(N, C)`, `(M, C)` and `(M, C)`."""
    mixed = np.empty(query.shape)
    each = query.shape[1] // heads
    for head in range(heads):
        part = slice(head * each, (head + 1) * each)
        for row in range(len(query)):
            weights = np.exp(key[:, part] @ query[row, part] / math.sqrt(each))
            mixed[row, part] = weights @ value[:, part] / weights.sum()
    return mixed


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def normed(layer, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def test_tokens_attend_to_pixels_without_projections_of_the_map():
    torch.manual_seed(0)
    layer = ToFormer(4, 6, 2).double()
    x, tokens = drawn(1, 4, 2, 3), drawn(1, 5, 6)
    pixels = x[0].numpy().reshape(4, 6).T
    mixed = attention(linear(layer.query, tokens[0].numpy()), pixels, pixels, 2)
    expected = normed(layer.norm, tokens[0].numpy() + linear(layer.project, mixed))
    np.testing.assert_allclose(layer(x, tokens)[0].detach().numpy(), expected, atol=1e-12)


def test_pixels_attend_to_tokens_without_projections_of_the_map():
    torch.manual_seed(0)
    layer = FromFormer(4, 6, 2).double()
    x, tokens = drawn(1, 4, 2, 3), drawn(1, 5, 6)
    pixels, words = x[0].numpy().reshape(4, 6).T, tokens[0].numpy()
    mixed = attention(pixels, linear(layer.key, words), linear(layer.value, words), 2)
    expected = (pixels + mixed).T.reshape(4, 2, 3)
    np.testing.assert_allclose(layer(x, tokens)[0].detach().numpy(), expected, atol=1e-12)


def test_former_normalizes_after_its_residuals():
    torch.manual_seed(0)
    layer = Former(6, 2).double()
    tokens = drawn(1, 5, 6)
    query, key, value = np.split(linear(layer.qkv, tokens[0].numpy()), 3, axis=1)
    mixed = linear(layer.project, attention(query, key, value, 2))
    first = normed(layer.attention_norm, tokens[0].numpy() + mixed)
    after = layer.mlp(torch.from_numpy(first)).detach().numpy()
    expected = normed(layer.mlp_norm, first + after)
    np.testing.assert_allclose(layer(tokens)[0].detach().numpy(), expected, atol=1e-12)


def test_block_updates_tokens_first_and_its_first_token_controls_the_activation():
    torch.manual_seed(0)
    block = Block(Mobile(4, 4, 2, 6, 1), 4, 4, 6, 2).double().eval()
    x, tokens = drawn(2, 4, 3, 3), drawn(2, 5, 6)
    after = block.former(block.to_former(x, tokens))
    y = block.mobile.act(block.mobile.expand(x), after[:, 0])
    y = block.from_former(x + block.mobile.rest(y), after)
    got, words = block(x, tokens)
    torch.testing.assert_close(words, after)
    torch.testing.assert_close(got, y)


def test_native_network_returns_the_pooled_map_and_the_first_token():
    torch.manual_seed(0)
    native, dense = tiny(native=True).eval(), tiny().eval()
    missing = dense.load_state_dict(native.state_dict(), strict=False).unexpected_keys
    assert missing == [
        name for name in native.state_dict() if ".expand." in name and "4.ex" in name
    ]
    assert all(name.startswith(MobileFormer.native_entries) for name in missing)
    images = torch.rand(2, 3, 64, 96)
    (vector,) = native(images)
    maps = dense(images)
    pooled = native.stages[4].expand(maps[-1]).mean((2, 3))
    assert vector.shape == (2, 20 + 16)
    torch.testing.assert_close(vector[:, :20], pooled)
    classifier = native.classifier(7)
    assert [each.out_features for each in classifier if isinstance(each, nn.Linear)] == [24, 7]
    assert classifier(vector).shape == (2, 7)


def test_levels_are_the_ends_of_the_stages():
    assert [level.stride for level in tiny().levels] == [2, 4, 8, 16, 32]
    assert [level.channels for level in tiny().levels] == [4, 4, 6, 8, 10]


def test_norms_complete_the_multiply_adds_of_the_paper():
    """The file of the backbone states 211 M, without norms; the paper prints 214 M."""
    sizes = []
    with meta_device():
        model = build_model(composed("backbone=mobile_former_214m", "head=native"), 1000).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda *given: sizes.append(given[2].numel()))
        model(torch.empty(1, 3, 224, 224))
    assert round((211_016_160 + sum(sizes)) / 1e6) == 214


def test_strides_are_replaced_by_dilation():
    stages = tiny(output_stride=8).stages[2:]
    downs = [stage.blocks[0].mobile for stage in stages]
    assert [down.expand.conv.stride for down in downs] == [(2, 2), (1, 1), (1, 1)]
    assert [down.expand.conv.dilation for down in downs] == [(1, 1), (1, 1), (2, 2)]
    assert [down.rest[1].conv.dilation for down in downs] == [(1, 1), (2, 2), (4, 4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 4}, r"heads=4: expected a divisor of backbone\.width=16 and .*4, 6, 8, 10$"),
        ({"expansions": ((2,), (2,), (2, 2), (3,))}, "expansions=.*: expected one or more per"),
        ({"channels": ((4,), (), (8, 8), (10,))}, "expansions=.*: expected one or more per"),
    ],
)
def test_invalid_settings_are_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
