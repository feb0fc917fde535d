"""T2T-ViT: performers and positions in float64, and the names and shapes of published weights."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from parcnet_train.build import build_model, meta_device
from parcnet_train.conversion.layouts import T2T_VIT
from parcnet_train.conversion.translate import translate
from parcnet_train.models.backbones.t2t_vit import (
    Performer,
    SoftSplit,
    T2TViT,
    Transformer,
    sinusoids,
)
from running import composed

# Names and shapes of github.com/yitu-opensource/T2T-ViT; `N` stands for each block, `A` for each
# performer, whose input has 147 or 576 channels.
PUBLISHED = {
    "cls_token": (1, 1, 256),
    "pos_embed": (1, 197, 256),
    "tokens_to_token.attentionA.w": (32, 64),
    "tokens_to_token.attentionA.kqv": (192, "A"),
    "tokens_to_token.attentionA.proj": (64, 64),
    "tokens_to_token.attentionA.norm1": ("A",),
    "tokens_to_token.attentionA.norm2": (64,),
    "tokens_to_token.attentionA.mlp.0": (64, 64),
    "tokens_to_token.attentionA.mlp.2": (64, 64),
    "tokens_to_token.project": (256, 576),
    "blocks.N.norm1": (256,),
    "blocks.N.attn.qkv.weight": (768, 256),
    "blocks.N.attn.proj": (256, 256),
    "blocks.N.norm2": (256,),
    "blocks.N.mlp.fc1": (512, 256),
    "blocks.N.mlp.fc2": (256, 512),
    "norm": (256,),
    "head": (1000, 256),
}
WITHOUT_BIAS = ("cls_token", "pos_embed", ".w", ".weight")
PERFORMERS = {1: 147, 2: 576}


def published(depth):
    """Names and shapes of a published state dict."""
    shapes = {}
    for pattern, shape in PUBLISHED.items():
        numbers = PERFORMERS if "A" in pattern else range(depth) if "N" in pattern else [0]
        for number in numbers:
            name = pattern.replace("A", str(number)).replace("N", str(number))
            sizes = tuple(PERFORMERS[number] if size == "A" else size for size in shape)
            if name.endswith(WITHOUT_BIAS):
                shapes[name] = sizes
            else:
                shapes |= {f"{name}.weight": sizes, f"{name}.bias": sizes[:1]}
    return shapes


@pytest.mark.parametrize("depth", [7, 12])
def test_names_and_shapes_of_published_weights_fit(depth):
    with meta_device():
        model = build_model(composed(f"backbone=t2t_vit_{depth}", "head=native"), 1000)
        state = {name: torch.empty(shape) for name, shape in published(depth).items()}
    got = {name: entry.value.shape for name, entry in translate(state, T2T_VIT).items()}
    assert got == {name: value.shape for name, value in model.state_dict().items()}


def tiny(**settings):
    defaults = {"heads": 2, "token_width": 8, "meta_size": 64}
    return T2TViT(**{"width": 16, "depth": 2, **defaults, **settings})


def test_soft_split_takes_overlapping_patches_row_by_row():
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 9))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = [
        padded[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].reshape(-1)
        for row, column in np.ndindex(3, 5)
    ]
    tokens, size = SoftSplit(3, 2, 1)(torch.from_numpy(x))
    assert size == (3, 5)
    np.testing.assert_array_equal(tokens[0].numpy(), np.stack(patches))


def test_performer_attention_matches_its_definition():
    torch.manual_seed(0)
    layer = Performer(6, 4, 3, dropout=0.0).double().eval()
    key, query, value = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    w = layer.projections.numpy()
    np.testing.assert_allclose(w @ w.T, 3 * np.eye(3), atol=1e-5)

    def features(x):
        return np.exp(x @ w.T - (x**2).sum(-1, keepdims=True) / 2) / math.sqrt(3)

    expected = np.empty((2, 5, 4))
    for number in range(2):
        keys, queries = features(key[number].numpy()), features(query[number].numpy())
        for row in range(5):
            weights = keys @ queries[row]
            mixed = weights @ value[number].numpy()
            expected[number, row] = mixed / (weights.sum() + 1e-8)
    np.testing.assert_allclose(layer.attention(key, query, value).numpy(), expected, atol=1e-12)


def test_performer_takes_its_values_as_the_residual():
    torch.manual_seed(0)
    layer = Performer(6, 4, 2, dropout=0.1).double().eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    key, query, value = layer.kqv(layer.attention_norm(x)).split(4, dim=-1)
    y = value + layer.project(layer.attention(key, query, value))
    torch.testing.assert_close(layer(x), y + layer.mlp(layer.mlp_norm(y)))


def test_performer_attends_in_float32_under_autocast():
    layer = Performer(6, 4, 2, dropout=0.0)
    key, query, value = torch.randn(3, 2, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = layer.attention(key, query, value)
    assert torch.equal(narrow, layer.attention(key, query, value))


def test_positions_are_interleaved_sines_and_cosines():
    codes = sinusoids(5, 6).double()
    for position, channel in np.ndindex(5, 6):
        angle = position / 10000 ** (channel // 2 * 2 / 6)
        wanted = math.cos(angle) if channel % 2 else math.sin(angle)
        assert codes[position, channel].item() == pytest.approx(wanted, abs=1e-7)


def test_positions_of_other_sizes_are_interpolated():
    last = tiny(meta_size=(64, 96)).stages[2]
    assert isinstance(last, Transformer)
    assert last.grid == (4, 6)
    assert last.positions_of((4, 6)) is last.positions
    got = last.positions_of((8, 5))
    assert got.shape == (1, 41, 16)
    assert torch.equal(got[0, 0], sinusoids(25, 16)[0])
    grid = sinusoids(25, 16)[1:].T.reshape(1, 16, 4, 6)
    wanted = functional.interpolate(grid, (8, 5), mode="bicubic")
    torch.testing.assert_close(got[0, 1:].T.reshape(1, 16, 8, 5), wanted)


def test_native_network_returns_the_class_token_with_the_same_weights():
    torch.manual_seed(0)
    native, plain = tiny(native=True).eval(), tiny().eval()
    plain.load_state_dict(native.state_dict())
    images = torch.rand(2, 3, 64, 96)
    (vector,), (tokens,) = native(images), plain(images)
    assert (vector.shape, tokens.shape) == ((2, 16), (2, 16, 4, 6))
    assert native.classifier(7)(vector).shape == (2, 7)
    assert [level.stride for level in native.levels] == [16]


def test_stochastic_depth_grows_linearly_to_the_last_layer():
    layers = tiny(depth=3, stochastic_depth=0.4).stages[2].layers
    assert [getattr(layer.drop, "p", 0) for layer in layers] == pytest.approx([0, 0.2, 0.4])


@pytest.mark.parametrize("settings", [{"heads": 3}, {"width": 15, "heads": 5}])
def test_invalid_widths_are_an_error(settings):
    with pytest.raises(ValueError, match=r"width=1\d: expected an even multiple of .*heads="):
        tiny(**settings)
